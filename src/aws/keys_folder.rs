//! Credentials in the files of a folder, as a Secret is mounted: one file for each variable that would hold the text.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};

use crate::clock;

/// The files are read again after so long.
const LIFETIME: Duration = Duration::from_mins(5);

/// The most bytes of a file: a session token has some thousands.
const LIMIT: u64 = 64 << 10;

/// Reads `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if it is there, `AWS_SESSION_TOKEN`.
#[derive(Debug)]
pub(super) struct KeysFolder(pub(super) PathBuf);

/// A file does not give what it should; its content is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}; mount the Secret with its keys as files of that folder")]
struct Unreadable {
    path: String,
    why: String,
}

impl ProvideCredentials for KeysFolder {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.read())
    }
}

impl KeysFolder {
    async fn read(&self) -> provider::Result {
        let folder = self.0.clone();
        // A volume that hangs holds up nobody else.
        let read = tokio::task::spawn_blocking(move || credentials(&folder)).await;
        read.map_err(CredentialsError::unhandled)?
    }
}

fn credentials(folder: &Path) -> provider::Result {
    let id = text(&folder.join("AWS_ACCESS_KEY_ID"))?;
    let key = text(&folder.join("AWS_SECRET_ACCESS_KEY"))?;
    let token = Some(folder.join("AWS_SESSION_TOKEN")).filter(|token| token.exists());
    let token = token.map(|token| text(&token)).transpose()?;
    Ok(Credentials::new(id, key, token, Some(clock::now() + LIFETIME), "keys in a folder"))
}

fn text(path: &Path) -> Result<String, CredentialsError> {
    let unreadable =
        |why: String| CredentialsError::invalid_configuration(Unreadable { path: path.display().to_string(), why });
    let mut content = String::new();
    let file = File::open(path).and_then(|file| file.take(LIMIT).read_to_string(&mut content));
    file.map_err(|error| unreadable(error.to_string()))?;
    match content.trim().is_empty() {
        true => Err(unreadable("it is empty".to_owned())),
        false => Ok(content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mounted_secret_gives_credentials_that_are_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("AWS_ACCESS_KEY_ID", "AKIA1");
        let keys = KeysFolder(folder.path().to_owned());
        let error = keys.provide_credentials().await.expect_err("no secret key");
        let text = crate::error_text::causes(&error);
        assert!(text.contains("AWS_SECRET_ACCESS_KEY") && !text.contains("AKIA1"), "{text}");
        write("AWS_SECRET_ACCESS_KEY", "secret");
        let found = keys.provide_credentials().await.expect("credentials");
        assert_eq!(
            (found.access_key_id(), found.secret_access_key(), found.session_token()),
            ("AKIA1", "secret", None)
        );
        assert!(found.expiry().is_some_and(|expiry| expiry > clock::now()), "a rotated Secret is noticed");
        write("AWS_SESSION_TOKEN", "token");
        let found = keys.provide_credentials().await.expect("credentials");
        assert_eq!(found.session_token(), Some("token"));
        write("AWS_ACCESS_KEY_ID", " ");
        assert!(keys.provide_credentials().await.is_err());
    }
}
