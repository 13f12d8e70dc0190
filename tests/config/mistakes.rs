//! What an operator reads when something is wrong.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use base64::prelude::{BASE64_STANDARD, Engine};
use dynamodb_streams_adapter::command_output::EXIT_USAGE;
use dynamodb_streams_adapter::config::{Config, GivenValue, variables};

use crate::support::{NEEDED, accepted, exactly, facts, os, refused, with};

#[test]
fn all_mistakes_come_in_one_message_a_line_each() {
    let mistakes = exactly(&[
        ("TABLE", "x,orders,orders,y!"),
        ("POLL_INTERVAL", "10"),
        ("DELIVERY_TIMEOUT", "soon"),
        ("RETRY_MAX_AGE", "later"),
        ("RETRY_BACKOFF_MIN", "1h"),
        ("LEASE_DURATION", "4h"),
        ("RUST_LOG", "a=b=c"),
        ("RETRY_BACKOF_MAX", "2h"),
    ])
    .expect_err("ten mistakes");
    let expected = "\
the configuration has 10 errors:
  TABLE has the value \"x\": not a table name: 3 to 255 of the characters a-z A-Z 0-9 _ . -; expected table names, table ARNs or stream ARNs, separated by commas
  TABLE has the value \"orders\": named twice; expected table names, table ARNs or stream ARNs, separated by commas
  TABLE has the value \"y!\": not a table name: 3 to 255 of the characters a-z A-Z 0-9 _ . -; expected table names, table ARNs or stream ARNs, separated by commas
  LEASE_DURATION has the value \"4h\": too large; expected a duration from 3s to 10m, such as 15s
  POLL_INTERVAL has the value \"10\": a number without a unit, did you mean 10s?; expected a duration from 1ms to 24h, such as 500ms, 30s or 1m30s
  K_SINK is not set: it is required; expected an http or https URL, such as http://broker.example/default
  DELIVERY_TIMEOUT has the value \"soon\": not a duration; expected a duration from 1ms to 24h, such as 500ms, 30s or 1m30s
  RETRY_BACKOFF_MIN has the value \"1h\": RETRY_BACKOFF_MIN (1h) is longer than RETRY_BACKOFF_MAX (30s); expected a duration from 1ms to 24h, such as 500ms, 30s or 1m30s
  RETRY_MAX_AGE has the value \"later\": not a duration; expected a duration from 1ms to 24h, such as 500ms, 30s or 1m30s
  RUST_LOG has the value \"a=b=c\": not a filter; expected a level or a filter, such as debug or info,dynamodb_streams_adapter=debug
  note: RETRY_BACKOF_MAX is set but not read, did you mean RETRY_BACKOFF_MAX?
run with --help for all variables";
    assert_eq!(mistakes.to_string(), expected);
}

#[test]
fn nothing_set_names_what_is_required() {
    let mistakes = exactly(&[]).expect_err("two variables are required");
    let names: Vec<_> = mistakes.mistakes.iter().map(|mistake| mistake.variable).collect();
    assert_eq!(names, ["TABLE", "K_SINK"]);
}

#[test]
fn every_variable_that_can_be_wrong_is_reported_beside_all_others() {
    let free_text = ["NAMESPACE", "NAME", "K_COMPONENT", "POD_NAME", "K_LOGGING_CONFIG", "K_SINK_TIMEOUT"];
    let is_of_scaler = |name: &&str| name.starts_with("SCALER_");
    let all = variables().map(|it| it.name).filter(|name| !is_of_scaler(name));
    let can_be_wrong: Vec<_> = all.filter(|name| !free_text.contains(name)).collect();
    let all_wrong: Vec<_> = can_be_wrong.iter().map(|name| (*name, "!=?=!")).collect();
    let mut reported: Vec<_> =
        exactly(&all_wrong).expect_err("all are wrong").mistakes.iter().map(|mistake| mistake.variable).collect();
    let mut expected = can_be_wrong;
    reported.sort_unstable();
    expected.sort_unstable();
    assert_eq!(reported, expected);
}

#[test]
fn a_value_of_ours_that_is_not_utf8_is_a_mistake_and_a_foreign_one_is_not() {
    let bytes = || OsString::from_vec(vec![b'a', 0xff]);
    let needed = || NEEDED.into_iter().map(os);
    let foreign = [(OsString::from("OTHER"), bytes()), (bytes(), OsString::from("x")), (bytes(), bytes())];
    Config::from_env_vars(needed().chain(foreign), &facts()).expect("foreign variables do not matter");
    for variable in variables() {
        let others = needed().filter(|(name, _)| name != variable.name);
        let mistakes = Config::from_env_vars(others.chain([(variable.name.into(), bytes())]), &facts());
        let mistakes = mistakes.expect_err(variable.name).mistakes;
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert_eq!((mistakes[0].variable, &mistakes[0].given), (variable.name, &GivenValue::NotUtf8));
    }
}

