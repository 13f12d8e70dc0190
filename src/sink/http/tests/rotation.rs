//! Credentials that are replaced while events are sent: not one attempt fails for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ::http::header::AUTHORIZATION;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::authority::{Authority, Leaf, Side, acceptor};
use super::https::Https;
use super::volume::Volume;
use super::*;
use crate::config::{Certificates, ClientCertificateFiles, TokenFile};

/// Reads its files all the time, and trusts nobody by itself.
fn sink(settings: SinkSettings) -> Arc<HttpSink> {
    Arc::new(super::sink(settings, tuning(Duration::from_millis(5))))
}

fn tuning(reload_interval: Duration) -> Tuning {
    Tuning { reload_interval, system_roots: Some(Certificates::default()), ..Tuning::default() }
}

fn trusting(server: &Https, volume: &Volume) -> SinkSettings {
    let trust = TlsTrust { folder: Some(volume.path().to_owned()), ..TlsTrust::default() };
    SinkSettings { trust, ..settings(&server.url()) }
}

/// Posts from several tasks at once until it is ended.
struct Load {
    ended: Arc<AtomicBool>,
    /// How many each task had accepted.
    accepted: Vec<Arc<AtomicUsize>>,
    tasks: JoinSet<()>,
}

impl Load {
    fn on(sink: &Arc<HttpSink>) -> Self {
        let mut load = Self { ended: Arc::default(), accepted: Vec::new(), tasks: JoinSet::new() };
        for _ in 0..4 {
            let (sink, ended, accepted) = (sink.clone(), load.ended.clone(), Arc::<AtomicUsize>::default());
            load.accepted.push(accepted.clone());
            load.tasks.spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    let answer = sink.post(message(), PATIENCE).await;
                    assert!(matches!(answer, SinkResponse::Accepted { .. }), "{answer:?}");
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// Until each task had so many more accepted: whatever was under way is over then.
    async fn more(&mut self, count: usize) {
        let goals: Vec<usize> = self.counts().map(|accepted| accepted + count).collect();
        let deadline = Instant::now() + PATIENCE;
        while self.counts().zip(&goals).any(|(accepted, goal)| accepted < *goal) {
            assert!(Instant::now() < deadline, "waited in vain for more events");
            if let Ok(ended) = tokio::time::timeout(Duration::from_millis(2), self.tasks.join_next()).await {
                ended.expect("tasks go on").expect("every attempt is accepted");
            }
        }
    }

    fn counts(&self) -> impl Iterator<Item = usize> {
        self.accepted.iter().map(|accepted| accepted.load(Ordering::Relaxed))
    }

    async fn end(mut self) -> usize {
        self.ended.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("every attempt is accepted");
        }
        self.counts().sum()
    }
}

/// Waits until a reading of the files has changed what attempts are made with.
async fn renewed(sink: &HttpSink, before: Arc<CredentialSnapshot>) {
    let deadline = Instant::now() + PATIENCE;
    while Arc::ptr_eq(&before, &sink.credentials.newest()) {
        assert!(Instant::now() < deadline, "the files were not read again");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_replaced_under_load() {
    for protocol in ["http/1.1", "h2"] {
        let (old, new) = (Authority::named("Old"), Authority::named("New"));
        let mut volume = Volume::new(&[("old.pem", old.pem())]);
        let server = Https::start(old.server("localhost", false, &[protocol])).await;
        let sink = sink(trusting(&server, &volume));
        let mut load = Load::on(&sink);
        load.more(15).await;

        let before = sink.credentials.newest();
        volume.replace(&[("old.pem", old.pem()), ("new.pem", new.pem())]);
        renewed(&sink, before).await;
        server.change_to(new.server("localhost", false, &[protocol]));
        load.more(15).await;

        let before = sink.credentials.newest();
        volume.replace(&[("new.pem", new.pem())]);
        renewed(&sink, before).await;
        load.more(15).await;
        // Those of the older pools are gone: idle ones would stay for seconds. A pool may hold more than the four that
        // are at work, because a connection that was begun is kept when another became free in the meantime.
        let deadline = Instant::now() + IDLE_TIMEOUT / 2;
        while server.open() >= 8 {
            assert!(Instant::now() < deadline, "{} connections are open", server.open());
            load.more(1).await;
        }
        assert!(load.end().await >= 150);

        // Who is not trusted any more is not let in by way of an old session.
        server.change_to(old.server("localhost", false, &[protocol]));
        let before = sink.credentials.newest();
        volume.replace(&[("new.pem", new.pem()), ("other.pem", Authority::new().pem())]);
        renewed(&sink, before).await;
        let (fault, message) = failed(sink.post(message(), PATIENCE).await);
        assert_eq!(fault, TransportError::Tls, "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_replaced_under_load() {
    let authority = Authority::new();
    let (old, new) = (authority.leaf("adapter"), authority.leaf("adapter"));
    let files = |leaf: &Leaf| [("tls.crt", leaf.pem.clone()), ("tls.key", leaf.key.serialize_pem())];
    let mut volume = Volume::new(&files(&old));
    let roots = Volume::new(&[("ca.crt", authority.pem())]);
    let side = Side { clients: Some(authority.roots()), ..Side::default() };
    let server = Https::start(acceptor(&authority.leaf("localhost"), &side)).await;
    let names = ClientCertificateFiles { certificate: volume.file("tls.crt"), key: volume.file("tls.key") };
    let sink = sink(SinkSettings { client_certificate: Some(names), ..trusting(&server, &roots) });
    let mut load = Load::on(&sink);
    load.more(15).await;

    // One file after the other: nothing that does not belong together is ever shown.
    let before = sink.credentials.newest();
    std::fs::write(volume.file("tls.crt"), &new.pem).expect("written");
    renewed(&sink, before).await;
    load.more(5).await;
    let mismatch = sink.credentials.newest();
    std::fs::write(volume.file("tls.key"), new.key.serialize_pem()).expect("written");
    renewed(&sink, mismatch).await;
    load.more(15).await;
    // And all at once.
    let before = sink.credentials.newest();
    volume.replace(&files(&old));
    renewed(&sink, before).await;
    load.more(15).await;
    load.end().await;

    let mut shown: Vec<_> = server.taken().into_iter().map(|taken| taken.peer.expect("a certificate")).collect();
    shown.dedup();
    let mut told: Vec<_> = shown.iter().map(|der| if *der == old.der { "old" } else { "new" }).collect();
    // Requests that were under way at the change may come in either order.
    told.dedup();
    assert!(told.first() == Some(&"old") && told.contains(&"new") && told.last() == Some(&"old"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_replaced_under_load() {
    let authority = Authority::new();
    let roots = Volume::new(&[("ca.crt", authority.pem())]);
    let mut volume = Volume::new(&[("token", "token-0")]);
    let server = Https::start(authority.server("localhost", false, &["http/1.1"])).await;
    let valid = |token: String| {
        move |headers: &HeaderMap| if headers[AUTHORIZATION] == format!("Bearer {token}") { 202 } else { 401 }
    };
    server.judge(valid("token-0".to_owned()));
    let token_file = Some(TokenFile { path: volume.file("token"), is_required: true });
    let settings = SinkSettings { token_file, ..trusting(&server, &roots) };
    // It never reads by itself: only the 401 tells it.
    let sink = Arc::new(super::sink(settings, tuning(Duration::from_secs(3600))));
    let mut load = Load::on(&sink);
    for round in 1..=10 {
        load.more(5).await;
        let token = format!("token-{round}");
        volume.replace(&[("token", &token)]);
        server.judge(valid(token));
    }
    load.more(5).await;
    let accepted = load.end().await;
    let taken = server.taken();
    let refused = taken.iter().filter(|taken| taken.status == 401).count();
    assert_eq!(taken.len() - refused, accepted, "each event was taken once");
    assert!((10..=40).contains(&refused), "{refused} requests for ten rotations met a 401");
}

#[tokio::test]
async fn an_attempt_under_way_keeps_its_connection_and_the_next_one_gets_another() {
    let (old, new) = (Authority::named("Old"), Authority::named("New"));
    let mut volume = Volume::new(&[("old.pem", old.pem())]);
    let permission = Arc::<Notify>::default();
    let slow = vec![server::Step::Read, server::Step::Await(permission.clone()), server::Step::Write(OK.into())];
    let scripts = [[server::answer(OK), slow].concat(), server::answer(OK)];
    let server = server::Server::start_tls(old.server("localhost", false, &["http/1.1"]), scripts).await;
    let trust = TlsTrust { folder: Some(volume.path().to_owned()), ..TlsTrust::default() };
    let settings = SinkSettings { trust, ..settings(&format!("https://localhost:{}/", server.port())) };
    let sink = sink(settings);
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    let under_way = tokio::spawn({
        let sink = sink.clone();
        async move { sink.post(message(), PATIENCE).await }
    });
    while server.seen().len() < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let before = sink.credentials.newest();
    volume.replace(&[("old.pem", old.pem()), ("new.pem", new.pem())]);
    renewed(&sink, before).await;
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    assert_eq!(server.seen()[2].connection, 1, "an older generation's connection was used again");
    permission.notify_one();
    assert_eq!(under_way.await.expect("it ends"), accepted(200, ""));
}

#[tokio::test]
async fn a_token_that_changes_is_used_without_a_401() {
    let mut volume = Volume::new(&[("token", "old")]);
    let server = server::Server::start([(0..1000).flat_map(|_| server::answer(OK)).collect()]).await;
    let token_file = Some(TokenFile { path: volume.file("token"), is_required: false });
    let sink = sink(SinkSettings { token_file, ..settings(&server.url("/")) });
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    assert_eq!(server.seen()[0].header("authorization"), ["Bearer old"]);
    let before = sink.credentials.newest();
    volume.replace(&[("token", "new")]);
    renewed(&sink, before).await;
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    assert_eq!(server.seen()[1].header("authorization"), ["Bearer new"]);
    assert_eq!(server.seen()[1].connection, 0, "a new token needs no new connection");
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
