//! Whom an https sink's certificate may come from.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::authority::Authority;
use super::https::Https;
use super::volume::Volume;
use super::*;
use crate::config::Certificates;

/// One that trusts nobody by itself.
fn sink(server: &Https, trust: TlsTrust) -> Attentive {
    Attentive(made(server, trust).expect("a sink"))
}

fn made(server: &Https, trust: TlsTrust) -> Result<HttpSink, SinkSetupError> {
    let tuning = Tuning { system_roots: Some(Certificates::default()), ..Tuning::default() };
    super::made(SinkSettings { trust, ..settings(&server.url()) }, tuning)
}

fn folder(path: &Path) -> TlsTrust {
    TlsTrust { folder: Some(path.to_owned()), ..TlsTrust::default() }
}

async fn server(authority: &Authority) -> Https {
    Https::start(authority.server("localhost", false, &[])).await
}

async fn is_trusted(sink: &Attentive) -> bool {
    match sink.post(message(), PATIENCE).await {
        SinkResponse::Accepted { .. } => true,
        other => {
            let (fault, message) = failed(other);
            assert_eq!(fault, TransportError::Tls, "{message}");
            assert!(message.contains("not trusted here: add it to K_CA_CERTS"), "{message}");
            false
        }
    }
}

#[tokio::test]
async fn certificates_of_the_configuration_are_enough_without_the_systems() {
    let authority = Authority::new();
    let certificates = Certificates::from_pem(authority.pem().as_bytes()).expect("PEM");
    let server = server(&authority).await;
    assert!(is_trusted(&sink(&server, TlsTrust { certificates, folder: None })).await);
}

#[tokio::test]
async fn an_https_sink_that_nobody_can_vouch_for_is_refused_at_the_start() {
    let server = server(&Authority::new()).await;
    for trust in [TlsTrust::default(), folder(Path::new("/no/such/folder"))] {
        let error = made(&server, trust).expect_err("nobody to trust");
        let text = error.to_string();
        assert!(text.contains("K_CA_CERTS") && text.contains("CA_CERTS_DIR"), "{text}");
    }
    // A folder that is there can still be filled.
    let empty = tempfile::tempdir().expect("a folder");
    assert!(!is_trusted(&sink(&server, folder(empty.path()))).await);
}

#[tokio::test]
async fn an_authority_that_is_added_to_the_folder_is_trusted_without_a_restart() {
    let (wrong, right) = (Authority::named("Wrong"), Authority::named("Right"));
    let server = server(&right).await;
    let mut volume = Volume::new(&[("ca.crt", wrong.pem())]);
    let sink = sink(&server, folder(volume.path()));
    assert!(!is_trusted(&sink).await);
    volume.replace(&[("ca.crt", right.pem())]);
    assert!(is_trusted(&sink).await);
    volume.replace(&[("other.crt", wrong.pem())]);
    assert!(!is_trusted(&sink).await, "it was taken away");
    volume.replace(&[("bundle.pem", format!("{}{}", wrong.pem(), right.pem()))]);
    assert!(is_trusted(&sink).await);
}

#[tokio::test]
async fn a_folder_that_is_mounted_late_is_read() {
    let authority = Authority::new();
    let server = server(&authority).await;
    let parent = tempfile::tempdir().expect("a folder");
    let path = parent.path().join("late");
    let certificates = Certificates::from_pem(Authority::new().pem().as_bytes()).expect("PEM");
    let sink = sink(&server, TlsTrust { certificates, folder: Some(path.clone()) });
    assert!(!is_trusted(&sink).await);
    fs::create_dir(&path).expect("a folder");
    fs::write(path.join("ca.pem"), authority.pem()).expect("written");
    assert!(is_trusted(&sink).await);
}

#[tokio::test]
async fn a_broken_file_costs_neither_the_others_nor_what_it_held_before() {
    let (one, two) = (Authority::named("One"), Authority::named("Two"));
    let (first, second) = (server(&one).await, server(&two).await);
    let mut volume = Volume::new(&[("one.pem", one.pem()), ("two.pem", "nonsense".to_owned())]);
    let (to_first, to_second) = (sink(&first, folder(volume.path())), sink(&second, folder(volume.path())));
    assert!(is_trusted(&to_first).await, "the broken file costs the others");
    assert!(!is_trusted(&to_second).await);
    volume.replace(&[("one.pem", one.pem()[..100].to_owned()), ("two.pem", two.pem())]);
    assert!(is_trusted(&to_second).await);
    first.change_to(one.server("localhost", false, &[]));
    assert!(is_trusted(&to_first).await, "what the file held before is given up");
}

#[tokio::test]
async fn one_odd_certificate_in_a_bundle_costs_no_other() {
    let authority = Authority::new();
    let odd = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let volume = Volume::new(&[("bundle.pem", format!("{odd}{}{odd}", authority.pem()))]);
    let server = server(&authority).await;
    assert!(is_trusted(&sink(&server, folder(volume.path()))).await);
}

#[tokio::test]
async fn files_in_folders_count_and_hidden_ones_do_not() {
    let (seen, hidden) = (Authority::named("Seen"), Authority::named("Hidden"));
    let (first, second) = (server(&seen).await, server(&hidden).await);
    let root = tempfile::tempdir().expect("a folder");
    let inner = root.path().join("a").join("b");
    fs::create_dir_all(&inner).expect("folders");
    fs::write(inner.join("ca.pem"), seen.pem()).expect("written");
    // A link back must not be followed for ever.
    symlink(root.path(), inner.join("again")).expect("a link");
    fs::create_dir(root.path().join("..2026_data")).expect("a folder");
    fs::write(root.path().join("..2026_data/ca.pem"), hidden.pem()).expect("written");
    fs::write(root.path().join(".ca.pem"), hidden.pem()).expect("written");
    assert!(is_trusted(&sink(&first, folder(root.path()))).await);
    assert!(!is_trusted(&sink(&second, folder(root.path()))).await);
}
