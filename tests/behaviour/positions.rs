//! The subcommand `positions`, beside an adapter and without one.

use std::path::Path;

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::oracle;
use crate::support::sink::TestSink;
use crate::support::wait_for;

/// Exit code, standard output, standard error.
fn positions(plan: &Plan, arguments: &[&str]) -> (i32, String, String) {
    let output = plan.command().arg("positions").args(arguments).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code().unwrap(), out, err)
}

/// What it prints where it succeeds.
fn done(plan: &Plan, arguments: &[&str]) -> String {
    let (code, out, err) = positions(plan, arguments);
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

fn content(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_shown_beside_a_running_adapter_and_not_changed() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 2).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let mut adapter = plan.start_ready().await;
    let shown = done(&plan, &["show"]);
    assert!(
        shown.lines().count() == 3
            && shown.contains("default arn:aws:dynamodb:eu-west-1:123456789012:table/orders arn:"),
        "a stream and two shards: {shown}"
    );
    let exported: serde_json::Value = serde_json::from_str(&done(&plan, &["export"])).unwrap();
    assert_eq!(
        exported["default"]["arn:aws:dynamodb:eu-west-1:123456789012:table/orders"]["streams"][0]["shards"]
            .as_object()
            .unwrap()
            .len(),
        2
    );
    for change in [vec!["forget", "--table", "orders"], vec!["set", "--table", "orders", "--to", "start"]] {
        let (code, _, why) = positions(&plan, &change);
        assert!(code == 69 && why.contains("in use by another process: stop that process"), "{code}: {why}");
        let tried = done(&plan, &[&change[..], &["--dry-run"]].concat());
        assert!(
            tried.contains("- default arn:aws:dynamodb:eu-west-1:123456789012:table/orders arn:")
                && tried.contains("dry run"),
            "{tried}"
        );
    }
    assert_eq!(done(&plan, &["show"]), shown);
    assert!(adapter.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_set_back_is_read_again_and_an_import_takes_it_back() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 2).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let file = folder.path().join("positions.json");
    let adapter = plan.start_ready().await;
    aws.write("orders", 10, 1);
    wait_for("the events", || sink.distinct() == 10).await;
    assert_eq!(adapter.terminate().await, Some(0));
    let exported = folder.path().join("exported.json");
    std::fs::write(&exported, done(&plan, &["export"])).unwrap();
    let (before, import) = (content(&file), ["import", exported.to_str().unwrap()]);
    assert_eq!(done(&plan, &import), "nothing changes\n");
    done(&plan, &["set", "--table", "orders", "--to", "start", "--dry-run"]);
    assert_eq!(content(&file), before, "a dry run has written");

    done(&plan, &["forget", "--table", "orders"]);
    assert_eq!(done(&plan, &["show"]), "");
    assert!(done(&plan, &import).ends_with("stored\n"));
    let adapter = plan.start_ready().await;
    aws.write("orders", 1, 1);
    wait_for("the next event", || sink.distinct() == 11).await;
    assert_eq!(oracle::duplicates(&sink.received()), 0, "what was imported is not what was exported");
    assert_eq!(adapter.terminate().await, Some(0));

    assert!(done(&plan, &["set", "--table", "orders", "--to", "start"]).ends_with("stored\n"));
    let _adapter = plan.start_ready().await;
    wait_for("everything again", || oracle::duplicates(&sink.received()) == 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_says_what_is_wrong_and_what_to_do() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let (code, _, why) = positions(&plan, &["show"]);
    assert!(code == 69 && why.contains("positions.json"), "{code}: {why}");
    assert_eq!(plan.start_ready().await.terminate().await, Some(0));
    let file = folder.path().join("positions.json");
    for (arguments, expected) in [
        (vec!["forget", "--table", "users"], "stored are: arn:aws:dynamodb:eu-west-1:123456789012:table/orders"),
        (vec!["set", "--table", "orders", "--to", "after 5"], "--shard"),
        (vec!["set", "--table", "orders", "--to", "yesterday"], "--to must be `start`"),
        (vec!["import", file.to_str().unwrap()], "the output of `positions export`"),
        (vec!["import"], "import: `<path>` is required"),
        (vec![], "positions: a command is required; expected `show`, "),
    ] {
        let (code, _, why) = positions(&plan, &arguments);
        assert!(code == 64 && why.contains(expected), "{arguments:?}: {code}: {why}");
    }
    let bare = Plan::new(&aws, &sink, "orders").without("K_SINK").without("TABLE");
    assert!(
        done(&bare, &["show", "--file", file.to_str().unwrap()])
            .contains("default arn:aws:dynamodb:eu-west-1:123456789012:table/orders arn:")
    );
    std::fs::write(&file, "somebody's notes").unwrap();
    let (code, _, why) = positions(&plan, &["show"]);
    assert!(code == 69 && why.contains("not a usable file of positions"), "{code}: {why}");
}
