//! Sinks that mean harm over HTTP/2, frame by frame, with and without a certificate of the client: every attempt ends in time and on few
//! connections, and the next sink that behaves is delivered to.

use super::authority::{Authority, Side, acceptor};
use super::server::{Script, Step};
use super::volume::Volume;
use super::*;
use crate::config::ClientCertificateFiles;

/// A timeout that an attempt may use up.
const SHORT: Duration = Duration::from_millis(500);

/// How often a message is sent again that the sink says it has not processed, as docs/sink.md has it.
const RESENDS: usize = 3;

/// Types of frames: RFC 9113, section 6.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_OF_ALL: u8 = 5;

/// `REFUSED_STREAM`
const REFUSED: [u8; 4] = [0, 0, 0, 7];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Says who it is, waits for a request, and writes this.
fn then(settings: &[u8], frames: Vec<Vec<u8>>) -> Script {
    let hello = [frame(SETTINGS, 0, 0, settings), frame(SETTINGS, ACK, 0, &[])].concat();
    let mut script = vec![Step::ReadHead, Step::Write(hello), Step::Pause(Duration::from_millis(30))];
    script.extend(frames.into_iter().map(Step::Write));
    script
}

/// What each connection of a sink does, by the name of the attack.
fn attacks() -> Vec<(&'static str, Script)> {
    let reset = |stream: u32| [frame(RST_STREAM, 0, stream, &REFUSED)].concat();
    let window = |by: u32| frame(WINDOW_UPDATE, 0, 0, &by.to_be_bytes());
    let block = [0x88; 16_000];
    let bomb = frame(CONTINUATION, 0, 1, &block).repeat(500);
    let goaway = frame(GOAWAY, 0, 0, &[0; 8]);
    vec![
        ("GOAWAY on each connection", then(&[], vec![goaway])),
        ("resets of all streams", then(&[], (0..50).map(|n| reset(2 * n + 1)).collect())),
        // SETTINGS_INITIAL_WINDOW_SIZE, and one that changes all the time.
        ("no window", then(&[0, 4, 0, 0, 0, 0], vec![])),
        ("a window of more than there is", then(&[], vec![window(0x7fff_ffff), window(0x7fff_ffff)])),
        ("a window of nothing", then(&[], vec![window(0)])),
        ("windows that come and go", then(&[], vec![frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]).repeat(50_000)])),
        // SETTINGS_MAX_CONCURRENT_STREAMS
        ("no streams", then(&[0, 3, 0, 0, 0, 0], vec![])),
        ("a flood of pings", then(&[], vec![frame(PING, 0, 0, &[0; 8]).repeat(100_000)])),
        ("a flood of settings", then(&[], vec![frame(SETTINGS, 0, 0, &[]).repeat(100_000)])),
        ("headers without an end", then(&[], vec![frame(HEADERS, 0, 1, &block), bomb])),
        ("a header that means many", then(&[], vec![frame(HEADERS, END_OF_ALL, 1, &block)])),
        ("an answer to nothing", then(&[], vec![frame(HEADERS, END_OF_ALL, 77, &[0x89])])),
        ("a frame without end", then(&[], vec![[&[0xff; 3][..], &[0, 0, 0, 0, 0, 1], &[0; 100]].concat()])),
        ("nonsense", then(&[], vec![vec![0xa5; 100_000]])),
    ]
}

/// Who the client is to such a sink, if it says so.
struct Identity(Option<Volume>);

impl Identity {
    fn of(authority: &Authority, has_certificate: bool) -> Self {
        let leaf = authority.leaf("adapter");
        let files = || Volume::new(&[("tls.crt", leaf.pem.clone()), ("tls.key", leaf.key.serialize_pem())]);
        Self(has_certificate.then(files))
    }

    fn sink(&self, authority: &Authority, port: u16) -> HttpSink {
        let tuning = Tuning { system_roots: Some(authority.certificates()), ..Tuning::default() };
        let files = self.0.as_ref();
        let client_certificate = files
            .map(|files| ClientCertificateFiles { certificate: files.file("tls.crt"), key: files.file("tls.key") });
        let settings = settings(&format!("https://localhost:{port}/"));
        super::sink(SinkSettings { client_certificate, ..settings }, tuning)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_every_attempt_ends_in_time_and_on_few_connections() {
    let authority = Authority::new();
    for has_certificate in [false, true] {
        let clients = has_certificate.then(|| authority.roots());
        let side = || Side { protocols: &["h2"], clients: clients.clone(), ..Side::default() };
        let identity = Identity::of(&authority, has_certificate);
        for (attack, script) in attacks() {
            let server = Server::start_tls(acceptor(&authority.leaf("localhost"), &side()), vec![script; 20]).await;
            let sink = identity.sink(&authority, server.port());
            let mut attempts = 0;
            // On a busy machine an attempt may end before it is connected.
            while server.seen().is_empty() {
                let begun = Instant::now();
                let answer = sink.post(message(), SHORT).await;
                assert!(begun.elapsed() < SHORT + PATIENCE / 4, "{attack}: it took {:?}", begun.elapsed());
                assert!(!matches!(answer, SinkResponse::Accepted { .. }), "{attack}: {answer:?}");
                attempts += 1;
                assert!(attempts < 20, "{attack}: no attempt is connected");
            }
            let connections = server.seen().len();
            assert!(connections <= attempts * (1 + RESENDS), "{attack}: {connections} connections");
        }
    }
}

/// It takes all bytes, so that TCP notices nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_answers_no_ping_is_given_up_after_15_seconds() {
    let authority = Authority::new();
    let side = Side { protocols: &["h2"], ..Side::default() };
    let script = [then(&[], vec![]), vec![Step::Hang]].concat();
    let server = Server::start_tls(acceptor(&authority.leaf("localhost"), &side), vec![script; 4]).await;
    let sink = Identity::of(&authority, false).sink(&authority, server.port());
    let begun = Instant::now();
    let answer = sink.post(message(), Duration::from_secs(60)).await;
    let took = begun.elapsed();
    let (fault, why) = failed(answer);
    assert!(took < Duration::from_secs(20), "{took:?}: {fault:?} {why}");
}
