//! Which of our names a name was probably meant to be.

use strsim::damerau_levenshtein;

use super::variables::ALL;

/// Prefixes that are forgotten, or added in the belief that they must be there; the longest first.
const PREFIXES: [&str; 6] = [
    "DYNAMODB_STREAMS_ADAPTER_",
    "DYNAMODB_STREAMS_",
    "DYNAMODB_",
    "ADAPTER_",
    "AWS_",
    "K_",
];

/// From this length on a name may have two typos; below, one.
const LONG: usize = 14;

/// Names shorter than this are too near to everything else.
const SHORT: usize = 5;

/// The variable that `found` was probably meant to be; none when it is one itself, or something else altogether.
pub(super) fn meant(found: &str, is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    let names = || ALL.iter().map(|variable| variable.name);
    if names().any(|known| known == found) || is_service_link(found) {
        return None;
    }
    let upper = found.to_ascii_uppercase();
    let typo = names()
        .map(|known| (distance(&upper, known), known))
        .filter(|(distance, known)| *distance <= allowed(known))
        .min_by_key(|(distance, _)| *distance);
    let other_prefix = || names().find(|known| [*known, stem(known)].contains(&stem(&upper)) && !is_set(known));
    typo.map(|(_, known)| known).or_else(other_prefix)
}

/// Slips between two names; other separators, or none, are not even one.
fn distance(found: &str, known: &str) -> usize {
    let letters = |name: &str| name.replace(['_', '-', '.'], "");
    match letters(found) == letters(known) {
        true => 0,
        false => damerau_levenshtein(found, known),
    }
}

fn allowed(known: &str) -> usize {
    match known.len() {
        ..SHORT => 0,
        SHORT..LONG => 1,
        LONG.. => 2,
    }
}

fn stem(name: &str) -> &str {
    PREFIXES
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name)
}

/// Kubernetes sets these for each service of the namespace: `TABLE_SERVICE_HOST`, `TABLE_SERVICE_PORT_HTTP`,
/// `TABLE_PORT`, `TABLE_PORT_80_TCP_ADDR`, ...
///
/// Source: "Accessing the Service, Environment Variables" in the Kubernetes documentation.
fn is_service_link(name: &str) -> bool {
    let is_service = name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let is_port = |(_, port): (&str, &str)| port.starts_with(|first: char| first.is_ascii_digit());
    is_service || name.ends_with("_PORT") || name.split_once("_PORT_").is_some_and(is_port)
}
