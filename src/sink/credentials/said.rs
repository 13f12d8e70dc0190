//! What is wrong with files, said when it is news.

use std::collections::BTreeMap;

use super::parts::Parts;
use crate::sink::reloading_file::Watched;
use crate::telemetry::events;

/// What was said about files, by their path: the same is said once.
pub(super) type Said = BTreeMap<String, String>;

impl Parts {
    /// Says what is wrong with files, and what is right again.
    pub(super) fn say(&mut self) {
        let problems = self.problems();
        for (path, (text, severity)) in &problems {
            if self.said.get(path) != Some(text) {
                events::SinkFileUnusable { text, stops_delivery: *severity == Severity::StopsDelivery }.emit();
            }
        }
        for path in self.said.keys().filter(|path| !problems.contains_key(*path)) {
            events::SinkFileUsable { path }.emit();
        }
        self.said = problems.into_iter().map(|(path, (text, _))| (path, text)).collect();
    }

    /// In words, what is wrong with files that nothing waits for.
    pub(super) fn survivable_problems(&self) -> Vec<String> {
        let problems = self.problems().into_values();
        problems.filter(|(_, severity)| *severity == Severity::Survivable).map(|(text, _)| text).collect()
    }

    fn problems(&self) -> BTreeMap<String, (String, Severity)> {
        let mut problems = BTreeMap::new();
        if let Some(tls) = &self.tls {
            for (path, why) in tls.roots.problems() {
                problems.insert(path.display().to_string(), (why, Severity::Survivable));
            }
        }
        let identity = self.tls.as_ref().and_then(|tls| tls.identity.as_ref()).and_then(problem_of);
        let headers = self.headers.as_ref().and_then(problem_of);
        let token = self.token.as_ref().filter(|token| token.problem().is_some());
        let token = token.and_then(|token| problem_of(&token.file));
        problems.extend([identity, headers, token].into_iter().flatten());
        problems
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// Nothing can be sent.
    StopsDelivery,
    /// The others, or what was there before, are used.
    Survivable,
}

fn problem_of<T>(file: &Watched<T>) -> Option<(String, (String, Severity))> {
    let severity = if file.value().is_some() { Severity::Survivable } else { Severity::StopsDelivery };
    Some((file.path().display().to_string(), (file.problem()?.to_string(), severity)))
}
