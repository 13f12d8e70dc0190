//! The subcommand `positions` with a DynamoDB table.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::adapter::Plan;
use crate::support::positions_table::EmbeddedDynamoDb;

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
const PARTITION: &str = "default arn:aws:dynamodb:eu-west-1:123456789012:table/orders";

/// Nothing is set but the store, and what AWS needs.
fn plan(dynamodb: &EmbeddedDynamoDb) -> Plan {
    Plan::bare()
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .keeping_positions_in(dynamodb)
}

/// Exit code, standard output, standard error.
async fn positions(plan: &Plan, arguments: &[&str]) -> (i32, String, String) {
    let mut command = plan.command();
    command.arg("positions").args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code().unwrap(), out, err)
}

async fn done(plan: &Plan, arguments: &[&str]) -> String {
    let (code, out, err) = positions(plan, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

/// The output of an export: one stream with two shards, one of them finished.
fn exported() -> Value {
    json!({ "default": { TABLE: { "streams": [{
        "arn": format!("{TABLE}/stream/2026-01-01T00:00:00.000"), "start": "since 2026-01-01T00:00:00Z", "done": false,
        "shards": {
            "shard-a": { "finished": "2026-01-01T04:00:00Z" },
            "shard-b": { "safe": "after 100000000000000000007", "verified_at": "2026-01-01T04:00:00Z", "parent": "shard-a" },
        },
    }] } } })
}

fn file(folder: &tempfile::TempDir, name: &str, content: &Value) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content.to_string()).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A table of positions with what `exported` has.
async fn filled(dynamodb: &EmbeddedDynamoDb, folder: &tempfile::TempDir) -> Plan {
    let plan = plan(dynamodb);
    done(&plan, &["create-table"]).await;
    let import = file(folder, "import.json", &exported());
    assert!(done(&plan, &["import", text(&import)]).await.ends_with("stored\n"));
    plan
}

async fn export(plan: &Plan) -> Value {
    serde_json::from_str(&done(plan, &["export"]).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_positions_is_created_once_and_never_changed_by_that() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let plan = plan(&dynamodb);
    for _ in 0..2 {
        done(&plan, &["create-table"]).await;
    }
    let described = dynamodb.client().describe_table().table_name("positions").send().await.unwrap().table.unwrap();
    assert_eq!(
        described.key_schema().iter().map(|key| key.attribute_name()).collect::<Vec<_>>(),
        ["group_table", "entry"]
    );
    assert_eq!(done(&plan, &["show"]).await, "");
    let (code, _, why) = positions(&plan, &["create-table", "--file", "/positions.json"]).await;
    assert!(code == 64 && why.contains("--store dynamodb:"), "{code}: {why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_imported_into_a_table_is_what_it_exports() {
    let (dynamodb, folder) = (EmbeddedDynamoDb::start().await, tempfile::tempdir().unwrap());
    let plan = filled(&dynamodb, &folder).await;
    assert_eq!(export(&plan).await, exported());
    let again = done(&plan, &["import", text(&folder.path().join("import.json"))]).await;
    assert_eq!(again, "nothing changes\n");
    let shown = done(&plan, &["show"]).await;
    assert!(shown.lines().count() == 3 && shown.contains("shard-b: after 100000000000000000007"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_set_back_and_forgotten_there_as_in_a_file() {
    let (dynamodb, folder) = (EmbeddedDynamoDb::start().await, tempfile::tempdir().unwrap());
    let plan = filled(&dynamodb, &folder).await;
    let set = ["set", "--table", "orders", "--shard", "shard-a", "--to", "start"];
    let tried = done(&plan, &[&set[..], &["--dry-run"]].concat()).await;
    assert!(tried.contains("shard-a: start") && tried.ends_with("this is a dry run\n"), "{tried}");
    assert_eq!(export(&plan).await, exported(), "a dry run has written");
    let changed = done(&plan, &set).await;
    assert!(changed.contains("+ ") && changed.contains("- ") && changed.ends_with("stored\n"), "{changed}");
    let shards = &export(&plan).await["default"][TABLE]["streams"][0]["shards"];
    assert_eq!(
        shards.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["shard-a"],
        "its child is read again behind it"
    );
    done(&plan, &["set", "--table", TABLE, "--to", "since 2026-01-02T00:00:00Z"]).await;
    assert_eq!(export(&plan).await["default"][TABLE]["streams"][0]["start"], "since 2026-01-02T00:00:00Z");
    done(&plan, &["forget", "--table", "orders"]).await;
    assert_eq!(done(&plan, &["show"]).await, "");
    assert_eq!(dynamodb.entries("positions").await, ["lease"], "what is left is that nobody owns it");
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_go_from_a_file_to_a_table_and_back() {
    let (dynamodb, folder) = (EmbeddedDynamoDb::start().await, tempfile::tempdir().unwrap());
    let plan = filled(&dynamodb, &folder).await;
    let path = folder.path().join("positions.json");
    let to_file = ["copy", "--to", &format!("file:{}", path.display())];
    assert!(done(&plan, &to_file).await.ends_with("stored\n"));
    let of_the_file = done(&plan, &["export", "--file", text(&path)]).await;
    assert_eq!(serde_json::from_str::<Value>(&of_the_file).unwrap(), exported());

    let to_table = ["copy", "--file", text(&path), "--to", "dynamodb:positions"];
    let (code, _, why) = positions(&plan, &to_table).await;
    assert!(code == 64 && why.contains("--replace") && why.contains(TABLE), "{code}: {why}");
    done(&plan, &["forget", "--table", "orders"]).await;
    done(&plan, &to_table).await;
    assert_eq!(export(&plan).await, exported());
    done(&plan, &["set", "--table", "orders", "--to", "start"]).await;
    done(&plan, &[&to_table[..], &["--replace"]].concat()).await;
    assert_eq!(export(&plan).await, exported());
    let (code, _, why) = positions(&plan, &[&to_table[..], &["--group", "nobody"]].concat()).await;
    assert!(code == 64 && why.contains("nothing is stored of group nobody"), "{code}: {why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_living_adapter_owns_is_changed_only_if_it_is_taken() {
    let (dynamodb, folder) = (EmbeddedDynamoDb::start().await, tempfile::tempdir().unwrap());
    let plan = filled(&dynamodb, &folder).await;
    let renewing = async {
        for version in 100.. {
            dynamodb.put_lease("positions", PARTITION, "pod-a", version).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let changing = async {
        let forget = ["forget", "--table", "orders"];
        let (code, _, why) = positions(&plan, &forget).await;
        assert!(code == 69 && why.contains("owned by pod-a") && why.contains("--take"), "{code}: {why}");
        assert_eq!(export(&plan).await, exported());
    };
    tokio::select! {
        () = changing => {}
        () = renewing => {}
    }
    // It has stopped: nothing renews the lease any more.
    dynamodb.put_lease("positions", PARTITION, "pod-a", 1000).await;
    done(&plan, &["set", "--table", "orders", "--to", "start", "--take"]).await;
    dynamodb.put_lease("positions", PARTITION, "pod-b", 2000).await;
    done(&plan, &["forget", "--table", "orders"]).await;
    assert_eq!(done(&plan, &["show"]).await, "", "a lease that nobody renews ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_shown_and_forgotten_by_name() {
    let (dynamodb, folder) = (EmbeddedDynamoDb::start().await, tempfile::tempdir().unwrap());
    let plan = filled(&dynamodb, &folder).await;
    let mut stopped = exported();
    stopped["default"][TABLE]["stopped"] = json!({ "why": "trimmed", "at": "2026-01-01T05:00:00Z" });
    done(&plan, &["import", text(&file(&folder, "stopped.json", &stopped))]).await;
    assert!(done(&plan, &["show"]).await.contains("stopped at 2026-01-01T05:00:00Z"));
    assert_eq!(export(&plan).await, stopped);
    done(&plan, &["continue", "--table", "orders"]).await;
    assert_eq!(export(&plan).await, exported());
    assert_eq!(done(&plan, &["continue", "--table", "orders"]).await, "nothing changes\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_missing_is_named_with_what_creates_it() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let (code, _, why) = positions(&plan(&dynamodb), &["show"]).await;
    assert!(
        code == 69 && why.contains("positions create-table") && why.contains("aws dynamodb create-table"),
        "{code}: {why}"
    );
    let (code, _, why) = positions(&plan(&dynamodb), &["show", "--store", "dynamodb:x"]).await;
    assert!(code == 64 && why.contains("CHECKPOINT_STORE"), "{code}: {why}");
    let (code, _, why) = positions(&plan(&dynamodb), &["show", "--store", "file:/x", "--file", "/x"]).await;
    assert!(code == 64 && why.contains("--file"), "{code}: {why}");
}
