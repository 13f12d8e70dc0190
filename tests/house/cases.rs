//! The rules on small sources: what each catches, and what it lets pass.

use crate::rules::{MAY_IMPORT, offences};
use crate::tree::Tree;

/// What is wrong with these files, as `offences.txt` would list it.
fn wrong(files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    offences(&Tree::of(files)).into_iter().map(|offence| offence.what).collect()
}

#[test]
fn a_room_imports_only_rooms_of_rows_above_its_own() {
    let mut above = Vec::new();
    for (room, allowed) in MAY_IMPORT {
        for word in allowed.split_whitespace() {
            assert!(above.contains(&word.split("::").next().unwrap()), "{room} may import {word}");
        }
        above.push(room);
    }
}

#[test]
fn an_import_that_the_table_does_not_have_is_caught() {
    let event = ("event/encoder.rs", "pub struct Encoder;");
    for text in [
        "use crate::event::encoder::Encoder;",
        "use crate::{clock, event::encoder::{self as e, Encoder as E}};",
        "fn f() -> crate::event::encoder::Encoder { todo!() }",
        "use super::event::encoder::Encoder;",
        "pub mod page; use crate::event::encoder::*;",
    ] {
        let found = wrong(&[("records.rs", text), ("clock.rs", ""), event]);
        assert!(
            found.contains(&"records imports Encoder of event".to_owned()) || text.contains('*'),
            "{text}: {found:?}"
        );
        assert!(
            found.iter().all(|what| what.starts_with("records imports ")) && !found.is_empty(),
            "{text}: {found:?}"
        );
    }
    // Behind a re-export too, and from a file below the room's.
    let front = ("event.rs", "pub mod encoder; pub use self::encoder::Encoder;");
    let page = ("records/page.rs", "use crate::event::Encoder;");
    assert_eq!(wrong(&[front, event, page]), ["records imports Encoder of event"]);
    let clock = ("clock.rs", "pub use crate::event::encoder::Encoder;");
    let found = wrong(&[event, clock, ("records.rs", "use crate::clock::Encoder;")]);
    assert_eq!(found, ["clock imports Encoder of event", "records imports Encoder of event"]);
    assert_eq!(wrong(&[("kitchen.rs", "")]), ["kitchen is a room without a row"]);
}

#[test]
fn a_single_name_may_be_allowed() {
    let sink = ("sink/reloading_file.rs", "pub struct ReloadingFile; pub struct Other;");
    assert_eq!(wrong(&[("scaler.rs", "use crate::sink::reloading_file::ReloadingFile;"), sink]), [""; 0]);
    assert_eq!(
        wrong(&[("scaler.rs", "use crate::sink::reloading_file::Other;"), sink]),
        ["scaler imports Other of sink"]
    );
}

#[test]
fn what_is_there_for_tests_or_is_no_code_imports_nothing() {
    for text in [
        "#[cfg(test)]\nmod tests { use crate::app::run; fn f() { let x = { crate::app::run }; } }",
        "#[cfg(test)] use crate::app::{run, Stop}; /* crate::app::run */ // crate::app::run",
        r##"const T: &str = "crate::app::run"; const R: &str = r#"use crate::app::run; ""#; const C: char = '"';"##,
        "#[cfg(test)] mod fake;",
    ] {
        let others = [("app.rs", "pub fn run() {}"), ("clock/fake.rs", "use crate::app::run;"), ("clock/tests.rs", "")];
        let declared = format!("{text}\n#[cfg(test)] mod tests; #[cfg(test)] mod fake; fn f<'a>(_: &'a str) {{}}");
        assert_eq!(wrong(&[&[("clock.rs", declared.as_str())], &others[..]].concat()), [""; 0], "{text}");
    }
    assert_eq!(wrong(&[("clock.rs", "fn f<'a>(x: &'a str) { crate::app::run(x) }"), ("app.rs", "")]).len(), 1);
}

