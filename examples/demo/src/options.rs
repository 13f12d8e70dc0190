//! The options of `cargo run -p demo -- OPTIONS`.

use clap::{Parser, value_parser};

/// Shows the adapter at work on this machine, with an embedded DynamoDB.
#[derive(Debug, Parser)]
#[command(override_usage = "cargo run -p demo [-- OPTIONS]")]
pub struct Options {
    /// Stop after N seconds [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    pub seconds: Option<u64>,
    /// Changes a second
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    pub rate: u32,
    /// The sink fails now and then, and the adapter is killed and started again
    #[arg(long)]
    pub chaos: bool,
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn parse(text: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(["demo"].into_iter().chain(text.split_whitespace()))
    }

    #[test]
    fn options_are_understood_and_mistakes_named() {
        let options = parse("--seconds 7 --rate 9 --chaos").unwrap();
        assert_eq!((options.seconds, options.rate, options.chaos), (Some(7), 9, true));
        let options = parse("").unwrap();
        assert_eq!((options.seconds, options.rate, options.chaos), (None, 5, false));
        assert_eq!(parse("--help").unwrap_err().kind(), ErrorKind::DisplayHelp);
        for (text, named) in
            [("--rate 0", "--rate"), ("--seconds 0", "--seconds"), ("--seconds", "--seconds"), ("--fast", "--fast")]
        {
            assert!(parse(text).unwrap_err().to_string().contains(named));
        }
    }
}
