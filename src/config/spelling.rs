//! Which of our names a name was probably meant to be.
//!
//! What Kubernetes sets for each service (`TABLE_PORT`, `TABLE_SERVICE_HOST`, ...) is far enough from every name of ours
//! to need no rule here; a test holds that for each variable.

use strsim::damerau_levenshtein;

use super::catalog::ALL;

/// Prefixes that are forgotten, or added in the belief that they must be there; the longest first.
const PREFIXES: [&str; 6] = ["DYNAMODB_STREAMS_ADAPTER_", "DYNAMODB_STREAMS_", "DYNAMODB_", "ADAPTER_", "AWS_", "K_"];

/// From this length on a name may have two typos; below, one.
const LONG: usize = 14;

/// Names shorter than this are too near to everything else.
const SHORT: usize = 5;

/// The variable that `found` was probably meant to be; none when it is one itself, or something else altogether.
pub(super) fn meant(found: &str, is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    let names = || ALL.iter().map(|variable| variable.name);
    if names().any(|known| known == found) {
        return None;
    }
    let upper = found.to_ascii_uppercase();
    let typo = names().filter_map(|known| Some((slips(&upper, known)?, known))).min_by_key(|(slips, _)| *slips);
    let other_prefix = || names().find(|known| [*known, stem(known)].contains(&stem(&upper)) && !is_set(known));
    typo.map(|(_, known)| known).or_else(other_prefix)
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
