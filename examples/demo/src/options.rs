//! The options of `cargo run -p demo -- OPTIONS`.

pub const HELP: &str = "\
Shows the adapter at work on this machine, with an embedded DynamoDB.

usage: cargo run -p demo [-- OPTIONS]

  --seconds N   stop after N seconds (default: until Ctrl-C)
  --rate N      changes a second (default: 5)
  --chaos       the sink fails now and then, and the adapter is killed and started again
  --help        this text
";

pub struct Options {
    pub seconds: Option<u64>,
    pub rate: u32,
    pub chaos: bool,
}

impl Options {
    /// Nothing if only help is wanted.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { seconds: None, rate: 5, chaos: false };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let text = arguments.next().unwrap_or_default();
                let number = text.parse::<u32>().ok().filter(|number| *number > 0);
                number.ok_or_else(|| format!("{argument} takes a number above 0, not {text:?}"))
            };
            match argument.as_str() {
                "--seconds" => options.seconds = Some(u64::from(number()?)),
                "--rate" => options.rate = number()?,
                "--chaos" => options.chaos = true,
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("{other:?} is not an option")),
            }
        }
        Ok(Some(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Options>, String> {
        Options::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_understood_and_mistakes_named() {
        let options = parse("--seconds 7 --rate 9 --chaos").unwrap().unwrap();
        assert_eq!((options.seconds, options.rate, options.chaos), (Some(7), 9, true));
        assert!(parse("--help").unwrap().is_none());
        for (text, named) in [("--rate 0", "--rate"), ("--seconds", "--seconds"), ("--fast", "--fast")] {
            assert!(parse(text).err().unwrap().contains(named));
        }
    }
}
