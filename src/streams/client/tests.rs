//! What the rest of the program relies on when it calls AWS, seen on the wire.

mod embedded;
pub(crate) mod fake;

use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use bytes::Bytes;
use serde_json::json;

use self::fake::{Answer, Fake, timeouts};
use super::aws::AwsClient;
use super::{IteratorStart, ListedShard, ShardQuery, StreamStatus, StreamsClient};
use crate::aws::errors::{CallError, ErrorKind};
use crate::records::tests::oracle;

const SAMPLE: &[u8] = include_bytes!("../../../tests/data/aws-record.json");
const STREAM: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678";

async fn client(fake: &Fake) -> AwsClient {
    AwsClient::new(&fake.loader().load().await)
}

async fn failure(answer: Answer) -> (CallError, usize) {
    let fake = Fake::answering([answer]).await;
    let error = client(&fake).await.get_records("iterator", 1_000).await.expect_err("a failed call");
    (error, fake.seen().len())
}

#[tokio::test]
async fn a_page_holds_what_the_sdk_would_have_read() {
    let fake = Fake::answering([Answer::ok(SAMPLE)]).await;
    let config = fake.loader().load().await;
    let page = AwsClient::new(&config).get_records("iterator", 1_000).await.expect("a page");
    let typed = aws_sdk_dynamodbstreams::Client::new(&config)
        .get_records()
        .shard_iterator("iterator")
        .limit(1_000)
        .send()
        .await;
    assert_eq!(page.records.len(), 9);
    oracle::assert_same(&page, &typed.expect("a page"));
    let [ours, theirs] = [0, 1].map(|index| fake.seen()[index].clone());
    assert_eq!((&ours.operation, &ours.text), (&theirs.operation, &theirs.text));
    assert!(ours.authorization.contains("/eu-west-1/dynamodb/aws4_request"), "{}", ours.authorization);
}

#[tokio::test]
async fn a_page_that_was_read_is_the_body_itself() {
    let fake = Fake::answering([Answer::ok(SAMPLE)]).await;
    let page = client(&fake).await.get_records("iterator", 1_000).await.expect("a page");
    let raw: Vec<&str> = page.records.iter().map(|record| record.as_ref().expect("decodable").raw()).collect();
    let sample = std::str::from_utf8(SAMPLE).expect("text");
    assert!(raw.iter().all(|raw| sample.contains(raw)));
}

#[tokio::test]
async fn each_error_asks_for_its_own_reaction() {
    let codes = [
        ("ExpiredIteratorException", ErrorKind::ExpiredIterator),
        ("TrimmedDataAccessException", ErrorKind::Trimmed),
        ("ResourceNotFoundException", ErrorKind::NotFound),
        ("LimitExceededException", ErrorKind::LimitExceeded),
        ("ThrottlingException", ErrorKind::Throttled),
        ("Throttling", ErrorKind::Throttled),
        ("ProvisionedThroughputExceededException", ErrorKind::Throttled),
        ("RequestLimitExceeded", ErrorKind::Throttled),
        ("AccessDeniedException", ErrorKind::Denied),
        ("UnrecognizedClientException", ErrorKind::Denied),
        ("ExpiredTokenException", ErrorKind::Denied),
        ("InvalidSignatureException", ErrorKind::Denied),
        ("MissingAuthenticationToken", ErrorKind::Denied),
        ("InvalidClientTokenId", ErrorKind::Denied),
        ("IncompleteSignature", ErrorKind::Denied),
        ("ValidationException", ErrorKind::Other),
        ("SomethingNewException", ErrorKind::Other),
    ];
    for (code, kind) in codes {
        let (error, _) = failure(Answer::error(400, code, "says AWS")).await;
        assert_eq!((error.operation, error.kind, &*error.code), ("GetRecords", kind, code));
        assert!(error.message.contains(code) && error.message.contains("says AWS"), "{}", error.message);
        assert!(error.message.contains("REQUEST1"), "{}", error.message);
    }
    let (error, _) = failure(Answer::error(500, "InternalServerError", "says AWS")).await;
    assert_eq!((error.kind, &*error.code), (ErrorKind::Other, "InternalServerError"));
}

#[tokio::test]
async fn only_what_may_pass_is_tried_again_at_once() {
    for code in ["ThrottlingException", "LimitExceededException", "ProvisionedThroughputExceededException"] {
        assert_eq!(failure(Answer::error(400, code, "")).await.1, 3, "{code}");
    }
    assert_eq!(failure(Answer::error(500, "InternalServerError", "")).await.1, 3);
    for code in
        ["AccessDeniedException", "ExpiredIteratorException", "TrimmedDataAccessException", "ValidationException"]
    {
        assert_eq!(failure(Answer::error(400, code, "")).await.1, 1, "{code}");
    }
}

