//! The report as a whole.

use crate::harness::{World, named, of, text};

const ALL: [&str; 14] = [
    "configuration",
    "region",
    "credentials",
    "identity",
    "table",
    "stream",
    "view-type",
    "iterator",
    "records",
    "checkpoint-store",
    "sink-dns",
    "sink-tcp",
    "sink-http",
    "clock",
];

#[tokio::test(flavor = "multi_thread")]
async fn when_all_is_well_every_check_says_ok_and_the_exit_code_is_0() {
    let world = World::new().await;
    let run = world.check(&[]).await;
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{}", run.out);
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), ALL.len() + 1, "one line a check and one that counts them\n{}", run.out);
    for (line, name) in lines.iter().zip(ALL) {
        assert!(line.starts_with(&format!("ok      {name}")), "{line}");
    }
    assert_eq!(lines.last(), Some(&"14 ok, 0 warn, 0 fail, 0 skipped"));
    assert!(run.out.contains("arn:aws:sts::123456789012:assumed-role/reader/session"), "{}", run.out);
    assert!(run.out.contains("stream orders: enabled, 3 shards listed"), "{}", run.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_one_object_with_every_check_in_order() {
    let world = World::new().await;
    let run = world.check(&["--output", "json"]).await;
    assert_eq!((run.code, run.out.lines().count()), (Some(0), 1), "{}", run.out);
    let report = run.parsed();
    assert_eq!(report.as_object().unwrap().keys().collect::<Vec<_>>(), ["checks", "ok"]);
    assert_eq!(report["ok"], true);
    let checks = run.checks();
    assert_eq!(named(&checks, "ok"), ALL);
    for check in &checks {
        let members: Vec<&String> = check.as_object().unwrap().keys().collect();
        let is_about_a_table = ["table", "stream", "view-type", "iterator", "records"].contains(&text(check, "name"));
        assert_eq!(check.get("table").is_some(), is_about_a_table, "{check}");
        assert!(members.iter().all(|name| ["name", "table", "result", "detail", "remedy"].contains(&name.as_str())));
        assert!(!text(check, "detail").is_empty(), "{check}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_says_what_mends_it_and_what_was_not_tried_because_of_it() {
    let world = World::new().await.env("TABLE", "orders,missing").env("CHECKPOINT_STORE", "memory");
    let run = world.check(&["--output", "json"]).await;
    assert_eq!((run.code, &run.parsed()["ok"]), (Some(69), &false.into()), "{}", run.out);
    let checks = run.checks();
    for check in &checks {
        let needs_a_remedy = ["fail", "warn"].contains(&text(check, "result"));
        assert!(!needs_a_remedy || !text(check, "remedy").is_empty(), "{check}");
    }
    let missing: Vec<_> = checks.iter().filter(|check| check["table"] == "missing").cloned().collect();
    assert_eq!(named(&missing, "fail"), ["table"]);
    assert_eq!(named(&missing, "skipped"), ["stream", "view-type", "iterator", "records"]);
    assert_eq!(text(of(&missing, "records"), "detail"), "not tried because table failed");
    let orders: Vec<_> = checks.iter().filter(|check| check["table"] == "orders").cloned().collect();
    assert_eq!(named(&orders, "ok").len(), 5, "one table's failure is not the other's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_alone_does_not_hold_up_an_init_container() {
    let world = World::new().await.env("CHECKPOINT_STORE", "memory").env("TABEL", "orders");
    let (checks, code) = world.json().await;
    assert_eq!(code, Some(0));
    assert_eq!(named(&checks, "warn"), ["configuration", "checkpoint-store"]);
    assert!(text(of(&checks, "configuration"), "detail").contains("did you mean TABLE"), "{checks:?}");
    let positions = of(&checks, "checkpoint-store");
    assert!(text(positions, "detail").contains("START_POSITION=latest loses undelivered changes"), "{positions}");
    assert!(text(positions, "remedy").contains("CHECKPOINT_STORE=file:"), "{positions}");
}

#[test]
fn the_page_about_it_explains_every_check() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/check.md")).unwrap();
    for name in ALL.iter().chain(&["sink-tls", "sink-event", "dead-letter-sink-…"]) {
        assert!(page.contains(&format!("\n| `{name}` | ")), "{name} is not explained");
    }
    for argument in ["--output json", "--output text", "--send-test-event", "--timeout <duration>"] {
        assert!(page.contains(&format!("\n| `{argument}` | ")), "{argument} is not explained");
    }
}
