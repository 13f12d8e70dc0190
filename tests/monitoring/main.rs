//! A scene for Prometheus: one adapter to which everything happens that a dashboard shows, beside it one whose positions are in a DynamoDB
//! table, and one to which nothing happens.
//!
//! `tests/monitoring/run` starts it, scrapes both and asks the panels' queries. `MONITORING_SCENE` is a folder: the scene
//! writes the addresses into `targets` there, and ends when a file `stop` appears.
#![allow(clippy::unwrap_used)] // a scene that cannot go on has failed

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use support::adapter::{Adapter, Plan};
use support::aws::{FakeAws, Trouble};
use support::positions_table::EmbeddedDynamoDb;
use support::proxy::{Line, TcpProxy};
use support::sink::{Reaction, Received, TestSink};

/// One beat of the scene.
const BEAT: Duration = Duration::from_millis(100);

/// Nobody has to wait longer, whatever became of those who watch.
const LONGEST: Duration = Duration::from_secs(600);

/// Nobody can read a change out of this.
const MALFORMED: &str =
    r#"{"eventID":"broken","eventName":"INSERT","dynamodb":{"Keys":7,"SequenceNumber":"$SEQUENCE"}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn scene() {
    let folder = std::env::var_os("MONITORING_SCENE").expect("MONITORING_SCENE is not set: use tests/monitoring/run");
    let folder = PathBuf::from(folder);
    let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    aws.script().create_table("returns", 1);
    let disk = tempfile::tempdir().unwrap();
    let (volume, elsewhere) = (disk.path().join("volume"), disk.path().join("elsewhere"));
    std::fs::create_dir(&volume).unwrap();
    let busy = Plan::new(&aws, &sink, "orders,returns").env("RETRY_BACKOFF_MAX", "1s");
    let busy = busy.env("CHECKPOINT_STORE", format!("file:{}/positions.json", volume.display())).start_ready().await;

    let (quiet_aws, quiet_sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let quiet = Plan::new(&quiet_aws, &quiet_sink, "orders").start_ready().await;
    let (leased_aws, leased_sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let dynamodb = EmbeddedDynamoDb::start().await;
    let way = TcpProxy::before(dynamodb.endpoint()).await;
    let leased = Plan::new(&leased_aws, &leased_sink, "orders").keeping_positions_in(&dynamodb);
    let leased = leased.env("CHECKPOINT_TABLE_CREATE", "true").env("LEASE_DURATION", "3s");
    let leased = leased.env("CHECKPOINT_ENDPOINT_URL", way.endpoint()).start_ready().await;
    announce(&folder, &[("busy", &busy), ("busy-leased", &leased), ("quiet", &quiet)]);

    let longest = LONGEST.as_millis() / BEAT.as_millis();
    for beat in 0.. {
        assert!(beat < longest, "nobody has ended the scene");
        if folder.join("stop").exists() {
            break;
        }
        act(beat, &aws, &sink);
        match beat % 200 {
            120 => std::fs::rename(&volume, &elsewhere).unwrap(),
            150 => std::fs::rename(&elsewhere, &volume).unwrap(),
            // For longer than a lease.
            60 => way.set(Line::Closed),
            110 => way.set(Line::Whole),
            _ => {}
        }
        tokio::time::sleep(BEAT).await;
    }
    assert_eq!(busy.terminate().await, Some(0));
    assert_eq!(leased.terminate().await, Some(0));
    assert_eq!(quiet.terminate().await, Some(0));
}

/// Where all can be scraped, as a whole or not at all.
fn announce(folder: &Path, adapters: &[(&str, &Adapter)]) {
    let address = |adapter: &Adapter| adapter.logged("listening")[0]["address"].as_str().unwrap().to_owned();
    let text: String = adapters.iter().map(|(name, adapter)| format!("{name} {}\n", address(adapter))).collect();
    std::fs::write(folder.join("targets.part"), text).unwrap();
    std::fs::rename(folder.join("targets.part"), folder.join("targets")).unwrap();
}

/// What happens in one beat. The whole repeats itself every 20 seconds.
fn act(beat: u128, aws: &FakeAws, sink: &TestSink) {
    let mut world = aws.script();
    for item in 0..5 {
        world.put("orders", &format!("order-{}", (beat * 5 + item) % 40));
    }
    match beat % 200 {
        0 => sink.react(everyday),
        10 => world.put("returns", "poison"),
        20 => world.write_malformed("returns", MALFORMED),
        25 => world.faults.always_for("orders", "GetRecords", Trouble::Error("LimitExceededException")),
        45 => world.faults.clear(),
        50 => world.roll_over_all("orders"),
        // Long enough to count as failing.
        40 => sink.react(|_| Reaction::Status(503)),
        115 => sink.react(everyday),
        100 => world.faults.always_for("returns", "GetRecords", Trouble::Error("AccessDeniedException")),
        170 => world.faults.clear(),
        n if n % 10 == 5 => world.put("returns", &format!("return-{n}")),
        _ => {}
    }
}

/// A little slow, for one item for longer than from one scrape to the next, refuses one item for good, and one request in 25 for a moment.
fn everyday(received: &Received) -> Reaction {
    let dice = received.version + received.earlier as u64 + received.item.bytes().map(u64::from).sum::<u64>();
    match () {
        () if received.item == "poison" => Reaction::Status(422),
        () if received.item == "return-5" => Reaction::After(Duration::from_secs(2), Box::new(Reaction::Status(202))),
        () if dice.is_multiple_of(25) => Reaction::Status(500),
        () => Reaction::After(Duration::from_millis(5 + dice % 40), Box::new(Reaction::Status(202))),
    }
}
