//! Processes that share a table of positions, and what is checked of all of them together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::FakeAws;
use crate::support::oracle;
use crate::support::positions_table::EmbeddedDynamoDb;
use crate::support::proxy::TcpProxy;
use crate::support::sink::{Received, TestSink};
use crate::support::{PATIENCE, wait_within};

/// The shortest that the adapter takes.
pub const LEASE: Duration = Duration::from_secs(3);

/// So long after a process goes on that had stood still, what it had begun before may still arrive.
const LATE: Duration = Duration::from_secs(1);

/// A table that is read, a sink, and the positions of whoever reads it.
pub struct Group {
    pub aws: FakeAws,
    pub sink: TestSink,
    /// None where `POSITIONS_ENDPOINT` names another one.
    _embedded: Option<EmbeddedDynamoDb>,
    endpoint: String,
    /// The name of the table of positions, new for each test.
    positions: String,
    started: AtomicUsize,
}

/// One process, and its own way to the positions.
pub struct Process {
    pub name: String,
    pub adapter: Adapter,
    pub line: TcpProxy,
}

impl Group {
    pub async fn with_shards(shards: usize) -> Self {
        static TABLES: AtomicUsize = AtomicUsize::new(0);
        let (embedded, endpoint) = match std::env::var("POSITIONS_ENDPOINT") {
            Ok(endpoint) => (None, endpoint),
            Err(_) => {
                let embedded = EmbeddedDynamoDb::start().await;
                let endpoint = embedded.endpoint().to_owned();
                (Some(embedded), endpoint)
            }
        };
        let positions = format!("positions-{}-{}", std::process::id(), TABLES.fetch_add(1, Ordering::Relaxed));
        let (aws, sink) = (FakeAws::with_table("orders", shards).await, TestSink::start().await);
        Self { aws, sink, _embedded: embedded, endpoint, positions, started: AtomicUsize::new(0) }
    }

    /// Starts one more process. Its events carry its name.
    pub async fn start(&self) -> Process {
        self.start_with(|plan| plan).await
    }

