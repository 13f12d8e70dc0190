//! Whose token the pod has (IRSA), beside what the role's trust policy must say of it.
//!
//! Nothing of the token is verified here, and its signature is never shown: AWS verifies it, and says of a token that a trust policy does
//! not let in no more than `AccessDenied`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::report::{Check, within};

const WEB_IDENTITY: &str = "web-identity";

/// A token has some 1,500 bytes.
const LONGEST_TOKEN: usize = 64 * 1024;

/// So much is shown of what a token says.
const LONGEST_CLAIM: usize = 256;

/// What the platform gives a pod that may take a role by a token.
pub(super) struct WebIdentity {
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`
    pub(super) token_file: PathBuf,
    /// `AWS_ROLE_ARN`
    pub(super) role: Option<String>,
}

/// Reads the token and says what the role must trust for it.
pub(super) async fn check(identity: &WebIdentity, limit: Duration) -> Check {
    let WebIdentity { token_file, role } = identity;
    let token = match within(limit, read(token_file)).await.and_then(|read| read) {
        Ok(token) => token,
        Err(why) => {
            let detail =
                format!("the token in AWS_WEB_IDENTITY_TOKEN_FILE ({}) cannot be read: {why}", token_file.display());
            return Check::warn(WEB_IDENTITY, &detail).with_fix(
                "mount the projected token of the service account there, or unset AWS_WEB_IDENTITY_TOKEN_FILE",
            );
        }
    };
    let Some(claims) = claims(&token) else {
        let detail = format!("{} holds no JSON Web Token", token_file.display());
        return Check::warn(WEB_IDENTITY, &detail).with_fix("mount the projected token of the service account there");
    };
    Check::ok(WEB_IDENTITY, &described(&claims, role.as_deref()))
}

async fn read(path: &Path) -> Result<String, String> {
    let found = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?;
    if !found.is_file() || found.len() > LONGEST_TOKEN as u64 {
        return Err("it is no file of a token's size".to_owned());
    }
    tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())
}

/// The middle part of a token, if it is one.
fn claims(token: &str) -> Option<Value> {
    let payload = token.trim().split('.').nth(1)?;
    let json = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&json).ok().filter(Value::is_object)
}

fn described(claims: &Value, role: Option<&str>) -> String {
    let (issuer, subject, audience) = (text(&claims["iss"]), text(&claims["sub"]), text(&claims["aud"]));
    let provider = issuer.trim_start_matches("https://");
    let role = role.unwrap_or("the role");
    format!(
        "the token is for the audience {audience} and the subject {subject}; the trust policy of {role} must name the provider \
         {provider}, and in its condition {provider}:aud = {audience} and {provider}:sub = {subject}"
    )
}

/// A claim as one text; of several audiences all.
fn text(claim: &Value) -> String {
    let whole = match claim {
        Value::String(text) => text.clone(),
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => "(missing)".to_owned(),
    };
    whole.chars().take(LONGEST_CLAIM).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2lnbmF0dXJl", BASE64_URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn only_the_middle_of_a_token_of_three_parts_is_understood() {
        assert_eq!(claims(&token(r#"{"sub":"a"}"#)).unwrap()["sub"], "a");
        for wrong in ["", "e30", "e30.%%%.c2ln", "e30.W10.c2ln", "e30..c2ln"] {
            assert_eq!(claims(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_missing_is_said_and_what_is_long_is_cut() {
        let said = described(&serde_json::json!({"aud": ["a", "b"], "sub": "s".repeat(1000)}), None);
        assert!(said.contains("audience a or b") && said.contains("provider (missing)"), "{said}");
        assert!(said.len() < 1500, "{}", said.len());
    }
}