#[test]
fn a_circle_of_files_is_caught_and_a_re_export_is_none() {
    let parent = "mod encoder; mod profile; pub use encoder::Encoder; pub struct Context;";
    let encoder = ("event/encoder.rs", "use super::{Context, profile}; pub struct Encoder;");
    let profile = ("event/profile.rs", "use crate::event::Context;");
    assert_eq!(wrong(&[("event.rs", parent), encoder, profile]), [""; 0]);

    let uses_it = format!("{parent} fn f(_: Encoder) {{}}");
    assert_eq!(wrong(&[("event.rs", &uses_it), encoder]), ["circle of event.rs event/encoder.rs"]);
    let calls_it = format!("{parent} fn f() {{ profile::visit() }}");
    assert_eq!(wrong(&[("event.rs", &calls_it), encoder, profile]), ["circle of event.rs event/profile.rs"]);
    let siblings = ("event/profile.rs", "use super::Encoder;");
    assert_eq!(wrong(&[("event.rs", parent), encoder, siblings]), ["circle of event/encoder.rs event/profile.rs"]);
}

#[test]
fn an_impl_away_from_its_type_is_caught() {
    let declares =
        ("records/record.rs", "pub struct Gap<T>(T); impl<T: Iterator<Item = fn() -> u8>> Gap<T> { fn id() {} }");
    let others = "impl From<Gap> for u8 {} impl<T> fmt::Display for Gap<T> {} fn f() -> impl Fn() {}";
    assert_eq!(wrong(&[declares, ("event/encoder.rs", others)]), [""; 0]);
    let spread = ("event/encoder.rs", "fn f() {}\nimpl<T> Gap<T> where T: Copy { fn encode() {} }");
    assert_eq!(wrong(&[declares, spread]), ["event/encoder.rs has an impl of Gap"]);
}

#[test]
fn a_pure_file_that_looks_at_the_world_is_caught() {
    for (text, what) in [
        ("use tokio::time::Instant; fn f() { Instant::now(); }", "calls now"),
        ("fn f(since: Option<Instant>) { since.map_or_else(Instant::now, g) }", "calls now"),
        ("fn f(since: Instant) { since.elapsed() }", "calls elapsed"),
        ("async fn f() { tokio::time::sleep(SECOND).await }", "calls sleep"),
        ("fn f() -> f64 { fastrand::f64() }", "uses fastrand"),
        ("use std::{env, fmt};", "uses std::env"),
        ("use std::net::{IpAddr, TcpStream};", "uses std::net"),
    ] {
        assert_eq!(wrong(&[("delivery/retry.rs", text)]), [format!("delivery/retry.rs {what}")], "{text}");
        assert_eq!(wrong(&[("app.rs", text)]), [""; 0], "{text}");
    }
    assert_eq!(wrong(&[("backoff.rs", "use std::net::IpAddr; fn f(now: Instant) { env!(\"X\"); }")]), [""; 0]);
}

#[test]
fn a_library_away_from_its_place_is_caught() {
    for (text, library) in [
        ("use aws_sdk_sts::Client;", "the AWS SDK"),
        ("fn f(_: &rustls::Error) {}", "rustls"),
        ("use hyper_util::rt::TokioIo;", "hyper"),
        ("fn f() { tracing::warn!(\"x\") }", "tracing"),
        ("use {serde::Serialize, std::fs::File};", "std::fs"),
    ] {
        assert_eq!(wrong(&[("pipeline.rs", text)]), [format!("pipeline.rs uses {library}")], "{text}");
    }
    assert_eq!(
        wrong(&[("aws.rs", "use aws_config::Region;"), ("telemetry/logs.rs", "use tracing::Dispatch;")]),
        [""; 0]
    );
    assert_eq!(
        wrong(&[("pipeline.rs", "use serde::Serialize; use crate::records; fn f() { records::fs() }")]),
        [""; 0]
    );
    let provider = "use rustls::crypto::aws_lc_rs; fn f() { aws_lc_rs::default_provider() }";
    assert_eq!(wrong(&[("sink/tls.rs", provider)]), [""; 0], "it is a module of rustls");
}

#[test]
fn a_question_that_answers_nothing_is_caught() {
    for text in [
        "impl Lane { fn is_due(&mut self, shard: (u8, u8)) { self.due = true } }",
        "async fn has_lease<T: Fn() -> u8>(lease: T) where T: Copy {}",
        "trait Health { fn may_pass(&self); }",
    ] {
        let found = wrong(&[("clock.rs", text)]);
        assert!(found.len() == 1 && found[0].ends_with("which answers nothing"), "{text}: {found:?}");
    }
    let answers = "fn is_due() -> bool { true } fn island() {} fn mark_due() {} fn f(is_due: fn(u8) -> bool) {}";
    assert_eq!(wrong(&[("clock.rs", answers)]), [""; 0]);
}
