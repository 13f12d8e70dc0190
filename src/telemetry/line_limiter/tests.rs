//! What is logged of a flood, and what is said of the rest.

use std::collections::BTreeMap;

use super::*;
use crate::telemetry::logs::capture;
use crate::telemetry::tests::{every_event, table};
use crate::telemetry::{TableTelemetry, events};

const SECOND: Duration = Duration::from_secs(1);

/// How many lines there are of each kind: level, code, and how the message begins.
fn kinds(lines: &[serde_json::Value]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for line in lines.iter().filter(|line| line["target"] != LEFT_OUT_TARGET) {
        *kinds.entry(kind(line)).or_default() += 1;
    }
    kinds
}

fn kind(line: &serde_json::Value) -> String {
    let message = line["message"].as_str().unwrap().trim_start_matches("lines left out of the log: ");
    let message: String = message.split(": ").next().unwrap().chars().take(LONGEST_MESSAGE).collect();
    format!("{} {} {}", line["level"], line["code"], message)
}

fn park(telemetry: &TableTelemetry, items: std::ops::Range<u64>) {
    for item in items {
        let (item, why) = (format!("{item:08x}"), format!("400 {item}"));
        events::ItemParked { item: &item, event: "e1", why: &why, failures: 3 }.emit(telemetry);
    }
}

