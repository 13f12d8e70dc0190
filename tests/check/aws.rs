//! Region, credentials, tables and streams.

use std::time::{Duration, Instant};

use crate::harness::{TABLE_ARN, World, failure, named, of, refusal, sts, text};
use crate::support::aws::Trouble;

const ENABLE: &str = "aws dynamodb update-table --table-name orders --region eu-west-1 --stream-specification \
                      StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES";

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_fails_with_the_command_that_shows_which_there_are() {
    let world = World::new().await.env("TABLE", "missing");
    let (checks, code) = world.json().await;
    assert_eq!(code, Some(69));
    let failed = failure(&checks);
    assert_eq!((text(failed, "name"), text(failed, "table")), ("table", "missing"));
    assert!(text(failed, "detail").contains("it does not exist in this region and account"), "{failed}");
    assert_eq!(text(failed, "remedy"), "aws dynamodb list-tables --region eu-west-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_stream_fails_with_the_command_that_enables_it() {
    let world = World::new().await.env("TABLE", "plain");
    world.aws.script().create_table_without_stream("plain");
    let (checks, code) = world.json().await;
    assert_eq!(code, Some(69));
    assert_eq!(text(failure(&checks), "remedy"), ENABLE.replace("orders", "plain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_stream_fails_with_the_command_that_enables_another() {
    let world = World::new().await;
    world.aws.script().disable_stream("orders");
    let (checks, code) = world.json().await;
    assert_eq!(code, Some(69));
    let failed = failure(&checks);
    assert_eq!((text(failed, "name"), text(failed, "remedy")), ("stream", ENABLE));
    assert!(text(failed, "detail").contains("disabled"), "{failed}");
    assert_eq!(text(of(&checks, "records"), "result"), "ok", "what it still holds can be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_stream_that_was_named_itself_is_mended_by_naming_the_table() {
    let world = World::new().await;
    let stream = world.aws.script().stream("orders").arn.clone();
    world.aws.script().disable_stream("orders");
    let world = world.env("TABLE", stream);
    let (checks, _) = world.json().await;
    assert_eq!(text(failure(&checks), "remedy"), format!("export TABLE={TABLE_ARN}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_type_that_leaves_images_out_is_a_warning_with_the_commands_that_change_it() {
    let world = World::new().await;
    world.aws.script().table("orders").view = "KEYS_ONLY";
    let (checks, code) = world.json().await;
    assert_eq!((code, named(&checks, "warn")), (Some(0), vec!["view-type"]));
    let remedy = text(of(&checks, "view-type"), "remedy");
    assert!(remedy.starts_with("aws dynamodb update-table") && remedy.ends_with(ENABLE), "{remedy}");
    assert!(remedy.contains("StreamEnabled=false && "), "{remedy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_shards_is_counted() {
    let world = World::new().await;
    world.aws.script().enable_stream("orders", 7);
    world.aws.script().page_shards = 3;
    let (checks, _) = world.json().await;
    assert_eq!(text(of(&checks, "stream"), "detail"), "enabled, 7 shards listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_consumes_nothing() {
    let world = World::new().await;
    world.aws.write("orders", 20, 2);
    assert_eq!(world.json().await.1, Some(0));
    let script = world.aws.script();
    assert!(script.calls.of("GetShardIterator").all(|call| call.detail == "LATEST"), "{:?}", script.calls);
    assert_eq!(script.calls.count("GetRecords"), 1);
    assert!(script.calls.of("GetRecords").all(|call| call.records == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_region_nothing_of_aws_is_tried() {
    let world = World::new().await.without("AWS_REGION");
    let (checks, code) = world.json().await;
    assert_eq!((code, text(failure(&checks), "name")), (Some(69), "region"));
    assert!(text(failure(&checks), "remedy").contains("AWS_REGION"));
    assert_eq!(text(of(&checks, "records"), "detail"), "not tried because region failed");
    let world = world.env("TABLE", TABLE_ARN);
    assert_eq!(world.json().await.1, Some(0), "an ARN names its region");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_the_tables_are_not_tried() {
    let world = World::new().await.without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY");
    let (checks, code) = world.json().await;
    assert_eq!((code, text(failure(&checks), "name")), (Some(69), "credentials"));
    assert!(text(failure(&checks), "remedy").contains("AWS_ACCESS_KEY_ID"));
    assert_eq!(text(of(&checks, "table"), "detail"), "not tried because credentials failed");
    assert!(world.aws.script().calls.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_aws_does_not_know_fail_before_the_tables() {
    let unknown =
        sts(|| refusal("InvalidClientTokenId", "The security token included in the request is invalid.")).await;
    let world = World::new().await.env("AWS_ENDPOINT_URL_STS", unknown.url());
    let (checks, code) = world.json().await;
    assert_eq!((code, text(failure(&checks), "name")), (Some(69), "identity"));
    assert!(text(failure(&checks), "detail").contains("InvalidClientTokenId"));
    assert_eq!(text(of(&checks, "table"), "detail"), "not tried because identity failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sts_that_cannot_be_asked_is_a_warning_and_the_tables_are_tried() {
    let broken = sts(|| (500, "<html>sorry</html>".to_owned())).await;
    let world = World::new().await.env("AWS_ENDPOINT_URL_STS", broken.url());
    let (checks, code) = world.json().await;
    assert_eq!((code, named(&checks, "warn")), (Some(0), vec!["identity"]));
    assert_eq!(text(of(&checks, "records"), "result"), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_be_assumed_fails_with_its_own_statement() {
    let role = "arn:aws:iam::123456789012:role/reader";
    let refusing = sts(|| refusal("AccessDenied", "User: x is not authorized to perform: sts:AssumeRole")).await;
    let world = World::new().await.env("AWS_ENDPOINT_URL_STS", refusing.url()).env("AWS_ASSUME_ROLE_ARN", role);
    let (checks, _) = world.json().await;
    let failed = failure(&checks);
    assert_eq!(text(failed, "name"), "credentials", "{failed}");
    let statement = format!(r#"{{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"{role}"}}"#);
    assert_eq!(text(failed, "remedy"), statement, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_costs_the_time_limit_of_one_check_and_no_more() {
    let world = World::new().await;
    world.aws.script().faults.always("DescribeStream", Trouble::Hang(Duration::from_secs(60)));
    let begun = Instant::now();
    let run = world.check(&["--output=json", "--timeout=700ms"]).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let checks = run.checks();
    let failed = failure(&checks);
    assert_eq!((text(failed, "name"), text(failed, "detail")), ("stream", "no answer within 700ms"));
    assert!(text(failed, "remedy").contains("AWS_ENDPOINT_URL"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_readers_of_a_shard_are_a_warning_because_the_permission_is_there() {
    let world = World::new().await;
    world.aws.script().faults.always("GetRecords", Trouble::Error("LimitExceededException"));
    let (checks, code) = world.json().await;
    assert_eq!((code, named(&checks, "warn")), (Some(0), vec!["records"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_token_is_shown_beside_what_the_trust_policy_must_say() {
    let world = World::new().await;
    // {"aud":["sts.amazonaws.com"],"iss":"https://oidc.example/id/1","sub":"system:serviceaccount:shop:dynamodb-streams-adapter"}
    let claims = "eyJhdWQiOlsic3RzLmFtYXpvbmF3cy5jb20iXSwiaXNzIjoiaHR0cHM6Ly9vaWRjLmV4YW1wbGUvaWQvMSIsInN1YiI6InN5c3RlbTpzZXJ2\
                  aWNlYWNjb3VudDpzaG9wOmR5bmFtb2RiLXN0cmVhbXMtYWRhcHRlciJ9";
    let token = world.folder.path().join("token");
    std::fs::write(&token, format!("e30.{claims}.c2VjcmV0LXNpZ25hdHVyZQ")).unwrap();
    let world =
        world.env("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()).env("AWS_ROLE_ARN", "arn:aws:iam::1:role/r");
    let run = world.check(&[]).await;
    let line = run.out.lines().find(|line| line.contains("web-identity")).unwrap_or_else(|| panic!("{}", run.out));
    for said in [
        "trust policy of arn:aws:iam::1:role/r",
        "oidc.example/id/1:aud = sts.amazonaws.com",
        "oidc.example/id/1:sub = system:serviceaccount:shop:dynamodb-streams-adapter",
    ] {
        assert!(line.contains(said), "{line}");
    }
    assert!(!run.out.contains("c2VjcmV0"), "a signature is shown: {}", run.out);
    let world = world.env("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token");
    let run = world.check(&[]).await;
    assert!(run.out.contains("warn    web-identity: the token in AWS_WEB_IDENTITY_TOKEN_FILE"), "{}", run.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_end_is_compared_with_the_grace_period_where_it_is_given() {
    let world = World::new().await.env("SHUTDOWN_TIMEOUT", "25s");
    let run = world.check(&["--grace-period", "30s"]).await;
    assert!(run.code == Some(0) && run.out.contains("ok      grace-period: "), "{}", run.out);
    let run = world.check(&["--grace-period", "25s"]).await;
    assert!(run.code == Some(69) && run.out.contains("raise terminationGracePeriodSeconds"), "{}", run.out);
}
