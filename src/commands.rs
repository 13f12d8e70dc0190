//! The command line: without arguments the adapter runs, everything else is a subcommand. Pure: `main` prints and starts.
//!
//! Contract: all arguments that cannot be understood are named in one message, with what is expected, and nothing starts. No
//! environment variable is read here: settings belong to [`config`].

pub mod positions;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use self::positions::PositionsCommand;
use crate::check::{self, CheckCommand};
use crate::command_output::{CommandOutput, EXIT_OK, EXIT_USAGE};
use crate::config;

/// The arguments of the program.
#[derive(Debug, Parser)]
#[command(name = "dynamodb-streams-adapter", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

/// A subcommand with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Try what the adapter needs.
    #[command(about = check::ABOUT)]
    Check(CheckCommand),
    /// Show, edit or copy stored positions.
    #[command(about = positions::ABOUT)]
    Positions(Box<PositionsCommand>),
    /// Serve KEDA as an external scaler.
    #[command(about = "Serves KEDA as an external scaler, until a signal ends it: docs/keda.md.")]
    Scaler,
}

/// Instead of the scaler, in a build without it.
pub fn without_scaler() -> CommandOutput {
    let why = "scaler: this build does not have it; use the image, or build with `--features scaler`";
    CommandOutput::failed(EXIT_USAGE, why)
}

/// Reads the arguments of the process, the program's name first; nothing means that the adapter is to run.
///
/// # Errors
/// What to print instead: help, the version, or everything that is wrong with the arguments.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Command>, CommandOutput> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let command_line = command_line();
    let (mut mistakes, mut named) = (Vec::new(), Vec::new());
    loop {
        let matches = command_line.clone().try_get_matches_from(&arguments);
        let error = match matches.and_then(|matches| CommandLine::from_arg_matches(&matches)) {
            Ok(line) if mistakes.is_empty() => return Ok(line.command),
            Ok(_) => break,
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::DisplayHelp => return Err(CommandOutput::done(EXIT_OK, error.to_string())),
            ErrorKind::DisplayVersion => return Err(CommandOutput::done(EXIT_OK, version())),
            // An argument that was taken out below is not missing.
            ErrorKind::MissingRequiredArgument => mistakes.extend(missing(&error, &named)),
            _ => mistakes.push(mistake(&error)),
        }
        named.push(name(&error).to_owned());
        // clap stops at the first mistake. What follows an unknown subcommand cannot be judged.
        if subcommand(&command_line, &arguments).is_none() || !take_out(&mut arguments, &error) {
            break;
        }
    }
    Err(CommandOutput::failed(EXIT_USAGE, &refusal(&command_line, &arguments, &mistakes)))
}

/// Its `--help` explains the variables and the subcommands.
fn command_line() -> clap::Command {
    let mut command = CommandLine::command();
    command.build();
    let mut help = config::help();
    for name in ["positions", "scaler", "check"] {
        let text = command.find_subcommand_mut(name).map(|command| command.render_help().to_string());
        help = format!("{help}\n{}", text.unwrap_or_default());
    }
    command.override_help(help)
}

/// The revision is what the build was told by the variable `VCS_REF`, as the image's build is.
fn version() -> String {
    let revision = option_env!("VCS_REF").unwrap_or("unknown");
    format!("dynamodb-streams-adapter {} (revision {revision})\n", env!("CARGO_PKG_VERSION"))
}

/// The command that the first argument names, and the one of its commands that a later one does.
fn subcommand<'c>(command_line: &'c clap::Command, arguments: &[OsString]) -> Option<&'c clap::Command> {
    let command = command_line.find_subcommand(arguments.get(1)?)?;
    Some(arguments.iter().skip(2).find_map(|argument| command.find_subcommand(argument)).unwrap_or(command))
}

fn refusal(command_line: &clap::Command, arguments: &[OsString], mistakes: &[String]) -> String {
    let mistakes = mistakes.join(", ");
    match subcommand(command_line, arguments) {
        Some(command) => format!("{}: {mistakes}; expected {}", command.get_name(), expected(command)),
        None => format!("{mistakes}; expected {}", expected(command_line)),
    }
}

