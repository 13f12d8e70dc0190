//! Answers of services that are compatible with DynamoDB Streams, in all the forms that the AWS SDK reads.

use serde_json::json;

use crate::service::{iterators, record, serve};
use crate::support::adapter::Plan;
use crate::support::sink::TestSink;
use crate::support::wait_for;

/// What a quiet shard says, in each way.
const QUIET: [&str; 6] = [
    r#"{"NextShardIterator":"x"}"#,
    r#"{"Records":null,"NextShardIterator":"x"}"#,
    r#"{"Records":[],"NextShardIterator":"x","Added":{"Later":[null]}}"#,
    r#"{"NextShardIterator":""}"#,
    r#"{"Records":[],"NextShardIterator":""}"#,
    "\n { \"NextShardIterator\" : \"x\" } ",
];

/// Lengths of sequence numbers: of DynamoDB Local, AWS, LocalStack, and beyond all that are known.
const DIGITS: [usize; 9] = [1, 21, 40, 41, 56, 63, 64, 78, 79];

fn page(records: &[serde_json::Value]) -> String {
    json!({"Records": records, "NextShardIterator": "next"}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_shard_is_quiet_in_whatever_form_the_service_says_so() {
    for quiet in QUIET {
        let (service, pages) = serve(&[quiet.to_owned()]).await;
        let sink = TestSink::start().await;
        let adapter = Plan::at(&service.url(), &sink, "orders").start_ready().await;
        let asked = || service.seen().iter().filter(|seen| seen.header("x-amz-target").ends_with("GetRecords")).count();
        let before = asked();
        wait_for("further pages", || asked() >= before + 3).await;
        assert_eq!(adapter.metric("aws_calls_total", &[("result", "malformed")]).await, 0.0, "{quiet}");
        assert_eq!(adapter.get("/readyz").await.0, 200, "{quiet}");
        *pages.lock().unwrap() = vec![page(&[record("100000000000000000001")]), quiet.to_owned()];
        wait_for("a change behind it", || sink.distinct() == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_number_of_whatever_length_is_delivered_stored_and_gone_on_from() {
    for digits in DIGITS {
        let numbers: Vec<String> = (1..=3).map(|last| format!("{last:0>digits$}").replacen('0', "3", 1)).collect();
        let records: Vec<_> = numbers.iter().map(|number| record(number)).collect();
        let (service, pages) = serve(&[page(&records[..2]), page(&[])]).await;
        let (sink, folder) = (TestSink::start().await, tempfile::tempdir().unwrap());
        let plan = Plan::at(&service.url(), &sink, "orders").keeping_positions(&folder);
        let adapter = plan.start_ready().await;
        wait_for("both changes", || sink.distinct() == 2).await;
        let mut events = sink.received();
        events.sort_by(|one, other| one.sequence().cmp(other.sequence()));
        let width = digits.max(40);
        for (event, number) in events.iter().zip(&numbers) {
            assert_eq!(event.sequence(), number);
            assert_eq!(event.attributes["sequence"], format!("{number:0>width$}"), "{digits} digits");
        }
        assert_eq!(adapter.terminate().await, Some(0));
        let stored = std::fs::read_to_string(folder.path().join("positions.json")).unwrap();
        assert!(stored.contains(&numbers[1]), "{digits} digits: {stored}");

        *pages.lock().unwrap() = vec![page(&records), page(&[])];
        let _second = plan.start_ready().await;
        wait_for("the change behind the stored position", || sink.distinct() == 3).await;
        assert_eq!(sink.received().len(), 3, "nothing is repeated: {digits} digits");
        assert_eq!(iterators(&service).last().unwrap()["SequenceNumber"], numbers[1].as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_width_holds_for_all_sequence_numbers_of_a_stream() {
    let long = "4".repeat(56);
    let (service, _pages) =
        serve(&[page(&[record("7"), record(&long)]), page(&[record(&"5".repeat(56))]), page(&[])]).await;
    let sink = TestSink::start().await;
    let _adapter = Plan::at(&service.url(), &sink, "orders").start_ready().await;
    wait_for("all changes", || sink.distinct() == 3).await;
    let padded: Vec<usize> = sink.received().iter().map(|event| event.attributes["sequence"].len()).collect();
    assert_eq!(padded, [56, 56, 56]);
}

/// What makes a record one that cannot be told.
fn spoilt(kind: usize, number: usize) -> serde_json::Value {
    let mut spoilt = record(&format!("1{number:020}"));
    match kind {
        0 => spoilt["dynamodb"]["SequenceNumber"] = "49-1".into(),
        6 => spoilt["dynamodb"]["SequenceNumber"] = "4".repeat(80).into(),
        1 => spoilt["dynamodb"]["SequenceNumber"] = serde_json::Value::Null,
        2 => spoilt["dynamodb"] = serde_json::Value::Null,
        3 => spoilt["eventName"] = "READ".into(),
        4 => spoilt["dynamodb"]["Keys"] = json!({}),
        _ => spoilt["eventID"] = serde_json::Value::Null,
    }
    spoilt
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_which_no_record_can_be_decoded_is_not_ready_and_says_so_once() {
    for kind in 0..7 {
        let records: Vec<_> = (0..80).map(|number| spoilt(kind, number)).collect();
        let (service, pages) = serve(&[page(&records), page(&[])]).await;
        let sink = TestSink::start().await;
        let adapter = Plan::at(&service.url(), &sink, "orders").start().await;
        wait_for("a word about it", || !adapter.logged_code("DSA-UNDECODABLE").is_empty()).await;
        wait_for("a gap event each", || sink.distinct() == 80).await;
        while !adapter.get("/readyz").await.1.contains("no record can be decoded") {
            tokio::task::yield_now().await;
        }
        assert_eq!(adapter.get("/readyz").await.0, 503, "kind {kind}");
        assert_eq!(adapter.logged_code("DSA-UNDECODABLE").len(), 1, "kind {kind}");
        *pages.lock().unwrap() = vec![page(&[record("900000000000000000001")]), page(&[])];
        adapter.wait_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_that_cannot_be_decoded_is_a_gap_and_no_more() {
    let records = [record("100000000000000000001"), spoilt(0, 2), record("100000000000000000003")];
    let (service, _pages) = serve(&[page(&records), page(&[])]).await;
    let sink = TestSink::start().await;
    let adapter = Plan::at(&service.url(), &sink, "orders").start_ready().await;
    wait_for("two changes and a gap", || sink.distinct() == 3).await;
    assert_eq!(adapter.get("/readyz").await.0, 200);
    assert!(adapter.logged_code("DSA-UNDECODABLE").is_empty());
}
