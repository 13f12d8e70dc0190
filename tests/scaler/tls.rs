//! TLS and client certificates from files that are read again.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::keda::{Keda, plan, tls_client, trigger};
use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::tls::Authority;
use crate::support::wait_for;

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    roots
}

fn trusting(authority: &Authority) -> ClientConfig {
    tls_client(roots(authority)).with_no_client_auth()
}

pub fn presenting(authority: &Authority, issuer: &Authority) -> ClientConfig {
    let (certificate, key) = issuer.issue();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    tls_client(roots(authority)).with_client_auth_cert(chain, key).unwrap()
}

fn write(folder: &Path, authority: &Authority) {
    let (certificate, key) = authority.issue();
    fs::write(folder.join("tls.crt"), certificate).unwrap();
    fs::write(folder.join("tls.key"), key).unwrap();
}

pub fn with_tls(aws: &FakeAws, folder: &TempDir) -> Plan {
    let path = |name: &str| folder.path().join(name).display().to_string();
    plan(&aws.endpoint()).env("SCALER_TLS_CERT_FILE", path("tls.crt")).env("SCALER_TLS_KEY_FILE", path("tls.key"))
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let aws = FakeAws::with_table("orders", 2).await;
    let (folder, first, second) = (tempfile::tempdir().unwrap(), Authority::named("first"), Authority::named("second"));
    write(folder.path(), &first);
    let scaler = with_tls(&aws, &folder).start_ready().await;
    wait_for("the certificate", || !scaler.logged("is loaded").is_empty()).await;
    let of = trigger("orders", &[("scaleToZero", "false")]);
    assert_eq!(Keda::with_tls(&scaler, trusting(&first)).await.value(&of).await, 2.0);
    assert!(Keda::with_tls(&scaler, trusting(&second)).await.is_active(&of).await.is_err());
    assert!(Keda::of(&scaler).await.is_active(&of).await.is_err(), "nothing in the clear");
    fs::write(folder.path().join("tls.crt"), "nonsense").unwrap();
    wait_for("a warning", || !scaler.logged_code("DSA-SCALER-TLS").is_empty()).await;
    assert_eq!(Keda::with_tls(&scaler, trusting(&first)).await.value(&of).await, 2.0, "the last good one");
    write(folder.path(), &second);
    let begun = Instant::now();
    while Keda::with_tls(&scaler, trusting(&second)).await.is_active(&of).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", scaler.log_text());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn with_client_authorities_only_their_clients_are_answered() {
    let aws = FakeAws::with_table("orders", 2).await;
    let (folder, own, keda) = (tempfile::tempdir().unwrap(), Authority::named("own"), Authority::named("keda"));
    write(folder.path(), &own);
    fs::write(folder.path().join("ca.crt"), keda.pem()).unwrap();
    let authorities = folder.path().join("ca.crt").display().to_string();
    let scaler = with_tls(&aws, &folder).env("SCALER_CLIENT_CA_FILE", authorities).start_ready().await;
    wait_for("the certificate", || !scaler.logged("is loaded").is_empty()).await;
    let of = trigger("orders", &[("scaleToZero", "false")]);
    assert_eq!(Keda::with_tls(&scaler, presenting(&own, &keda)).await.value(&of).await, 2.0);
    for stranger in [presenting(&own, &own), trusting(&own)] {
        assert!(Keda::with_tls(&scaler, stranger).await.is_active(&of).await.is_err());
    }
}

#[tokio::test]
async fn without_a_certificate_it_is_not_ready_until_there_is_one() {
    let aws = FakeAws::with_table("orders", 2).await;
    let (folder, own) = (tempfile::tempdir().unwrap(), Authority::named("own"));
    let scaler = with_tls(&aws, &folder).start().await;
    wait_for("a warning", || !scaler.logged_code("DSA-SCALER-TLS").is_empty()).await;
    let (status, why) = scaler.get("/readyz").await;
    assert!(status == 503 && why.contains("SCALER_TLS_CERT_FILE"), "{status} {why}");
    assert_eq!(scaler.get("/livez").await.0, 200);
    write(folder.path(), &own);
    scaler.wait_ready().await;
    let of = trigger("orders", &[("scaleToZero", "false")]);
    assert_eq!(Keda::with_tls(&scaler, trusting(&own)).await.value(&of).await, 2.0);
}
