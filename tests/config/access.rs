//! Whom the sink must be, and as whom it is spoken to.

use std::path::Path;

use dynamodb_streams_adapter::config::GivenValue;

use crate::support::{accepted, all_refused, refused};

/// A certificate of an authority that signs itself, and nothing more.
fn authority() -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("a certificate").pem()
}

#[test]
fn without_any_of_it_the_platforms_places_are_looked_at() {
    let credentials = accepted(&[]).sink_credentials;
    assert!(credentials.ca_certs.is_empty());
    assert_eq!(credentials.ca_certs_dir, Path::new("/knative-custom-certs"));
    assert_eq!((&*credentials.token_file.path, credentials.token_file.is_required), (Path::new("/oidc/token"), false));
    assert_eq!((credentials.client_certificate, credentials.headers_file), (None, None));
}

#[test]
fn certificates_are_checked_at_once_and_the_broken_one_is_named() {
    let (one, two) = (authority(), authority());
    for text in [one.clone(), format!("{one}{two}"), format!("# mine\r\n{}", one.replace('\n', "\r\n"))] {
        let found = accepted(&[("K_CA_CERTS", &text)]).sink_credentials.ca_certs.len();
        assert_eq!(found, text.matches("BEGIN").count());
    }
    let empty = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    for (text, why) in [
        ("secret".to_owned(), "it contains no certificate"),
        ("-----BEGIN CERTIFICATE-----".to_owned(), "number 1 is not valid PEM: its END line is missing"),
        (two.replacen("\nMII", "\n!!!", 1), "number 1 is not valid PEM: its base64 is broken"),
        (empty.to_owned(), "number 1 is not an X.509 certificate"),
        (format!("{empty}-----BEGIN CERTIFICATE-----\nsecret\n"), "number 1 is not an X.509 certificate"),
        (one.replace("CERTIFICATE", "PRIVATE KEY"), "it contains no certificate"),
    ] {
        let mistake = refused(&[("K_CA_CERTS", &text), ("K_SINK", "https://broker.example/")]);
        assert_eq!((mistake.variable, &mistake.given), ("K_CA_CERTS", &GivenValue::Secret));
        assert!(mistake.why.contains(why) && !mistake.why.contains("secret"), "{mistake}");
    }
}

#[test]
fn a_client_certificate_has_two_files() {
    let both = [("SINK_CLIENT_CERT_FILE", "/tls/tls.crt"), ("SINK_CLIENT_KEY_FILE", "/tls/tls.key")];
    let files = accepted(&both).sink_credentials.client_certificate.expect("both are set");
    assert_eq!((&*files.certificate, &*files.key), (Path::new("/tls/tls.crt"), Path::new("/tls/tls.key")));
    for (one, other) in [(both[0], both[1]), (both[1], both[0])] {
        let mistake = refused(&[one]);
        assert_eq!(mistake.variable, one.0);
        assert!(mistake.why.contains(other.0), "{mistake}");
    }
}

#[test]
fn a_token_that_was_asked_for_is_required_and_goes_with_no_user() {
    let file = ("SINK_TOKEN_FILE", "/var/run/token");
    assert!(accepted(&[file]).sink_credentials.token_file.is_required);
    let with_user = ("K_SINK", "http://user:hunter2@broker.example/");
    let mistake = refused(&[with_user, file]);
    assert_eq!(mistake.variable, "SINK_TOKEN_FILE");
    assert!(
        mistake.why.contains("cannot be combined with the user in K_SINK") && !mistake.to_string().contains("hunter2"),
        "{mistake}"
    );
    // Where the platform puts a token that nobody asked for, the user in the URL wins.
    assert!(!accepted(&[with_user]).sink_credentials.token_file.is_required);
}

#[test]
fn files_are_named_by_absolute_paths() {
    for variable in
        ["CA_CERTS_DIR", "SINK_CLIENT_CERT_FILE", "SINK_CLIENT_KEY_FILE", "SINK_TOKEN_FILE", "SINK_HEADERS_FILE"]
    {
        all_refused(variable, &["token", "./token", "~/token", "file:///token"]);
    }
}