#[tokio::test]
async fn a_denial_names_the_action_to_allow() {
    let fake = Fake::answering([Answer::error(400, "AccessDeniedException", "no")]).await;
    let client = client(&fake).await;
    let errors = [
        ("DescribeTable", client.describe_table("Orders").await.expect_err("denied")),
        ("ListStreams", client.list_streams("Orders").await.expect_err("denied")),
        ("DescribeStream", client.describe_stream(STREAM, ShardQuery::First).await.expect_err("denied")),
        ("GetShardIterator", client.get_shard_iterator(STREAM, "s", IteratorStart::Oldest).await.expect_err("denied")),
        ("GetRecords", client.get_records("iterator", 1_000).await.expect_err("denied")),
    ];
    for (operation, error) in errors {
        assert_eq!((error.operation, error.kind), (operation, ErrorKind::Denied));
        assert!(error.message.contains(&format!("dynamodb:{operation}")), "{}", error.message);
        assert!(!error.message.contains("secret"), "{}", error.message);
    }
}

#[tokio::test]
async fn without_credentials_the_message_says_what_to_set() {
    let fake = Fake::answering([Answer::ok(SAMPLE)]).await;
    let none = aws_credential_types::provider::future::ProvideCredentials::ready;
    let missing = move || none(Err(aws_credential_types::provider::error::CredentialsError::not_loaded("none here")));
    let config = fake.loader().credentials_provider(Provider(missing)).load().await;
    let error = AwsClient::new(&config).get_records("iterator", 1_000).await.expect_err("denied");
    assert_eq!((error.kind, &*error.code), (ErrorKind::Denied, "credentials"));
    assert!(error.message.contains("AWS_ACCESS_KEY_ID") && error.message.contains("none here"), "{}", error.message);
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn an_answer_without_a_code_is_an_ordinary_failure() {
    for (status, code) in [(500, "http-500"), (503, "http-503"), (404, "http-404")] {
        let html = Answer::Whole(status, vec![("content-type", "text/html")], "<html>oops</html>".into());
        let (error, _) = failure(html).await;
        assert_eq!((error.kind, &*error.code), (ErrorKind::Other, code), "{}", error.message);
        assert!(error.message.contains(&status.to_string()), "{}", error.message);
        assert!(!error.message.contains('\n'), "{}", error.message);
    }
    let (error, _) = failure(Answer::Whole(429, Vec::new(), "".into())).await;
    assert_eq!((error.kind, &*error.code), (ErrorKind::Throttled, "http-429"));
}

#[tokio::test]
async fn a_body_that_is_no_page_is_fetched_again() {
    for body in ["", "<html>", "[]", r#"{"Records":[{"#] {
        let (error, attempts) = failure(Answer::ok(body)).await;
        assert_eq!((error.kind, &*error.code, attempts), (ErrorKind::Other, "malformed", 3), "{body}");
    }
    let fake = Fake::answering([Answer::ok("<html>"), Answer::ok(r#"{"Records":[]}"#)]).await;
    let page = client(&fake).await.get_records("iterator", 1_000).await.expect("the second answer");
    assert_eq!((page.records.len(), page.next_iterator), (0, None));
}

#[tokio::test]
async fn a_body_that_was_cut_off_is_fetched_again() {
    let cut = || Answer::CutOff(SAMPLE.len(), Bytes::from_static(&SAMPLE[..SAMPLE.len() / 2]));
    let (error, attempts) = failure(cut()).await;
    assert_eq!((error.kind, &*error.code, attempts), (ErrorKind::Other, "other", 3), "{}", error.message);
    assert!(error.message.contains("body"), "{}", error.message);
    let fake = Fake::answering([cut(), Answer::ok(SAMPLE)]).await;
    assert_eq!(client(&fake).await.get_records("iterator", 1_000).await.expect("a page").records.len(), 9);
}

#[tokio::test]
async fn a_call_ends_by_itself_when_no_answer_comes() {
    let fake = Fake::answering([Answer::Never]).await;
    let once = RetryConfig::standard().with_max_attempts(1);
    let loader = fake.loader().timeout_config(timeouts(Duration::from_millis(100))).retry_config(once);
    let client = AwsClient::new(&loader.load().await);
    let call = tokio::time::timeout(Duration::from_secs(20), client.get_records("iterator", 1_000));
    let error = call.await.expect("the call ended").expect_err("no answer");
    assert_eq!((error.kind, &*error.code), (ErrorKind::Other, "timeout"), "{}", error.message);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_an_ordinary_failure() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let fake = Fake::answering([Answer::Never]).await;
    let loader = fake.loader().endpoint_url(format!("http://{}", gone.local_addr().expect("an address")));
    drop(gone);
    let error = AwsClient::new(&loader.load().await).get_records("iterator", 1_000).await.expect_err("nobody answers");
    assert_eq!((error.kind, &*error.code), (ErrorKind::Other, "connect"), "{}", error.message);
}

fn described() -> serde_json::Value {
    json!({"StreamDescription": {
        "StreamArn": STREAM,
        "TableName": "Orders",
        "StreamStatus": "ENABLED",
        "StreamViewType": "NEW_AND_OLD_IMAGES",
        "KeySchema": [{"AttributeName": "line", "KeyType": "RANGE"}, {"AttributeName": "orderId", "KeyType": "HASH"}],
        "Shards": [{"ShardId": "parent"}, {"ShardId": "child", "ParentShardId": "parent"}],
        "LastEvaluatedShardId": "child",
    }})
}

#[tokio::test]
async fn a_stream_is_described_with_the_services_own_clock() {
    let dated = |date| Answer::Whole(200, vec![("date", date)], described().to_string().into());
    let fake = Fake::answering([dated("Fri, 02 Jan 2026 03:04:05 GMT"), dated("not a date")]).await;
    let client = client(&fake).await;
    let stream = client.describe_stream(STREAM, ShardQuery::First).await.expect("a description");
    assert_eq!(stream.answered_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045)));
    assert_eq!((&*stream.table, stream.status), ("Orders", StreamStatus::Enabled));
    assert_eq!(stream.view_type.as_deref(), Some("NEW_AND_OLD_IMAGES"));
    assert_eq!(stream.key_schema, ["orderId", "line"]);
    let parent = ListedShard { id: "parent".into(), parent: None, has_ended: false };
    let child = ListedShard { id: "child".into(), parent: Some("parent".into()), has_ended: false };
    assert_eq!((stream.shards, stream.next.as_deref()), (vec![parent, child], Some("child")));
    let undated = client.describe_stream(STREAM, ShardQuery::First).await.expect("a description");
    assert_eq!(undated.answered_at, None);
}

#[tokio::test]
async fn shards_are_asked_for_as_the_service_knows_it() {
    let fake = Fake::answering([Answer::ok(described().to_string())]).await;
    let client = client(&fake).await;
    for shards in [ShardQuery::First, ShardQuery::Behind("s1"), ShardQuery::ChildrenOf("s1")] {
        client.describe_stream(STREAM, shards).await.expect("a description");
    }
    let asked: Vec<_> = fake.seen().iter().map(fake::Seen::json).collect();
    assert_eq!(asked[0], json!({"StreamArn": STREAM}));
    assert_eq!(asked[1], json!({"StreamArn": STREAM, "ExclusiveStartShardId": "s1"}));
    let filter = json!({"Type": "CHILD_SHARDS", "ShardId": "s1"});
    assert_eq!(asked[2], json!({"StreamArn": STREAM, "ShardFilter": filter}));
}

#[tokio::test]
async fn every_status_but_disabled_is_read_on() {
    use StreamStatus::{Disabled, Enabled};
    let expected = [
        ("ENABLED", Enabled),
        ("ENABLING", Enabled),
        ("NEW", Enabled),
        ("DISABLING", Disabled),
        ("DISABLED", Disabled),
    ];
    for (status, expected) in expected {
        let mut answer = described();
        answer["StreamDescription"]["StreamStatus"] = status.into();
        let fake = Fake::answering([Answer::ok(answer.to_string())]).await;
        let stream = client(&fake).await.describe_stream(STREAM, ShardQuery::First).await.expect("a description");
        assert_eq!(stream.status, expected, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_lacks_what_it_must_hold_is_malformed() {
    let fake = Fake::answering([Answer::ok("{}")]).await;
    let client = client(&fake).await;
    let errors = [
        client.describe_table("Orders").await.map(drop).expect_err("nothing in it"),
        client.describe_stream(STREAM, ShardQuery::First).await.map(drop).expect_err("nothing in it"),
        client.get_shard_iterator(STREAM, "s", IteratorStart::Latest).await.map(drop).expect_err("nothing in it"),
    ];
    for error in errors {
        assert_eq!((error.kind, &*error.code), (ErrorKind::Other, "malformed"), "{}", error.message);
    }
}

#[tokio::test]
async fn names_that_are_left_out_are_taken_from_the_streams_arn() {
    let fake = Fake::answering([
        Answer::ok(json!({"Table": {"LatestStreamArn": STREAM}}).to_string()),
        Answer::ok(r#"{"StreamDescription":{"Shards":null,"KeySchema":null}}"#),
        Answer::ok(r#"{"Streams":null}"#),
    ])
    .await;
    let client = client(&fake).await;
    let table = client.describe_table("Orders").await.expect("a table");
    assert_eq!(table.arn, "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders");
    let stream = client.describe_stream(STREAM, ShardQuery::First).await.expect("a stream");
    assert_eq!((&*stream.table, stream.shards.len(), stream.next), ("Orders", 0, None));
    assert_eq!(client.list_streams("Orders").await.expect("streams"), [""; 0]);
}

#[tokio::test]
async fn all_pages_of_a_tables_streams_are_listed() {
    let page = |streams: &[&str], last: Option<&str>| {
        let streams: Vec<_> = streams.iter().map(|arn| json!({"StreamArn": arn})).collect();
        Answer::ok(json!({"Streams": streams, "LastEvaluatedStreamArn": last}).to_string())
    };
    let fake = Fake::answering([page(&["a", "b"], Some("b")), page(&[], Some("c")), page(&["d"], None)]).await;
    assert_eq!(client(&fake).await.list_streams("Orders").await.expect("streams"), ["a", "b", "d"]);
    let asked: Vec<_> = fake.seen().iter().map(fake::Seen::json).collect();
    assert_eq!(asked[0], json!({"TableName": "Orders"}));
    assert_eq!(asked[2], json!({"TableName": "Orders", "ExclusiveStartStreamArn": "c"}));

    let endless = Fake::answering([page(&["a"], Some("a"))]).await;
    let error = client(&endless).await.list_streams("Orders").await.expect_err("pages that repeat themselves");
    assert_eq!(&*error.code, "malformed");
}

/// Pages that lead in a circle, and pages that always lead on.
#[tokio::test]
async fn a_list_of_streams_that_does_not_end_is_given_up() {
    let page = |last: usize| Answer::ok(json!({"LastEvaluatedStreamArn": last.to_string()}).to_string());
    for lasts in [[1, 2].repeat(200), (0..400).collect::<Vec<_>>()] {
        let fake = Fake::answering(lasts.into_iter().map(page).chain([Answer::ok(r#"{"Streams":[]}"#)])).await;
        let error = client(&fake).await.list_streams("Orders").await.expect_err("pages that do not end");
        assert_eq!(&*error.code, "malformed");
        assert!(error.message.contains("AWS_ENDPOINT_URL"), "{}", error.message);
        assert!(fake.seen().len() <= 100, "{} calls", fake.seen().len());
    }
}

#[tokio::test]
async fn an_iterator_starts_where_it_was_told() {
    let fake = Fake::answering([Answer::ok(r#"{"ShardIterator":"iterator"}"#)]).await;
    let client = client(&fake).await;
    let at = IteratorStart::At("000000000000000000001".parse().expect("digits"));
    for from in [IteratorStart::Oldest, IteratorStart::Latest, at] {
        assert_eq!(client.get_shard_iterator(STREAM, "s", from).await.expect("an iterator"), "iterator");
    }
    let asked: Vec<_> = fake.seen().iter().map(|seen| seen.json()["ShardIteratorType"].clone()).collect();
    assert_eq!(asked, ["TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER"]);
    assert_eq!(fake.seen()[2].json()["SequenceNumber"], "000000000000000000001");
}

#[tokio::test]
async fn a_table_names_its_newest_stream_if_it_ever_had_one() {
    let table =
        |stream: Option<&str>| Answer::ok(json!({"Table": {"TableArn": "arn", "LatestStreamArn": stream}}).to_string());
    let fake = Fake::answering([table(Some(STREAM)), table(None)]).await;
    let client = client(&fake).await;
    assert_eq!(client.describe_table("Orders").await.expect("a table").latest_stream.as_deref(), Some(STREAM));
    assert_eq!(client.describe_table("Orders").await.expect("a table").latest_stream, None);
}

/// Credentials from a closure.
struct Provider<F>(F);

impl<F> std::fmt::Debug for Provider<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Provider")
    }
}

impl<F> aws_credential_types::provider::ProvideCredentials for Provider<F>
where
    F: Fn() -> aws_credential_types::provider::future::ProvideCredentials<'static> + Send + Sync,
{
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        (self.0)()
    }
}