/// The names that a command takes, such as: `check`, `--help` or `--version`.
fn expected(command: &clap::Command) -> String {
    let subcommands = command.get_subcommands().map(|command| command.get_name().to_owned());
    let arguments = command.get_arguments().filter_map(|argument| argument.get_long()).map(|name| format!("--{name}"));
    let names = subcommands.filter(|name| name != "help").chain(arguments).map(|name| format!("`{name}`"));
    one_of(&names.collect::<Vec<String>>())
}

/// What was not given and is required, but for these arguments.
fn missing(error: &clap::Error, named: &[String]) -> Option<String> {
    let Some(ContextValue::Strings(names)) = error.get(ContextKind::InvalidArg) else { return None };
    let names = names.iter().filter(|name| !named.iter().any(|named| without_value(name) == named));
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    (!names.is_empty()).then(|| format!("{} {verb} required", names.join(", ")))
}

/// One mistake, in the words of the mistakes of the configuration.
fn mistake(error: &clap::Error) -> String {
    let (name, value) = (name(error), text(error, ContextKind::InvalidValue));
    match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => format!("unknown argument {name:?}"),
        ErrorKind::TooManyValues => format!("unknown argument {:?}", format!("{name}={value}")),
        ErrorKind::InvalidValue if value.is_empty() => format!("{name} needs a value"),
        ErrorKind::InvalidValue => format!("{name} must be {}, not {value:?}", one_of(valid_values(error))),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "a command is required".to_owned()
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("{name} must be {why}, not {value:?}")
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// Takes what the error is about out of the arguments, so that the next mistake can be found; false if it is not there.
fn take_out(arguments: &mut Vec<OsString>, error: &clap::Error) -> bool {
    let (name, value) = (name(error), text(error, ContextKind::InvalidValue));
    let is_meant = |at: &usize| {
        let argument = arguments[*at].to_string_lossy();
        match argument.split_once('=') {
            Some((before, behind)) if before == name => value.is_empty() || behind == value,
            _ => argument == name && (value.is_empty() || arguments.get(at + 1).is_some_and(|next| next == value)),
        }
    };
    let Some(at) = (1..arguments.len()).rev().find(is_meant) else { return false };
    let is_joined = arguments[at].to_string_lossy() != name;
    let count = if is_joined || value.is_empty() { 1 } else { 2 };
    arguments.drain(at..at + count);
    true
}

/// The argument without its value's name: `--output` of `--output <text|json>`.
fn name(error: &clap::Error) -> &str {
    let kind = if error.kind() == ErrorKind::InvalidSubcommand {
        ContextKind::InvalidSubcommand
    } else {
        ContextKind::InvalidArg
    };
    without_value(text(error, kind))
}

fn without_value(name: &str) -> &str {
    name.split_once(" <").map_or(name, |(name, _)| name)
}

fn text(error: &clap::Error, kind: ContextKind) -> &str {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text,
        _ => "",
    }
}

fn valid_values(error: &clap::Error) -> &[String] {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => values,
        _ => &[],
    }
}