/// Runs in a minute of its own, whose end says the rest.
async fn minute(work: impl FnOnce()) -> Vec<serde_json::Value> {
    let now = Instant::now();
    capture::objects(|| {
        work();
        report_left_out(now, false);
        report_left_out(now + MINUTE, false);
        report_left_out(now + 2 * MINUTE, true);
    })
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_parked_items_are_ten_lines_and_the_number_of_the_others() {
    let (_metrics, telemetry) = table();
    telemetry.recent().add("DSA-DATA-LOSS", "before");
    let lines = minute(|| park(&telemetry, 0..10_000)).await;
    assert_eq!(lines.len(), LINES_A_MINUTE as usize + 1, "{lines:?}");
    let rest = &lines[LINES_A_MINUTE as usize];
    assert_eq!((&rest["code"], &rest["level"]), (&"DSA-ITEM-PARKED".into(), &"WARN".into()));
    assert_eq!((&rest["table"], &rest["times"]), (&"orders".into(), &9_990.into()));
    let message = rest["message"].as_str().unwrap();
    assert!(message.ends_with("item parked, its oldest event keeps failing, other items continue"), "{message}");
    assert!(telemetry.recent().newest_first().iter().any(|problem| problem.code == "DSA-DATA-LOSS"));
}

/// Whatever is added to `events` is bounded by where it is logged, and has to be in `every_event`.
#[tokio::test(start_paused = true)]
async fn every_kind_of_event_is_bounded_and_what_is_left_out_is_counted() {
    const TIMES: u64 = 300;
    let (_metrics, telemetry) = table();
    let lines = minute(|| (0..TIMES).for_each(|_| every_event(&telemetry))).await;
    let once = kinds(&capture::objects(|| every_event(&table().1)));
    let mut left_out: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines.iter().filter(|line| line["target"] == LEFT_OUT_TARGET && line["times"] != 9) {
        *left_out.entry(kind(line)).or_default() += line["times"].as_u64().unwrap();
    }
    for (kind, count) in kinds(&lines).into_iter().filter(|(kind, _)| !kind.starts_with("\"DEBUG\"")) {
        // Two places log the same text, for a table and for the process.
        assert!(count <= once[&kind] * u64::from(LINES_A_MINUTE), "{kind}: {count}");
        let has_own_count = count <= once[&kind];
        let all = count + left_out.remove(&kind).unwrap_or_default();
        assert!(has_own_count || all == TIMES * once[&kind], "{kind}: {all}");
    }
    assert!(left_out.is_empty(), "{left_out:?}");
}

/// `every_event` misses none, so that the tests of all events are tests of all events.
#[test]
fn no_event_is_missing_in_the_tests_of_all() {
    let sources =
        [include_str!("../events.rs"), include_str!("../events/reading.rs"), include_str!("../events/delivery.rs")];
    let tests = include_str!("../tests.rs");
    let declared = sources.iter().flat_map(|source| source.lines()).filter_map(|line| line.strip_prefix("pub struct "));
    // Of single attempts; nobody hears of them who does not ask for it.
    let names = declared.map(|rest| rest.split(['<', ' ', ';']).next().unwrap()).filter(|name| *name != "AttemptEnded");
    let mut count = 0;
    for name in names {
        assert!(tests.contains(&format!("    {name} {{")) || tests.contains(&format!("    {name}.emit")), "{name}");
        count += 1;
    }
    assert!(count > 30, "only {count} events were found");
}

/// A sink that fails and recovers all the time.
#[tokio::test(start_paused = true)]
async fn two_thousand_changes_of_a_sink_that_fails_now_and_then_are_twenty_lines_a_minute() {
    let lines = capture::objects(|| {
        for change in 0..2_000 {
            events::SinkFailing { why: &format!("503 of {change}"), is_refusing: false }.emit();
            events::SinkRecovered { after: SECOND }.emit();
        }
    });
    assert_eq!(lines.len(), 2 * LINES_A_MINUTE as usize);
}

#[tokio::test(start_paused = true)]
async fn each_table_has_lines_of_its_own_and_each_minute_new_ones() {
    let (metrics, orders) = table();
    let customers = TableTelemetry::new("customers", &metrics);
    let lines = minute(|| {
        park(&orders, 0..100);
        park(&customers, 0..5);
    })
    .await;
    let of = |table: &str| lines.iter().filter(|line| line["table"] == table).count();
    assert_eq!((of("orders"), of("customers")), (LINES_A_MINUTE as usize + 1, 5));
}

#[tokio::test(start_paused = true)]
async fn what_was_left_out_is_said_once_and_a_minute_after_it_began() {
    let (_metrics, telemetry) = table();
    let now = Instant::now();
    let said = capture::objects(|| {
        park(&telemetry, 0..20);
        report_left_out(now + MINUTE - SECOND, false);
        park(&telemetry, 0..1);
        report_left_out(now + MINUTE, false);
        report_left_out(now + 2 * MINUTE, false);
    });
    let times: Vec<_> =
        said.iter().filter(|line| line["target"] == LEFT_OUT_TARGET).map(|line| &line["times"]).collect();
    assert_eq!(times, [&serde_json::Value::from(11)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_minute_has_new_lines_and_nothing_is_lost_in_between() {
    let limiter = LineLimiter::default();
    let subscriber = tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), limiter);
    let dispatch = tracing::Dispatch::new(subscriber);
    let limiter = dispatch.downcast_ref::<LineLimiter>().unwrap();
    let flood = || tracing::dispatcher::with_default(&dispatch, || park(&table().1, 0..100));
    flood();
    tokio::time::advance(MINUTE).await;
    flood();
    let left_out = limiter.take_left_out(Instant::now(), false);
    assert_eq!(left_out.iter().map(|left_out| left_out.times).sum::<u64>(), 2 * 90);
}

#[test]
fn tables_without_end_do_not_fill_the_memory() {
    let labels = |table: &str| Labels { table: table.to_owned(), ..Labels::default() };
    let (mut kinds, now) = (BTreeMap::new(), Instant::now());
    for table in 0..2 * MAX_KINDS {
        let key = key_for(&mut kinds, "a place", labels(&table.to_string()), now);
        kinds.entry(key).or_insert_with(|| Kind { since: now, lines: 1, left_out: None });
    }
    assert_eq!(kinds.len(), MAX_KINDS + 1, "the others share one");
    let later = now + MINUTE;
    assert_eq!(key_for(&mut kinds, "a place", labels("new"), later).1, labels("new"));
    assert!(kinds.is_empty(), "what is over is forgotten");
}

#[test]
fn who_asks_for_details_gets_all_of_them() {
    let (_metrics, telemetry) = table();
    let lines = capture::objects(|| {
        for _ in 0..100 {
            events::AttemptEnded { event: "e1", events: 1, code: "202", took: SECOND }.emit(&telemetry);
        }
    });
    assert_eq!(lines.len(), 100);
}
