//! The real binary as a child process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::aws::FakeAws;
use super::positions_table::EmbeddedDynamoDb;
use super::sink::TestSink;
use super::wait_for;

/// What the adapter is to be started with.
#[derive(Clone)]
pub struct Plan {
    variables: BTreeMap<String, String>,
    arguments: Vec<&'static str>,
    /// What a shell does before it becomes the adapter.
    before: Option<String>,
}

/// A running adapter. It is killed when it is dropped.
pub struct Adapter {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    address: String,
    pub started: Instant,
}

impl Plan {
    /// Reads `table` from `aws` and posts to `sink`, polling fast, from the oldest record on.
    pub fn new(aws: &FakeAws, sink: &TestSink, table: &str) -> Self {
        Self::at(&aws.endpoint(), sink, table)
    }

    /// The same for any service at this address.
    pub fn at(endpoint: &str, sink: &TestSink, table: &str) -> Self {
        Self::bare()
            .env("TABLE", table)
            .env("K_SINK", sink.url())
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("HTTP_ADDRESS", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            .env("START_POSITION", "trim-horizon")
            .env("POLL_INTERVAL", "20ms")
            .env("IDLE_POLL_INTERVAL_MAX", "100ms")
            .env("RETRY_BACKOFF_MIN", "10ms")
            .env("RETRY_BACKOFF_MAX", "200ms")
    }

    /// Without any variable.
    pub fn bare() -> Self {
        Self { variables: BTreeMap::new(), arguments: Vec::new(), before: None }
    }

    /// The same as this subcommand.
    pub fn subcommand(mut self, name: &'static str) -> Self {
        self.arguments.push(name);
        self
    }

    /// The same after a shell has done this, such as `ulimit -n 256`.
    pub fn under(mut self, before: &str) -> Self {
        self.before = Some(before.to_owned());
        self
    }

    /// The variables that it is to be started with.
    pub fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.variables.clone().into_iter()
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Keeps positions in a file of this folder.
    pub fn keeping_positions(self, folder: &tempfile::TempDir) -> Self {
        let path = folder.path().join("positions.json");
        self.env("CHECKPOINT_STORE", format!("file:{}", path.display()))
    }

    /// Keeps positions in a table of this DynamoDB, whether it is there yet or not.
    pub fn keeping_positions_in(self, dynamodb: &EmbeddedDynamoDb) -> Self {
        self.env("CHECKPOINT_STORE", "dynamodb:positions").env("CHECKPOINT_ENDPOINT_URL", dynamodb.endpoint())
    }

    /// The command, for those who want to see it fail.
    pub fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_dynamodb-streams-adapter");
        let mut command = match &self.before {
            None => Command::new(program),
            Some(before) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("{before}; exec \"$@\""), "sh", program]);
                shell
            }
        };
        command.args(&self.arguments).env_clear().envs(&self.variables);
        command
    }

    /// Starts it and waits until its port is open.
    pub async fn start(&self) -> Adapter {
        let started = Instant::now();
        let mut child =
            self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = log.clone();
        // It ends with the child's end of the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| lock(&sink).push(line)));
        let mut adapter = Adapter { child, log, address: String::new(), started };
        let mut address = None;
        wait_for("the adapter's port", || {
            address = adapter.logged("listening").first().and_then(|line| line["address"].as_str().map(str::to_owned));
            let ended = adapter.child.try_wait().unwrap();
            assert!(ended.is_none() || address.is_some(), "the adapter ended: {ended:?}\n{}", adapter.log_text());
            address.is_some()
        })
        .await;
        adapter.address = address.unwrap();
        adapter
    }

    /// Starts it and waits until it is ready.
    pub async fn start_ready(&self) -> Adapter {
        let adapter = self.start().await;
        adapter.wait_ready().await;
        adapter
    }
}

impl Adapter {
    pub async fn wait_ready(&self) {
        for _ in 0..3000 {
            if self.get("/readyz").await.0 == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not ready: {}\n{}", self.get("/readyz").await.1, self.log_text());
    }

    /// Its first page.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        self.get_as("localhost", path).await
    }

    /// The same for a client that calls it so.
    pub async fn get_as(&self, host: &str, path: &str) -> (u16, String) {
        use http_body_util::BodyExt;
        let stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request =
            hyper::Request::get(path).header("host", host).body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        driver.abort();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// A metric's value, summed over all series that have these labels; zero if there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let name = format!("dynamodb_streams_adapter_{name}");
        let matching = text.lines().filter(|line| {
            let rest = line.strip_prefix(&name);
            let rest = rest.filter(|rest| rest.starts_with('{') || rest.starts_with(' '));
            rest.is_some_and(|rest| labels.iter().all(|(label, value)| rest.contains(&format!("{label}=\"{value}\""))))
        });
        matching.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// `/status` as of now: what is served may be a second old.
    pub async fn status(&self) -> Value {
        let asked = SystemTime::now();
        loop {
            let status: Value = serde_json::from_str(&self.get("/status").await.1).unwrap();
            let rendered = chrono::DateTime::parse_from_rfc3339(status["time"].as_str().unwrap()).unwrap();
            if SystemTime::from(rendered) >= asked {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Log lines with this message.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let lines = lock(&self.log).clone();
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"].as_str().is_some_and(|text| text.contains(message))).collect()
    }

    /// Log lines with this code.
    pub fn logged_code(&self, code: &str) -> Vec<Value> {
        let lines = lock(&self.log).clone();
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["code"] == code).collect()
    }

    /// Every line of the log.
    pub fn log_lines(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    pub fn log_text(&self) -> String {
        let log = lock(&self.log);
        log[log.len().saturating_sub(30)..].join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL: no chance to do anything more.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// SIGSTOP. When it returns every thread has stopped: on a busy machine some go on for a while after the signal.
    pub fn pause(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.pid());
        let has_stopped = |task: std::path::PathBuf| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
        };
        while !std::fs::read_dir(&tasks).unwrap().all(|task| has_stopped(task.unwrap().path())) {
            std::thread::yield_now();
        }
    }

    /// SIGTERM, and its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal("TERM");
        self.exit().await.code()
    }

    pub async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the adapter's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the adapter's last words:\n{}", self.log_text());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