fn one_of(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Output;

    fn parsed(text: &str) -> Result<Option<Command>, CommandOutput> {
        parse(["dynamodb-streams-adapter"].into_iter().chain(text.split_whitespace()).map(OsString::from))
    }

    fn check(text: &str) -> CheckCommand {
        match parsed(&format!("check {text}")) {
            Ok(Some(Command::Check(check))) => check,
            other => panic!("check {text}: {other:?}"),
        }
    }

    fn refused(text: &str) -> String {
        let output = parsed(text).expect_err("these arguments are wrong");
        assert_eq!((output.exit_code, output.stdout.as_str()), (64, ""));
        output.stderr
    }

    fn printed(text: &str) -> String {
        let output = parsed(text).expect_err("something is printed");
        assert_eq!((output.exit_code, output.stderr.as_str()), (0, ""));
        output.stdout
    }

    #[test]
    fn without_arguments_the_adapter_runs() {
        assert_eq!(parsed(""), Ok(None));
    }

    #[test]
    fn without_arguments_it_checks_for_people_and_posts_nothing() {
        let timeout = std::time::Duration::from_secs(10);
        assert_eq!(
            check(""),
            CheckCommand { output: Output::Text, send_test_event: false, timeout, grace_period: None }
        );
    }

    #[test]
    fn a_value_may_follow_or_be_joined() {
        let timeout = std::time::Duration::from_millis(1500);
        let expected = CheckCommand { output: Output::Json, send_test_event: true, timeout, grace_period: None };
        for text in
            ["--output json --send-test-event --timeout 1500ms", "--send-test-event --timeout=1500ms --output=json"]
        {
            assert_eq!(check(text), expected, "{text}");
        }
        assert_eq!(check("--output text --output json").output, Output::Json, "the last one counts");
        assert!(printed("check --output json --help").contains("--send-test-event"));
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let wrong = refused("check --outptu json --send-test-event=yes --output xml --timeout 0s --timeout");
        for name in
            ["\"--outptu\"", "\"json\"", "\"--send-test-event=yes\"", "\"xml\"", "\"0s\"", "--timeout needs a value"]
        {
            assert!(wrong.contains(name), "{name} is not named in {wrong}");
        }
    }

    #[test]
    fn a_mistake_says_what_is_expected() {
        let expected = "expected `--output`, `--send-test-event`, `--timeout`, `--grace-period` or `--help`\n";
        for (text, why) in [
            ("check -x", "check: unknown argument \"-x\"; "),
            ("check check", "check: unknown argument \"check\"; "),
            ("check --output json --output=xml", "check: --output must be text or json, not \"xml\"; "),
            (
                "check --timeout 2h --timeout 1s",
                "check: --timeout must be a duration up to 1h, such as 500ms or 30s, not \"2h\"; ",
            ),
        ] {
            assert_eq!(refused(text), format!("{why}{expected}"), "{text}");
        }
        for text in ["chekc", "nonsense", "chekc --output json", "-x", "--output"] {
            let name = text.split(' ').next().expect("a word");
            let expected = format!(
                "unknown argument {name:?}; expected `check`, `positions`, `scaler`, `--help` or `--version`\n"
            );
            assert_eq!(refused(text), expected, "{text}");
        }
        for (text, why) in [
            (
                "positions set --table orders --to yesterday",
                "set: --to must be `start`, `since <time in RFC 3339>` or `after",
            ),
            ("positions set --to start", "set: `--table <table>` is required; expected `--table`, "),
            ("positions set", "set: `--table <table>`, `--to <position>` are required; "),
            ("positions import", "import: `<path>` is required; "),
        ] {
            let said = refused(text);
            assert!(said.starts_with(why) && said.matches("required").count() <= 1, "{text}: {said}");
            assert!(said.contains("`--dry-run`") && !said.contains("create-table"), "{text}: {said}");
        }
        for text in ["positions", "positions --group g"] {
            let said = refused(text);
            assert!(said.starts_with("positions: a command is required; expected `show`, "), "{text}: {said}");
        }
        assert_eq!(parsed("scaler"), Ok(Some(Command::Scaler)));
        assert_eq!(without_scaler().exit_code, EXIT_USAGE);
    }

    #[test]
    fn help_and_version_are_printed() {
        let general = printed("--help");
        assert!(general.starts_with(&config::help()), "{general}");
        assert_eq!((printed("-h"), printed("help")), (general.clone(), general.clone()));
        let check = printed("check --help");
        assert_eq!((printed("check -h"), printed("help check")), (check.clone(), check.clone()));
        assert!(check.starts_with("Checks everything that the adapter needs"), "{check}");
        assert!(check.contains("Usage: dynamodb-streams-adapter check") && general.ends_with(&check), "{general}");
        assert!(printed("positions --help").starts_with("Shows, exports, imports, edits and copies stored positions."));
        let version = concat!("dynamodb-streams-adapter ", env!("CARGO_PKG_VERSION"), " (revision ");
        assert!(printed("--version").starts_with(version) && printed("-V") == printed("--version"));
    }

    #[test]
    fn the_help_fits_a_terminal() {
        let help = printed("--help");
        assert!(help.lines().all(|line| line.chars().count() <= 80 && line.trim_end() == line), "{help}");
    }
}
