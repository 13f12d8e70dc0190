//! What was found, and how it is told: lines for people, one JSON object for programs; and the time limit of a check.
//!
//! The JSON object is an interface: `docs/check.md` describes it.

use std::time::Duration;

use serde::Serialize;

use crate::command_output::{EXIT_OK, EXIT_UNAVAILABLE};
use crate::error_text::one_line;

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The adapter works with it, but the operator should know.
    Warn,
    /// The adapter cannot do its work with it.
    Fail,
    /// Not tried, because a check that it depends on failed.
    Skipped,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// One check and its outcome. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked; the same in every run.
    pub name: &'static str,
    /// For which entry of `TABLE`, as the user wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// How it ended.
    pub result: Verdict,
    /// What was found, in one line.
    pub detail: String,
    /// What mends it: an IAM statement as JSON, a command, or a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &'static str, result: Verdict, detail: &str) -> Self {
        Self { name, table: None, result, detail: one_line(detail), remedy: None }
    }

    /// It is as it should be.
    pub fn ok(name: &'static str, detail: &str) -> Self {
        Self::new(name, Verdict::Ok, detail)
    }

    /// It works, with a reservation.
    pub fn warn(name: &'static str, detail: &str) -> Self {
        Self::new(name, Verdict::Warn, detail)
    }

    /// It does not work.
    pub fn fail(name: &'static str, detail: &str) -> Self {
        Self::new(name, Verdict::Fail, detail)
    }

    /// It was not tried because the check `on` failed.
    pub fn skipped(name: &'static str, on: &str) -> Self {
        Self::new(name, Verdict::Skipped, &format!("not tried because {on} failed"))
    }

    /// The same with what mends it.
    pub fn mended_by(self, remedy: impl AsRef<str>) -> Self {
        Self { remedy: Some(one_line(remedy.as_ref())), ..self }
    }

    /// The same about one entry of `TABLE`.
    pub fn about(self, table: &str) -> Self {
        Self { table: Some(table.to_owned()), ..self }
    }

    /// Whether it failed.
    pub fn has_failed(&self) -> bool {
        self.result == Verdict::Fail
    }

    fn line(&self) -> String {
        let (result, name) = (self.result.as_str(), self.name);
        let table = self.table.as_ref().map(|table| format!(" {table}")).unwrap_or_default();
        let remedy = self.remedy.as_ref().map(|remedy| format!("; fix: {remedy}")).unwrap_or_default();
        format!("{result:<7} {name}{table}: {}{remedy}\n", self.detail)
    }
}

/// All checks of one run, in the order of the events' way: configuration, AWS, tables, positions, sink, clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether none failed.
    pub ok: bool,
    /// Every check, also those that were skipped.
    pub checks: Vec<Check>,
}

impl Report {
    /// The report of these checks.
    pub fn new(checks: Vec<Check>) -> Self {
        Self { ok: !checks.iter().any(Check::has_failed), checks }
    }

    /// One line a check, and one that counts them.
    pub fn text(&self) -> String {
        let mut text: String = self.checks.iter().map(Check::line).collect();
        let count = |verdict| self.checks.iter().filter(|check| check.result == verdict).count();
        let counts = [Verdict::Ok, Verdict::Warn, Verdict::Fail, Verdict::Skipped]
            .map(|verdict| format!("{} {}", count(verdict), verdict.as_str()));
        text.push_str(&format!("{}\n", counts.join(", ")));
        text
    }

    /// One JSON object in one line.
    pub fn json(&self) -> String {
        let text = serde_json::to_string(self).expect("texts and flags are always JSON");
        format!("{text}\n")
    }

    /// 0, or 69 when a check failed.
    pub fn exit_code(&self) -> u8 {
        if self.ok { EXIT_OK } else { EXIT_UNAVAILABLE }
    }
}

/// What `work` gives, or what is to be said when it takes longer than `limit`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, String> {
    let answer = tokio::time::timeout(limit, work).await;
    answer.map_err(|_| format!("no answer within {}", humantime::format_duration(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_everything_about_its_check() {
        let check = Check::fail("records", "denied\nby \u{1b}[31mAWS").about("Orders").mended_by("allow it");
        assert_eq!(
            Report::new(vec![check]).text().lines().next(),
            Some("fail    records Orders: denied by  [31mAWS; fix: allow it")
        );
    }

    #[test]
    fn only_a_failure_makes_the_exit_code() {
        let harmless = vec![Check::ok("a", ""), Check::warn("b", ""), Check::skipped("c", "d")];
        assert_eq!(Report::new(harmless.clone()).exit_code(), 0);
        let report = Report::new([harmless, vec![Check::fail("d", "")]].concat());
        assert_eq!((report.exit_code(), report.ok), (69, false));
        assert!(report.text().ends_with("1 ok, 1 warn, 1 fail, 1 skipped\n"), "{}", report.text());
    }

    #[test]
    fn what_is_absent_is_absent_in_json() {
        let json = Report::new(vec![Check::ok("sink-tcp", "connected")]).json();
        let expected = r#"{"ok":true,"checks":[{"name":"sink-tcp","result":"ok","detail":"connected"}]}"#;
        assert_eq!(json.trim_end(), expected);
    }
}
