//! `--help` and docs/configuration.md list every variable. `UPDATE_DOCS=1 cargo test --test config` writes the page's list.

use std::path::Path;
use std::{env, fs};

use dynamodb_streams_adapter::config::{Default, help, markdown, variables};

const START: &str = "<!-- variables:start -->\n";
const END: &str = "<!-- variables:end -->";

/// The page with its list as the definition has it; none where the page has no place for a list.
fn rewritten(page: &str) -> Option<String> {
    let (before, rest) = page.split_once(START)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{START}\n{}\n{END}{after}", markdown()))
}

#[test]
fn the_configuration_page_lists_what_the_program_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = fs::read_to_string(&path).expect("docs/configuration.md can be read");
    let expected = rewritten(&page).expect("docs/configuration.md has the two marks of the list");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).expect("docs/configuration.md can be written");
    } else {
        let hint = "is out of date: run UPDATE_DOCS=1 cargo test --test config documents";
        assert!(page == expected, "docs/configuration.md {hint}");
    }
}

#[test]
fn help_shows_every_variable_with_its_default_in_80_columns() {
    let help = help();
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(line.trim_end() == line && !line.contains('`'), "{line:?}");
    }
    for variable in variables() {
        let line = help.lines().find(|line| line.split_whitespace().next() == Some(variable.name));
        assert!(line.is_some_and(|line| line.starts_with("  ")), "{} is missing", variable.name);
    }
    let unwrapped = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for variable in variables() {
        if let Default::Value(value) = variable.default {
            let its_own =
                unwrapped.split_once(&format!(" {} ", variable.name)).map(|(_, rest)| rest).unwrap_or_default();
            let shown = its_own.split_once("[default: ").map(|(_, rest)| rest).unwrap_or_default();
            assert!(shown.starts_with(&format!("{value}]")), "{} shows another default", variable.name);
        }
    }
}

#[test]
fn every_definition_is_complete_and_fits_into_a_table() {
    for variable in variables() {
        let texts = [variable.meaning.to_owned(), variable.accepts.to_string(), variable.shown_default()];
        assert!(variable.meaning.ends_with('.') && !texts[1].is_empty(), "{}", variable.name);
        let fits = |text: &String| !text.contains(['|', '\n']) && text.matches('`').count().is_multiple_of(2);
        assert!(texts.iter().all(fits), "{}: {texts:?}", variable.name);
    }
}
