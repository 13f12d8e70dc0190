//! The lists of variables: as text for `--help`, as Markdown for the documents.

use super::catalog::ALL;
use super::variable::{Fallback, Group, Variable};

/// Width of the help text; terminals have 80 columns or more.
const WIDTH: usize = 80;

/// Where meanings begin: behind the longest name.
const INDENT: usize = 30;

/// The text of `--help`: usage and all variables with their defaults.
pub fn help() -> String {
    let mut text = format!(
        "dynamodb-streams-adapter {}\n\
         Reads the change streams of DynamoDB tables and posts every change as a\n\
         CloudEvent, at least once, the changes of each item in order.\n\n\
         Usage: TABLE=<table> K_SINK=<url> dynamodb-streams-adapter [check | --help]\n\n\
         All settings are environment variables. A blank value counts as not set.\n\
         A duration has a unit, such as 500ms, 30s or 1m30s, from 1ms to 24h.\n\
         A size has a unit, such as 2048KiB, 64MiB or 1GiB; KB, MB, GB: powers of 1000.\n",
        env!("CARGO_PKG_VERSION")
    );
    for group in Group::LISTED {
        text.push_str(&format!("\n{}:\n", group.title()));
        for variable in listed(group) {
            text.push_str(&entry(variable));
        }
    }
    text.push_str("\nExit codes: 0 after SIGTERM or SIGINT, 64 for an invalid configuration,\n");
    text.push_str("70 for an internal fault. More: docs/configuration.md\n");
    text
}

/// The same list as Markdown tables, one for each group.
pub fn markdown() -> String {
    let mut text = String::new();
    for group in Group::LISTED {
        text.push_str(&format!("**{}**\n\n", group.title()));
        text.push_str("| variable | default | takes | meaning |\n|---|---|---|---|\n");
        for variable in listed(group) {
            let Variable { name, takes, meaning, .. } = variable;
            let fallback = variable.shown_fallback();
            text.push_str(&format!("| `{name}` | {fallback} | {takes} | {meaning} |\n"));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn listed(group: Group) -> impl Iterator<Item = &'static Variable> {
    ALL.iter().copied().filter(move |variable| variable.group == group)
}

fn entry(variable: &Variable) -> String {
    let mut sentences = variable.meaning.to_owned();
    let takes = variable.takes.listed();
    if !takes.is_empty() {
        sentences.push_str(&format!(" Takes {takes}."));
    }
    match variable.fallback {
        Fallback::Nothing => {}
        Fallback::Required => sentences.push_str(" [required]"),
        Fallback::Value(_) | Fallback::Else { .. } => {
            sentences.push_str(&format!(" [default: {}]", variable.shown_fallback()));
        }
    }
    let mut entry = String::new();
    let mut head = format!("  {}", variable.name);
    for line in wrapped(&sentences.replace('`', ""), WIDTH - INDENT) {
        entry.push_str(&format!("{head:<INDENT$}{line}\n"));
        head.clear();
    }
    entry
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("it begins with one line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
