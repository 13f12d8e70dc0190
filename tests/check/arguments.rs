//! What is asked for, and what cannot be understood.

use crate::harness::{World, named, run, text};

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_are_not_known_are_named_with_exit_code_64() {
    let world = World::new().await;
    let run = world.check(&["--outptu", "--output", "xml", "extra"]).await;
    assert_eq!((run.code, run.out.as_str()), (Some(64), ""));
    for name in ["--outptu", "xml", "extra"] {
        assert!(run.err.contains(name), "{name} is not named in {}", run.err);
    }
    assert!(run.err.starts_with("check: unknown argument \"--outptu\", "), "{}", run.err);
    assert!(
        run.err.ends_with("; expected `--output`, `--send-test-event`, `--timeout`, `--grace-period` or `--help`\n"),
        "{}",
        run.err
    );
    assert!(world.aws.script().calls.0.is_empty() && world.sink.seen().is_empty(), "nothing is tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_of_the_configuration_are_named_with_exit_code_64() {
    let world = World::new().await.env("POLL_INTERVAL", "soon").without("TABLE");
    let run = world.check(&[]).await;
    assert_eq!((run.code, run.out.as_str()), (Some(64), ""));
    assert!(run.err.contains("POLL_INTERVAL") && run.err.contains("TABLE"), "{}", run.err);
    let run = world.check(&["--output", "json"]).await;
    assert_eq!((run.code, &run.parsed()["ok"]), (Some(64), &false.into()));
    let checks = run.checks();
    assert_eq!(named(&checks, "fail"), ["configuration", "configuration"]);
    for (check, name) in checks.iter().zip(["TABLE", "POLL_INTERVAL"]) {
        assert!(text(check, "detail").starts_with(name) && text(check, "remedy").contains(name), "{check}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_of_the_adapter_that_is_not_known_is_named_with_exit_code_64() {
    let world = World::new().await;
    let mut command = world.plan().command();
    command.arg("chekc");
    let run = run(command).await;
    let expected = "unknown argument \"chekc\"; expected `check`, `positions`, `scaler`, `--help` or `--version`\n";
    assert_eq!((run.code, run.err.as_str()), (Some(64), expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn help_explains_it() {
    let world = World::new().await;
    let own = world.check(&["--help"]).await;
    assert_eq!(own.code, Some(0));
    let mut command = world.plan().command();
    command.arg("--help");
    let general = run(command).await;
    assert_eq!(general.code, Some(0));
    for word in ["check", "--output", "--send-test-event", "--timeout", "69"] {
        assert!(own.out.contains(word) && general.out.contains(word), "{word}");
    }
}