#[test]
fn a_default_does_not_stand_in_for_a_value_that_cannot_be_read() {
    let ceiling = OsString::from_vec(vec![0xff]);
    let variables = NEEDED.into_iter().chain([("POLL_INTERVAL", "10s")]).map(os);
    let variables = variables.chain([("IDLE_POLL_INTERVAL_MAX".into(), ceiling)]);
    let mistakes = Config::from_env_vars(variables, &facts()).expect_err("the ceiling cannot be read");
    assert_eq!(mistakes.mistakes.len(), 1, "{mistakes}");
}

#[test]
fn control_characters_are_escaped_and_long_values_are_cut() {
    let mistake = refused(&[("DELIVERY_ORDER", "a\u{1b}[31m\nb\u{202e}\"c")]).to_string();
    assert!(mistake.contains(r#"has the value "a\u{1b}[31m\nb\u{202e}\"c":"#), "{mistake}");
    let mistake = refused(&[("DELIVERY_ORDER", &format!("a{}", "ö".repeat(10_000)))]).to_string();
    assert!(mistake.chars().count() < 200 && mistake.contains("ö…"), "{mistake}");
}

#[test]
fn a_misspelt_name_cannot_break_a_line() {
    let warning = accepted(&[("TABLE\n", "x"), ("CHECKPOINT_STORE", "file:x")]).warnings[0].to_string();
    assert_eq!(warning, r"TABLE\n is set but not read, did you mean TABLE?");
}

/// Sinks that hold credentials, most of them broken in some way.
const SECRET_SINKS: [&str; 12] = [
    "http://user:hunter2@broker.example/x",
    "ftp://user:hunter2@broker.example/",
    "http://user:hunter2@",
    "http://user:hunter2@:80/",
    "http://user:hunter2@broker.example:99999/",
    "http://user:hunter2@bro ker/",
    "http://user:pass/hunter2@broker.example/",
    "http://user:hunter2%40broker.example/",
    "http://us@er:hunter2@broker.example/",
    "user:hunter2@broker.example",
    "http:/user:hunter2@broker.example",
    "hunter2://user:x@broker.example",
];

#[test]
fn no_message_and_no_debug_form_shows_a_secret() {
    let role = ("AWS_ASSUME_ROLE_ARN", "arn:aws:iam::123456789012:role/reader");
    let environments = SECRET_SINKS.map(|sink| vec![("K_SINK", sink)]).into_iter().chain([
        vec![("AWS_ASSUME_ROLE_EXTERNAL_ID", "hunter2")],
        vec![("AWS_ASSUME_ROLE_EXTERNAL_ID", "hunter2 !")],
        vec![role, ("AWS_ASSUME_ROLE_EXTERNAL_ID", "hunter2")],
        vec![("DEAD_LETTER_SINK", "http://user:hunter2@dead.example/")],
    ]);
    let (mut good, mut bad) = (0, 0);
    for environment in environments {
        for more in [vec![], vec![("POLL_INTERVAL", "0")]] {
            let shown = match with(&[environment.clone(), more].concat()) {
                Ok(config) => {
                    good += 1;
                    format!("{config:?} {config:#?} {} {:?}", config.sink.uri, config.warnings)
                }
                Err(mistakes) => {
                    bad += 1;
                    format!("{mistakes} {mistakes:?} {mistakes:#?}")
                }
            };
            for secret in ["hunter2", &BASE64_STANDARD.encode("user:hunter2")] {
                assert!(!shown.contains(secret), "{environment:?}: {shown}");
            }
        }
    }
    assert!(good >= 2 && bad >= 25, "{good} accepted and {bad} refused: both must be seen");
}

#[test]
fn the_exit_code_is_that_of_a_wrong_usage() {
    assert_eq!(EXIT_USAGE, 64);
}

/// As people mistype them: without the `@`, without slashes or colon, or with something before it.
const MISTYPED: [&str; 9] = [
    "http://user:hunter2broker.example/",
    "http://user:hunter2",
    "http//user:hunter2broker.example",
    "http:/user:hunter2",
    "HTTPS:user:hunter2",
    "orders,http://user:hun,hunter2",
    "x=http://user:hunter2broker.example",
    "user:hunter2%40broker.example",
    "file:/x?password=hunter2",
];

#[test]
fn a_password_is_shown_to_nobody_whichever_variable_it_was_put_into_and_however_it_is_mistyped() {
    let mut refusals = 0;
    for name in
        variables().map(|variable| variable.name).chain(["AWS_REGION", "AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS", "ARN"])
    {
        for value in MISTYPED {
            match with(&[(name, value)]) {
                Ok(config) => config.warnings.iter().for_each(|warning| {
                    assert!(!warning.to_string().contains("hunter2"), "{name}={value}: {warning}");
                }),
                Err(mistakes) => {
                    assert!(!mistakes.to_string().contains("hunter2"), "{name}={value}: {mistakes}");
                    refusals += 1;
                }
            }
        }
    }
    assert!(refusals > 300, "only {refusals} were refused");
}

#[test]
fn a_value_without_an_address_is_shown() {
    for (name, value) in
        [("POLL_INTERVAL", "5 parsecs"), ("START_POSITION", "2026-13-01T00:00:00Z"), ("HTTP_ADDRESS", "host:80:80")]
    {
        assert!(refused(&[(name, value)]).to_string().contains(value), "{name}");
    }
}

/// What is around a value, or missing before it, is said in words, because the value of a sink is not shown.
#[test]
fn quotation_marks_and_a_missing_scheme_are_named() {
    let quotes = "the quotation marks around it are a part of the value, leave them out";
    for (variable, value) in [
        ("K_SINK", "\"http://broker.example/\""),
        ("TABLE", "'orders'"),
        ("TABLE", "\"orders,customers\""),
        ("START_POSITION", "\"latest\""),
        ("BUFFER_MEMORY", "'64MiB'"),
        ("AWS_REGION", "\"eu-west-1\""),
        ("AWS_ENDPOINT_URL", "\"http://localhost:8000\""),
    ] {
        let mistakes = with(&[(variable, value)]).expect_err("a value in quotation marks").to_string();
        assert!(mistakes.contains(quotes), "{mistakes}");
    }
    let scheme = "it does not begin with http:// or https://";
    for (variable, value) in [
        ("K_SINK", "orders-service.shop.svc/events"),
        ("K_SINK", "localhost:9000"),
        ("K_SINK", "user:hunter2@broker.example/"),
        ("AWS_ENDPOINT_URL", "localhost:8000"),
    ] {
        let mistake = refused(&[(variable, value)]);
        assert!(mistake.why.ends_with(scheme) && !mistake.to_string().contains("hunter2"), "{mistake}");
    }
    assert!(!refused(&[("K_SINK", "broker")]).to_string().contains("quotation"));
}

#[test]
fn keys_that_a_secret_holds_by_mistake_are_a_warning_before_aws_refuses_them() {
    const ID: &str = "AKIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    let said = |variables: &[(&str, &str)]| {
        let said: Vec<_> = accepted(variables).warnings.iter().map(ToString::to_string).collect();
        assert!(said.iter().all(|line| !line.contains("wJalr") && !line.contains("IOSFODNN")), "{said:?}");
        said.into_iter().filter(|line| line.starts_with("AWS_")).collect::<Vec<_>>()
    };
    assert_eq!(said(&[("AWS_ACCESS_KEY_ID", ID), ("AWS_SECRET_ACCESS_KEY", SECRET)]), [""; 0]);
    assert_eq!(said(&[("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]), [""; 0]);
    for (variable, value, warning) in [
        ("AWS_SECRET_ACCESS_KEY", ID, "AWS_SECRET_ACCESS_KEY holds the id of an access key"),
        ("AWS_ACCESS_KEY_ID", "\"AKIAIOSFODNN7EXAMPLE\"", "AWS_ACCESS_KEY_ID has quotation marks"),
        ("AWS_ACCESS_KEY_ID", "QUtJQUlPU0ZPRE5ON0VYQU1QTEU=", "AWS_ACCESS_KEY_ID is encoded in base64"),
        ("AWS_ACCESS_KEY_ID", "QUtJQUlPU0ZPRE5ON0VYQU1QTEUK", "AWS_ACCESS_KEY_ID is encoded in base64"),
        ("AWS_PROFILE", "'shop'", "AWS_PROFILE has quotation marks"),
        ("AWS_ACCESS_KEY", ID, "AWS_ACCESS_KEY is ignored, set AWS_ACCESS_KEY_ID instead"),
        ("AWS_SECRET_KEY", SECRET, "AWS_SECRET_KEY is ignored, set AWS_SECRET_ACCESS_KEY instead"),
    ] {
        let said = said(&[(variable, value)]);
        assert!(said.len() == 1 && said[0].starts_with(warning), "{said:?}");
    }
}
