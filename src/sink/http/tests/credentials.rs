//! The token and the headers of files: what is sent with them, and what is not sent without them.

use std::fs;

use ::http::header::AUTHORIZATION;

use super::server::{Script, answer};
use super::*;
use crate::config::TokenFile;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const UNAUTHORIZED: &str = "HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nno";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.file("new"), content).expect("written");
        fs::rename(self.file("new"), self.file(name)).expect("replaced");
    }

    /// A sink with a token of the file `token`.
    fn with_token(&self, server: &Server, is_required: bool) -> SinkSettings {
        let token_file = Some(TokenFile { path: self.file("token"), is_required });
        SinkSettings { token_file, ..settings(&server.url("/")) }
    }

    /// A sink with headers of the file `headers`.
    fn with_headers(&self, server: &Server) -> SinkSettings {
        SinkSettings { headers_file: Some(self.file("headers")), ..settings(&server.url("/")) }
    }
}

fn attentive(settings: SinkSettings) -> Attentive {
    Attentive(inattentive(settings))
}

/// One that reads its files at the start and never again by itself.
fn inattentive(settings: SinkSettings) -> HttpSink {
    let reload_interval = Duration::from_secs(3600);
    sink(settings, Tuning { reload_interval, ..Tuning::default() })
}

async fn answering(answers: &[&str]) -> Server {
    let script: Script = answers.iter().flat_map(|text| answer(*text)).collect();
    Server::start([script]).await
}

fn authorizations(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| seen.header("authorization").join(",")).collect()
}

#[tokio::test]
async fn a_token_that_must_be_there_is_waited_for_and_nothing_is_sent_meanwhile() {
    let (folder, server) = (Folder::new(), answering(&[OK]).await);
    let sink = attentive(folder.with_token(&server, true));
    let huge = "x".repeat(70_000);
    let path = folder.file("token").display().to_string();
    for (content, why) in [
        (None, "does not exist"),
        (Some(""), "it is empty"),
        (Some("hunter2\nhunter2"), "it has several lines"),
        (Some(&huge), "it is larger than 64 KiB"),
    ] {
        if let Some(content) = content {
            folder.write("token", content);
        }
        let (fault, message) = failed(sink.post(message(), PATIENCE).await);
        assert_eq!(fault, TransportError::Credentials);
        assert!(message.starts_with(&format!("nothing is sent: SINK_TOKEN_FILE {path} ")), "{message}");
        assert!(message.contains(why) && !message.contains("hunter2"), "{message}");
    }
    assert!(server.seen().is_empty(), "something was sent without a token");
    folder.write("token", "t1\n");
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    assert_eq!(authorizations(&server), ["Bearer t1"]);
}

#[tokio::test]
async fn a_token_of_the_platform_is_used_once_it_is_there_and_its_last_good_value_stays() {
    let (folder, server) = (Folder::new(), answering(&[OK; 5]).await);
    let sink = attentive(folder.with_token(&server, false));
    let post = async || assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    post().await;
    folder.write("token", "t1");
    post().await;
    folder.write("token", "");
    post().await;
    fs::remove_file(folder.file("token")).expect("removed");
    post().await;
    folder.write("token", "t2");
    post().await;
    assert_eq!(authorizations(&server), ["", "Bearer t1", "Bearer t1", "Bearer t1", "Bearer t2"]);
}

#[tokio::test]
async fn a_token_of_the_platform_that_cannot_be_used_stops_delivery_instead_of_being_left_out() {
    let (folder, server) = (Folder::new(), answering(&[]).await);
    folder.write("token", "\n");
    let (fault, message) = failed(attentive(folder.with_token(&server, false)).post(message(), PATIENCE).await);
    assert_eq!(fault, TransportError::Credentials, "{message}");
}

#[tokio::test]
async fn a_401_has_the_token_read_again_and_the_message_sent_once_more_at_once() {
    let (folder, server) = (Folder::new(), answering(&[UNAUTHORIZED, OK, UNAUTHORIZED, UNAUTHORIZED, OK]).await);
    folder.write("token", "t1");
    let sink = inattentive(folder.with_token(&server, true));
    folder.write("token", "t2");
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    assert_eq!(authorizations(&server), ["Bearer t1", "Bearer t2"]);

    assert_eq!(sink.post(message(), PATIENCE).await, refused(401, "no"), "twice in one attempt is an ordinary 401");
    assert_eq!(server.seen().len(), 4);
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    assert!(server.seen().iter().all(|seen| seen.body == b"{\"a\":1}"), "the whole message, each time");
}

/// A reader that never runs does as one does whose volume never answers.
#[tokio::test]
async fn no_attempt_waits_for_a_volume_that_does_not_answer_and_a_401_waits_for_it_a_second() {
    let (folder, server) = (Folder::new(), answering(&[OK, UNAUTHORIZED, OK]).await);
    folder.write("token", "t1");
    let tuning = Tuning { reload_interval: Duration::ZERO, ..Tuning::default() };
    let (sink, stuck) = HttpSink::tuned(folder.with_token(&server, true), tuning).expect("a sink");
    folder.write("token", "t2");
    let begun = Instant::now();
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    assert!(begun.elapsed() < READ_AGAIN_LIMIT, "the attempt waited");
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    assert!(begun.elapsed() >= READ_AGAIN_LIMIT, "the token was not asked for");
    assert_eq!(authorizations(&server), ["Bearer t1"; 3]);
    drop(stuck);
}

