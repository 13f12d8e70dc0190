//! All variables, section by section, and what follows from them: the lists for `--help` and the documents, the
//! spelling check.
//!
//! A variable is declared in the section that reads it; the defaults that lists show are the texts that are parsed.

use strsim::damerau_levenshtein;

use super::variable::{Default, Group, Variable};
use super::{aws, checkpoint, delivery, event, process, scaler, sink, source};

/// The variables of each section, in the order in which lists show those of one group.
const SECTIONS: [&[&Variable]; 8] = [
    checkpoint::VARIABLES,
    source::VARIABLES,
    event::VARIABLES,
    sink::VARIABLES,
    delivery::VARIABLES,
    process::VARIABLES,
    aws::VARIABLES,
    scaler::VARIABLES,
];

/// All variables.
pub fn variables() -> impl Iterator<Item = &'static Variable> {
    SECTIONS.into_iter().flatten().copied()
}

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
         Usage: TABLE=<table> K_SINK=<url> dynamodb-streams-adapter [<command>]\n\
         Commands, explained at the end: check, positions, scaler; --help, --version.\n\n\
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
            let Variable { name, accepts, meaning, .. } = variable;
            let default = variable.shown_default();
            text.push_str(&format!("| `{name}` | {default} | {accepts} | {meaning} |\n"));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn listed(group: Group) -> impl Iterator<Item = &'static Variable> {
    variables().filter(move |variable| variable.group == group)
}

fn entry(variable: &Variable) -> String {
    let mut sentences = variable.meaning.to_owned();
    let accepts = variable.accepts.listed();
    if !accepts.is_empty() {
        sentences.push_str(&format!(" Takes {accepts}."));
    }
    match variable.default {
        Default::Nothing => {}
        Default::Required => sentences.push_str(" [required]"),
        Default::Value(_) | Default::Else { .. } => {
            sentences.push_str(&format!(" [default: {}]", variable.shown_default()));
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

/// Prefixes that are forgotten, or added in the belief that they must be there; the longest first.
const PREFIXES: [&str; 6] = ["DYNAMODB_STREAMS_ADAPTER_", "DYNAMODB_STREAMS_", "DYNAMODB_", "ADAPTER_", "AWS_", "K_"];

/// What other programs call a table or a sink.
const ENDINGS: [&str; 5] = ["_NAME", "_NAMES", "_ARN", "_URL", "_URI"];

/// From this length on a name may have two typos; below, one.
const LONG: usize = 14;

/// Names shorter than this are too near to everything else.
const SHORT: usize = 5;

/// The variable that `found` was probably meant to be; none when it is one itself, or something else altogether.
pub(super) fn meant(found: &str, is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    let names = || variables().map(|variable| variable.name);
    if names().any(|known| known == found) {
        return None;
    }
    let upper = found.to_ascii_uppercase();
    let typo = names().filter_map(|known| Some((slips(&upper, known)?, known))).min_by_key(|(slips, _)| *slips);
    let other_prefix = || names().find(|known| [*known, stem(known)].contains(&stem(&upper)) && !is_set(known));
    typo.map(|(_, known)| known).or_else(other_prefix).or_else(|| longer(&upper, is_set))
}

/// A required variable, not set, whose name with one of the usual endings was found: `TABLE_NAME`, `SINK_URL`.
fn longer(found: &str, is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    let found = ENDINGS.iter().find_map(|ending| found.strip_suffix(ending))?;
    let mut required = variables().filter(|variable| variable.default == Default::Required && !is_set(variable.name));
    required.find(|variable| stem(variable.name) == stem(found)).map(|variable| variable.name)
}

/// Slips between two names, if they are few; other separators, or none, are not even one.
///
/// Thousands of service links may be set, so lengths are compared before letters.
fn slips(found: &str, known: &str) -> Option<usize> {
    let letters = |name: &str| name.replace(['_', '-', '.'], "");
    if letters(found) == letters(known) {
        return Some(0);
    }
    let allowed = allowed(known);
    if found.len().abs_diff(known.len()) > allowed {
        return None;
    }
    Some(damerau_levenshtein(found, known)).filter(|slips| *slips <= allowed)
}

fn allowed(known: &str) -> usize {
    match known.len() {
        ..SHORT => 0,
        SHORT..LONG => 1,
        LONG.. => 2,
    }
}

fn stem(name: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}
