//! A stop and a probe while the start waits for a file that another process uses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;

/// A process whose file of positions is another one's until the end of the test.
struct Starting {
    _other: (FileStore, TempDir),
    address: SocketAddr,
    stop: CancellationToken,
    ended: mpsc::Receiver<Result<(), RunError>>,
}

impl Starting {
    /// It has opened its port.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("positions");
        let other = FileStore::open(&path, "other").unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let variables = [
            ("TABLE", "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders".to_owned()),
            ("K_SINK", "http://127.0.0.1:9/".to_owned()),
            ("CHECKPOINT_STORE", format!("file:{}", path.display())),
            ("HTTP_ADDRESS", address.to_string()),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let config = Config::from_env_vars(variables, &process::facts()).unwrap();
        let (stop, (end, ended)) = (CancellationToken::new(), mpsc::channel());
        let stopped = stop.clone();
        thread::spawn(move || {
            let runtime = Runtime::new().unwrap();
            let _ = end.send(runtime.block_on(run(config, stopped)));
            runtime.shutdown_background();
        });
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "its port is not open");
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(100));
        Self { _other: (other, folder), address, stop, ended }
    }
}

impl Starting {
    /// The whole response.
    fn get(&self, path: &str) -> String {
        let mut probe = TcpStream::connect(self.address).unwrap();
        probe.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(probe, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        probe.read_to_string(&mut response).expect("no probe is answered during the start");
        response
    }
}

#[test]
fn a_stop_ends_a_start_that_waits() {
    let process = Starting::new();
    assert!(process.ended.try_recv().is_err(), "it does not wait");
    process.stop.cancel();
    let ended = process.ended.recv_timeout(Duration::from_secs(10));
    assert!(matches!(ended, Ok(Ok(()))), "{ended:?}");
}

/// Who waits for a file or for the machine's metadata service must not be restarted by a liveness probe: it helps nobody.
#[test]
fn a_probe_is_answered_while_the_start_waits() {
    let process = Starting::new();
    assert!(process.get("/livez").starts_with("HTTP/1.1 200"));
    let begun = Instant::now();
    loop {
        let ready = process.get("/readyz");
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        if ready.contains("is in use by another process") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not say what it waits for: {ready}");
        thread::yield_now();
    }
    assert!(process.get("/startupz").starts_with("HTTP/1.1 503"));
    assert!(process.get("/status").contains("\"tables\": []"));
    assert!(process.get("/metrics").starts_with("HTTP/1.1 200"));
}
