//! What is logged, with which code and how often; what is remembered for the status page.

use std::collections::BTreeSet;

use super::logs::capture;
use super::*;

pub(super) fn table() -> (Metrics, Arc<TableTelemetry>) {
    let metrics = Metrics::new("1", "r").unwrap();
    let telemetry = TableTelemetry::new("orders", &metrics);
    (metrics, telemetry)
}

/// Runbook pages are found by code, and alerts are written on it.
#[test]
fn every_warning_and_error_has_a_code_and_nothing_else_has() {
    let (metrics, telemetry) = table();
    let lines = capture::objects(|| every_event(&telemetry));
    let mut seen = BTreeSet::new();
    for line in &lines {
        let severe = matches!(line["level"].as_str(), Some("WARN" | "ERROR"));
        assert_eq!(severe, line["code"].is_string(), "{line}");
        let Some(code) = line["code"].as_str() else { continue };
        assert!(code.starts_with("DSA-") && code == code.to_uppercase(), "{code}");
        assert!(events::CODES.contains(&code), "{code} is not in the list");
        seen.insert(code);
    }
    let listed: BTreeSet<&str> = events::CODES.iter().copied().collect();
    assert_eq!(seen, listed, "every code in the list belongs to an event");
    assert_eq!(listed.len(), events::CODES.len(), "no code is in the list twice");
    let text = metrics.encode().unwrap();
    assert!(text.contains(r#"data_loss_total{reason="trimmed",table="orders"} 1"#), "{text}");
    assert!(text.contains(r#"shard_handover_seconds_count{table="orders"} 1"#), "{text}");
}

#[test]
fn what_concerns_a_table_names_it() {
    let (_metrics, telemetry) = table();
    let lines = capture::objects(|| every_event(&telemetry));
    let process_wide = [
        "starting",
        "the trigger",
        "no replica of the scaler",
        "this replica of the scaler",
        "another replica of the scaler",
        "the certificate of the scaler",
        "a warning",
        "listening",
        "the sink",
        "positions are stored, their volume",
        "more items of a shard",
        "a sink file",
        "delivery stopped",
        "shutting down",
        "stopped",
        "the HTTP server",
        "a fault of the adapter itself: the dispatcher",
        "a part of the adapter is blocked",
        "no part of the adapter is blocked",
    ];
    for line in lines {
        let message = line["message"].as_str().unwrap();
        if message.contains("the stored positions") {
            // They are one table's, or the whole process's.
            continue;
        }
        let expected = !process_wide.iter().any(|start| message.starts_with(start));
        assert_eq!(line["table"] == "orders", expected, "{line}");
    }
}

/// The table of `docs/operations.md`: code, level, beginning of the message, fields.
fn stable_texts() -> Vec<[String; 4]> {
    let page = include_str!("../../docs/operations.md");
    let (_, section) = page.split_once("\n## Stable texts\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|')).skip(1);
    let cell = |text: &str| text.trim().trim_end_matches(", for example").trim_matches('`').to_owned();
    rows.map(|row| row.split('|').map(cell).collect::<Vec<_>>().try_into().unwrap()).collect()
}

/// Whether a line is the one that a row describes.
fn is_stable(line: &serde_json::Value, [code, level, beginning, fields]: &[String; 4]) -> bool {
    let named: BTreeSet<&str> = fields.split(", ").map(|name| name.trim_matches('`')).collect();
    let own = |name: &&str| !["code", "level", "message", "target", "timestamp", ""].contains(name);
    let has: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).filter(own).collect();
    line["code"].as_str().unwrap_or_default() == code
        && line["level"] == **level
        && line["message"].as_str().unwrap().starts_with(&beginning.replace("<operation>", "GetRecords"))
        && has == named.into_iter().filter(own).collect()
}

/// Operators search for these texts, and alerts are written on them: a text that changes here breaks what they have.
#[test]
fn the_texts_that_the_documents_call_stable_are_the_ones_that_are_logged() {
    let (_metrics, telemetry) = table();
    let in_memory = crate::config::Warning::PositionsInMemory.to_string();
    let lines = capture::objects(|| {
        every_event(&telemetry);
        events::ConfigWarning { text: &in_memory }.emit();
    });
    let rows = stable_texts();
    assert!(rows.len() > 25, "only {} rows were found", rows.len());
    for row in &rows {
        assert!(lines.iter().any(|line| is_stable(line, row)), "no event logs {row:?}");
    }
    for line in lines.iter().filter(|line| line["code"].is_string() && line["message"] != "a warning") {
        assert!(rows.iter().any(|row| is_stable(line, row)), "docs/operations.md does not list {line}");
    }
}

fn scaler_events(table: &str) {
    use events::*;
    ScalerStarting { version: "1", has_tls: true }.emit();
    ScalerTableFailing { table, why: "no stream" }.emit();
    ScalerTableRecovered { table }.emit();
    ScalerTableActive { table }.emit();
    ScalerTableInactive { table }.emit();
    ScalerTriggerIgnores { namespace: "shop", name: "consumer", what: "identityOwner" }.emit();
    ScalerTriggerRefused { namespace: "shop", name: "consumer", why: "no rule allows this" }.emit();
    ScalerReads.emit();
    ScalerAsks { address: "10.0.3.7:6000" }.emit();
    ScalerTlsLoaded.emit();
    ScalerTlsFailing { why: "it does not exist" }.emit();
}

pub(super) fn every_event(telemetry: &TableTelemetry) {
    ScalerReaderFailing { why: "no answer in time" }.emit(telemetry);
    use events::*;
    let (stream, shard, took) = ("arn/stream/1", "shardId-1", Duration::from_millis(20));
    Starting { version: "1", tables: "orders", sink: "http://sink" }.emit();
    ConfigWarning { text: "a warning" }.emit();
    Listening { address: "127.0.0.1:1".parse().unwrap() }.emit();
    let (code, table) = (Some("DSA-ITEM-PARKED"), Some(telemetry.table()));
    LinesLeftOut { level: tracing::Level::WARN, code, table, message: "item parked", times: 9 }.emit();
    LinesLeftOut { level: tracing::Level::INFO, code: None, table, message: "reading shard", times: 9 }.emit();
    StreamOpened { stream, start: "latest" }.emit(telemetry);
    NothingStored { stream }.emit(telemetry);
    StreamListed { stream, reading: 1, waiting: 2, finished: 3 }.emit(telemetry);
    StreamAwaited { what: "a stream" }.emit(telemetry);
    StreamEnded { stream, why: "drained" }.emit(telemetry);
    ShardLate { stream, shard }.emit(telemetry);
    ShardOpened { stream, shard, from: "Start" }.emit(telemetry);
    ShardEnded { stream, shard }.emit(telemetry);
    ShardHandedOver { stream, shard, took }.emit(telemetry);
    for class in [RefusalClass::Denied, RefusalClass::Throttled, RefusalClass::Failing] {
        AwsRefused { class, aws_code: "X", text: "GetRecords failed: service error", times: 1 }.emit(telemetry);
    }
    AwsRecovered { after: took }.emit(telemetry);
    DataLost { stream, shard: Some(shard), position: "Start", reason: "trimmed", detail: "gone" }.emit(telemetry);
    FurtherDataLost { reason: "trimmed", times: 9 }.emit(telemetry);
    StillStopped { why: "gone" }.emit(telemetry);
    NothingDecodable { why: "no Keys" }.emit(telemetry);
    DecodableAgain.emit(telemetry);
    ItemParked { item: "10000000", event: "e1", why: "400", failures: 3 }.emit(telemetry);
    EventDropped { item: "10000000", event: "e1", why: "400", attempts: 1 }.emit(telemetry);
    EventDeadLettered { item: "10000000", event: "e1", why: "400", attempts: 1 }.emit(telemetry);
    DeadLetterSinkFailing { why: "503" }.emit(telemetry);
    DeliveryFailed { why: "503" }.emit(telemetry);
    SinkFailing { why: "503", is_refusing: false }.emit();
    SinkFailing { why: "400", is_refusing: true }.emit();
    SinkFileUnusable { text: "/token does not exist", stops_delivery: true }.emit();
    SinkFileUnusable { text: "/ca/one.pem cannot be used", stops_delivery: false }.emit();
    SinkFileUsable { path: "/token" }.emit();
    SinkRecovered { after: took }.emit();
    CheckpointFailed { error: "no space left" }.emit(telemetry);
    for table in [None, Some("orders")] {
        PositionsAwaited { table, why: "in use" }.emit();
        PositionsThere { table }.emit();
    }
    VolumeLacks { path: "positions.json", what: "it cannot sync a folder", error: "no" }.emit();
    CheckpointRecovered { failed: 1 }.emit(telemetry);
    HeadsLeftOut { positions: "default arn", heads: 9, saves: 1 }.emit();
    LeaseAwaited { owner: "pod 1", duration: took }.emit(telemetry);
    LeaseTaken { owner: "pod 2", epoch: 1, was_released: false }.emit(telemetry);
    LeaseLost { why: "another process has it" }.emit(telemetry);
    LeaseStoreFailing { error: "no answer" }.emit(telemetry);
    LeaseStoreRecovered.emit(telemetry);
    LeaseReleased.emit(telemetry);
    scaler_events(telemetry.table());
    AdminFailed { error: "gone" }.emit();
    Fault { what: "the dispatcher has ended" }.emit();
    TableFault { what: "an unknown shard" }.emit(telemetry);
    Stalled { what: Some("the dispatcher starts no request") }.emit();
    Stalled { what: None }.emit();
    ShutdownBegun { in_flight: 1 }.emit();
    ShutdownFinished { unsettled: 0, took }.emit();
}

#[test]
fn the_newest_are_kept_and_come_first() {
    let recent = RecentProblems::default();
    for number in 0..=MOST_PROBLEMS {
        recent.add("DSA-AWS-FAILING", &format!("number {number}"));
    }
    let texts: Vec<String> = recent.newest_first().into_iter().map(|problem| problem.text).collect();
    assert_eq!(texts.len(), MOST_PROBLEMS);
    assert_eq!((texts[0].as_str(), texts[MOST_PROBLEMS - 1].as_str()), ("number 20", "number 1"));
}

#[test]
fn a_long_text_is_cut_between_characters() {
    assert_eq!(shortened(&"é".repeat(LONGEST_TEXT)), "é".repeat(LONGEST_TEXT));
    assert_eq!(shortened(&"é".repeat(LONGEST_TEXT + 1)), format!("{}…", "é".repeat(LONGEST_TEXT)));
}

#[test]
fn the_first_is_reported_and_then_one_a_minute_with_a_count() {
    let (reports, now) = (ReportLimiter::default(), Instant::now());
    assert_eq!(reports.report_due("a", now), Some(1));
    assert_eq!(reports.report_due("b", now), Some(1));
    for second in 1..60 {
        assert_eq!(reports.report_due("a", now + Duration::from_secs(second)), None);
    }
    assert_eq!(reports.report_due("a", now + REPORT_INTERVAL), Some(60));
    assert_eq!(reports.report_due("a", now + REPORT_INTERVAL), None);
    assert_eq!(reports.forget_kind("a"), Some(62));
    assert_eq!(reports.forget_kind("a"), None);
    assert_eq!(reports.report_due("a", now + REPORT_INTERVAL), Some(1));
}

#[test]
fn what_was_held_back_is_reported_when_a_minute_is_over() {
    let (reports, now) = (ReportLimiter::default(), Instant::now());
    assert_eq!(reports.report_pending("a", now + REPORT_INTERVAL), None, "nothing happened");
    assert_eq!(reports.report_due("a", now), Some(1));
    assert_eq!(reports.report_pending("a", now + REPORT_INTERVAL), None, "all was reported");
    for second in [1, 2] {
        assert_eq!(reports.report_due("a", now + Duration::from_secs(second)), None);
    }
    assert_eq!(reports.report_pending("a", now + Duration::from_secs(59)), None, "the minute is not over");
    assert_eq!(reports.report_pending("a", now + REPORT_INTERVAL), Some(2));
    assert_eq!(reports.report_due("a", now + 2 * REPORT_INTERVAL), Some(1));
}

/// A table that was not read for days has lost something in each of its shards.
#[tokio::test(start_paused = true)]
async fn a_thousand_losses_of_a_table_are_counted_and_two_lines() {
    let (metrics, telemetry) = table();
    let lose = |reason| {
        events::DataLost { stream: "arn", shard: Some("shardId-1"), position: "Start", reason, detail: "gone" }
            .emit(&telemetry);
    };
    let lines = capture::objects(|| {
        (0..1000).for_each(|_| lose("trimmed"));
        lose("undecodable");
        events::FurtherDataLost::emit_pending(&telemetry);
    });
    assert_eq!(lines.len(), 2, "one line a reason: {lines:?}");
    tokio::time::advance(REPORT_INTERVAL).await;
    let later = capture::objects(|| events::FurtherDataLost::emit_pending(&telemetry));
    assert_eq!(later.len(), 1, "{later:?}");
    assert_eq!((&later[0]["reason"], &later[0]["times"]), (&"trimmed".into(), &999.into()));
    let text = metrics.encode().unwrap();
    assert!(text.contains(r#"data_loss_total{reason="trimmed",table="orders"} 1000"#), "{text}");
    let recent = telemetry.recent().newest_first();
    assert_eq!(recent.len(), 3, "other problems are not pushed out: {recent:?}");
}

/// A refusal whose text is another one each time is not news each time.
#[test]
fn kinds_without_end_neither_fill_the_memory_nor_are_reported_each() {
    let (reports, now) = (ReportLimiter::default(), Instant::now());
    let due = |from: usize, now: Instant| {
        (from..from + 10 * MAX_KINDS).filter_map(|kind| reports.report_due(&kind.to_string(), now)).count()
    };
    assert_eq!(due(0, now), MAX_KINDS + 1);
    assert_eq!(due(1_000_000, now), 0, "all others are one kind, and that was reported");
    assert!(reports.0.lock().unwrap().len() <= MAX_KINDS + 1);
    let later = now + REPORT_INTERVAL;
    assert_eq!(due(2_000_000, later), MAX_KINDS, "what is over is forgotten");
    assert!(reports.0.lock().unwrap().len() <= MAX_KINDS + 1);
}

#[test]
fn many_problems_of_one_code_do_not_push_out_the_others() {
    let recent = RecentProblems::default();
    recent.add("DSA-DATA-LOSS", "the loss");
    (0..10_000).for_each(|number| recent.add("DSA-ITEM-PARKED", &format!("item {number}")));
    recent.add("DSA-AWS-FAILING", "refused");
    let problems = recent.newest_first();
    assert_eq!(problems.len(), MOST_PROBLEMS);
    assert_eq!((&*problems[0].text, &*problems[1].text), ("refused", "item 9999"));
    (0..10_000).for_each(|number| recent.add("DSA-AWS-FAILING", &format!("call {number}")));
    let problems = recent.newest_first();
    let of = |code: &str| problems.iter().filter(|problem| problem.code == code).count();
    assert!(of("DSA-ITEM-PARKED") >= MOST_OF_A_CODE, "{problems:?}");
    assert_eq!((of("DSA-AWS-FAILING"), problems.len()), (MOST_OF_A_CODE, MOST_PROBLEMS));
    assert_eq!(problems[0].text, "call 9999");
}