#[tokio::test]
async fn a_401_without_a_token_is_an_ordinary_one() {
    let (folder, server) = (Folder::new(), answering(&[UNAUTHORIZED]).await);
    let sink = inattentive(folder.with_token(&server, false));
    assert_eq!(sink.post(message(), PATIENCE).await, refused(401, "no"));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn both_tries_of_an_attempt_share_its_timeout() {
    let script = [answer(UNAUTHORIZED), vec![server::Step::Read, server::Step::Hang]].concat();
    let (folder, server) = (Folder::new(), Server::start([script]).await);
    folder.write("token", "t1");
    let sink = inattentive(folder.with_token(&server, true));
    let begun = Instant::now();
    assert_eq!(failed(sink.post(message(), Duration::from_millis(300)).await).0, TransportError::Timeout);
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn the_user_in_the_url_wins_over_the_platforms_token() {
    let (folder, server) = (Folder::new(), answering(&[UNAUTHORIZED]).await);
    folder.write("token", "t1");
    let mut settings = folder.with_token(&server, false);
    settings.headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic dXNlcjo="));
    assert_eq!(attentive(settings).post(message(), PATIENCE).await, refused(401, "no"));
    assert_eq!(authorizations(&server), ["Basic dXNlcjo="], "and a 401 is not answered with the token");
}

#[tokio::test]
async fn a_token_goes_along_within_the_host_and_never_to_another() {
    let elsewhere = answering(&[OK]).await;
    let moved = |location: &str| format!("HTTP/1.1 307 Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let other = elsewhere.url("/");
    let server = answering(&[&moved("/b"), OK, &moved(&other)]).await;
    let folder = Folder::new();
    folder.write("token", "t1");
    folder.write("headers", "x-api-key: k1");
    let settings = SinkSettings { headers_file: Some(folder.file("headers")), ..folder.with_token(&server, true) };
    let sink = inattentive(settings);
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    assert_eq!(authorizations(&server), ["Bearer t1", "Bearer t1"]);
    assert_eq!(server.seen()[1].header("x-api-key"), ["k1"]);
    assert_eq!(sink.post(message(), PATIENCE).await, refused(307, ""));
    assert!(elsewhere.seen().is_empty(), "another host got a request");
}

#[tokio::test]
async fn headers_of_a_file_go_with_every_request_and_change_with_it() {
    let (folder, server) = (Folder::new(), answering(&[OK; 4]).await);
    folder.write("headers", "# gateway\nX-Api-Key: k1\nX-Route: a\nX-Route: b\nUser-Agent: mine\n");
    let sink = attentive(folder.with_headers(&server));
    let post = async || assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    post().await;
    folder.write("headers", "X-Api-Key: k2");
    post().await;
    folder.write("headers", "X-Api-Key: k3\nce-id: forged");
    post().await;
    folder.write("headers", "");
    post().await;
    let keys: Vec<_> = server.seen().iter().map(|seen| seen.header("x-api-key").join(",")).collect();
    assert_eq!(keys, ["k1", "k2", "k2", ""], "what cannot be used changes nothing");
    let first = &server.seen()[0];
    assert_eq!((first.header("x-route"), first.header("user-agent")), (vec!["a", "b"], vec!["mine"]));
    assert!(server.seen().iter().all(|seen| seen.header("ce-id") == ["e1"]));
}

#[tokio::test]
async fn headers_that_cannot_be_read_are_not_left_out() {
    let (folder, server) = (Folder::new(), answering(&[OK]).await);
    let sink = attentive(folder.with_headers(&server));
    for content in ["content-type: text/plain", "authorization", "x: hunter2\nno header"] {
        folder.write("headers", content);
        let (fault, message) = failed(sink.post(message(), PATIENCE).await);
        assert_eq!(fault, TransportError::Credentials);
        assert!(message.contains("SINK_HEADERS_FILE") && message.contains(": line "), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    folder.write("headers", "x: y");
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
}

#[tokio::test]
async fn authorization_may_come_from_the_file_of_headers_alone() {
    let (folder, server) = (Folder::new(), answering(&[OK]).await);
    folder.write("headers", "Authorization: ApiKey k1");
    let headers_file = Some(folder.file("headers"));
    let required = SinkSettings { headers_file: headers_file.clone(), ..folder.with_token(&server, true) };
    folder.write("token", "t1");
    let (_, message) = failed(attentive(required).post(super::message(), PATIENCE).await);
    assert!(message.contains("authorization is set already"), "{message}");
    let looked_for = SinkSettings { headers_file, ..folder.with_token(&server, false) };
    assert_eq!(attentive(looked_for).post(super::message(), PATIENCE).await, accepted(200, ""));
    assert_eq!(authorizations(&server), ["ApiKey k1"]);
}

#[tokio::test]
async fn no_secret_shows_in_the_debug_form() {
    let (folder, server) = (Folder::new(), answering(&[]).await);
    folder.write("token", "hunter2");
    folder.write("headers", "x-api-key: hunter2");
    let settings = SinkSettings { headers_file: Some(folder.file("headers")), ..folder.with_token(&server, true) };
    let shown = format!("{:?} {:#?}", settings.clone(), HttpSink::new(settings));
    assert!(shown.contains("x-api-key") && !shown.contains("hunter2"), "{shown}");
}

/// A pipe, a folder, a file that nobody may read: no attempt hangs on it.
#[tokio::test]
async fn what_is_not_a_file_is_said() {
    let (folder, server) = (Folder::new(), answering(&[]).await);
    fs::create_dir(folder.file("token")).expect("a folder");
    let (_, message) = failed(attentive(folder.with_token(&server, true)).post(message(), PATIENCE).await);
    assert!(message.contains("cannot be used: it is not a file"), "{message}");
    fs::remove_dir(folder.file("token")).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(folder.file("token")).status();
    if made.is_ok_and(|status| status.success()) {
        let (_, message) = failed(attentive(folder.with_token(&server, true)).post(super::message(), PATIENCE).await);
        assert!(message.contains("cannot be used: it is not a file"), "{message}");
    }
}
