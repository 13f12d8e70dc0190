//! Enums whose variants have one name each.

/// A closed set of names.
pub(super) trait Choice: Copy + 'static {
    /// Every variant with the name that selects it.
    const CHOICES: &'static [(&'static str, Self)];

    /// The variant of exactly this name.
    fn parse(name: &str) -> Result<Self, super::parse::Refusal> {
        let choice = Self::CHOICES.iter().find(|(known, _)| *known == name);
        choice.map(|(_, choice)| *choice).ok_or("unknown value".into())
    }
}

/// Defines an enum and the name of each variant; one more variant is one more line.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            pub(super) const NAMES: &'static [&'static str] = &[$($text),+];
        }

        impl $crate::config::choice::Choice for $name {
            const CHOICES: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),+];
        }
    };
}

pub(super) use choices;