    pub async fn start_with(&self, change: impl FnOnce(Plan) -> Plan) -> Process {
        let name = format!("pod{}", self.started.fetch_add(1, Ordering::Relaxed) + 1);
        let line = TcpProxy::before(&self.endpoint).await;
        let plan = Plan::new(&self.aws, &self.sink, "orders")
            .env("CHECKPOINT_STORE", format!("dynamodb:{}", self.positions))
            .env("CHECKPOINT_TABLE_CREATE", "true")
            .env("CHECKPOINT_ENDPOINT_URL", line.endpoint())
            .env("LEASE_DURATION", format!("{}s", LEASE.as_secs()))
            .env("POD_NAME", &name)
            .env("K_CE_OVERRIDES", format!(r#"{{"extensions":{{"process":"{name}"}}}}"#));
        let adapter = change(plan).start().await;
        Process { name, adapter, line }
    }

    pub async fn start_ready(&self) -> Process {
        let process = self.start().await;
        process.adapter.wait_ready().await;
        process
    }

    /// Everything that was written so far has arrived.
    pub async fn has_everything(&self) {
        let writes = self.aws.script().writes.len();
        wait_within(4 * PATIENCE, "everything that was written", || self.sink.distinct() >= writes).await;
    }

    /// The last that was heard of each item is its newest state: what a takeover repeats has come, too.
    pub async fn is_up_to_date(&self) {
        self.has_everything().await;
        let writes = self.aws.script().writes.clone();
        let is_up_to_date = || self.sink.look(|received| oracle::stale(&writes, received).is_empty());
        wait_within(PATIENCE, "the newest state of each item, last of all", is_up_to_date).await;
    }

    /// Waits until this process has delivered something after `since`.
    pub async fn delivers(&self, process: &Process, since: Instant) -> Instant {
        let begun = Instant::now();
        loop {
            let first = self.sink.look(|received| {
                let later = received.iter().rev().take_while(|event| event.arrived > since);
                later.filter(|event| sender(event) == process.name).last().map(|event| event.arrived)
            });
            if let Some(first) = first {
                return first;
            }
            if begun.elapsed() > PATIENCE {
                let (status, metrics) = (process.adapter.status().await, process.adapter.get("/metrics").await.1);
                panic!("{} delivers nothing: {status:#}\n{metrics}", process.name);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Nothing is lost, each item's changes come in order, and no two processes deliver by turns: whoever is not the owner any more begins
    /// nothing. `living`: those that run, among them the newest owner.
    pub fn assert_sound(&self, living: &[&Process]) {
        self.assert_sound_besides(living, &[]);
    }

    /// The same where processes went on at these moments that had stood still. What they had begun before may be written then.
    pub fn assert_sound_but_for_late(&self, living: &[&Process], went_on: &[(String, Instant)]) {
        let is_late = |event: &Received| {
            let mut went_on = went_on.iter().filter(|(name, _)| sender(event) == name);
            went_on.any(|(_, at)| (*at..*at + LATE).contains(&event.arrived))
        };
        let (late, received): (Vec<_>, Vec<_>) = self.sink.received().into_iter().partition(is_late);
        println!("{} events of {} that went on came late", late.len(), went_on.len());
        assert!(late.len() <= 64 * went_on.len(), "more came late than can be under way");
        self.assert_sound_of(received, living, &[]);
    }

    /// The same where an owner may have lost its lease at these moments and got it again itself.
    pub fn assert_sound_besides(&self, living: &[&Process], restarts: &[Instant]) {
        self.assert_sound_of(self.sink.received(), living, restarts);
    }

    fn assert_sound_of(&self, received: Vec<Received>, living: &[&Process], restarts: &[Instant]) {
        let mut eras = eras(&received);
        let claims = living.iter().filter_map(|process| process.newest_claim()).max().unwrap();
        assert!(
            (eras.len() as u64) < claims,
            "{} changes of who delivers, and {claims} claims: {:?}",
            eras.len(),
            turns(&received)
        );
        eras.extend(restarts);
        eras.sort();
        let writes = self.aws.script().writes.clone();
        oracle::assert_complete_and_in_order(&writes, &received, &eras);
    }

    pub fn duplicates(&self) -> usize {
        oracle::duplicates(&self.sink.received())
    }

    /// The longest time without an event from the last one before each change of the owner to the first one behind it.
    pub fn takeover_times(&self) -> Vec<Duration> {
        let received = self.sink.received();
        let pairs = received.windows(2).filter(|pair| sender(&pair[0]) != sender(&pair[1]));
        pairs.map(|pair| pair[1].arrived - pair[0].arrived).collect()
    }
}

impl Process {
    /// Whether it is the owner, by its own word.
    pub async fn is_owner(&self) -> bool {
        self.adapter.metric("lease_held", &[("table", "orders")]).await > 0.0
    }

    /// The number of its newest claim of the lease; claims of all processes are counted.
    fn newest_claim(&self) -> Option<u64> {
        self.adapter.logged("owns the table's lease").iter().filter_map(|line| line["epoch"].as_u64()).max()
    }

    pub async fn becomes_owner(&self) {
        let begun = Instant::now();
        while !self.is_owner().await {
            assert!(begun.elapsed() < PATIENCE, "{} does not get the lease\n{}", self.name, self.adapter.log_text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Who sent an event.
fn sender(event: &Received) -> &str {
    &event.attributes["process"]
}

/// When another process began to deliver.
fn eras(received: &[Received]) -> Vec<Instant> {
    let pairs = received.windows(2).filter(|pair| sender(&pair[0]) != sender(&pair[1]));
    pairs.map(|pair| pair[1].arrived).collect()
}

/// Who delivered, one after the other.
fn turns(received: &[Received]) -> Vec<&str> {
    let mut turns: Vec<&str> = received.iter().map(sender).collect();
    turns.dedup();
    turns
}

/// So often a test with chance repeats what it does.
pub fn rounds(usual: usize) -> usize {
    std::env::var("SOAK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Prints times as a distribution.
pub fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort();
    if let (Some(first), Some(last)) = (times.first(), times.last()) {
        let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
        println!("{what}: {} times, {first:?} to {last:?}, median {:?}, 90 % within {:?}", times.len(), at(50), at(90));
    }
}
