//! What was found, and how it is reported: lines for people, one JSON object for programs; and the time limit of a check.
//!
//! The JSON object is an interface: `docs/check.md` describes it.

use std::time::Duration;

use serde::Serialize;

use crate::command_output::{EXIT_OK, EXIT_UNAVAILABLE};
use crate::error_text::one_line;

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CheckResult {
    /// As it should be.
    Ok,
    /// The adapter works with it, but the operator should know.
    Warn,
    /// The adapter cannot do its work with it.
    Fail,
    /// Not tried, because a check that it depends on failed.
    Skipped,
}

impl CheckResult {
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
pub(super) struct Check {
    /// What was checked; the same in every run.
    pub(super) name: &'static str,
    /// For which entry of `TABLE`, as the user wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table: Option<String>,
    /// How it ended.
    pub(super) result: CheckResult,
    /// What was found, in one line.
    pub(super) detail: String,
    /// An IAM statement as JSON, a command, or a sentence. The report calls it `remedy`, as `docs/check.md` promises.
    #[serde(rename = "remedy", skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Check {
    fn new(name: &'static str, result: CheckResult, detail: &str) -> Self {
        Self { name, table: None, result, detail: one_line(detail), fix: None }
    }

    pub(super) fn ok(name: &'static str, detail: &str) -> Self {
        Self::new(name, CheckResult::Ok, detail)
    }

    pub(super) fn warn(name: &'static str, detail: &str) -> Self {
        Self::new(name, CheckResult::Warn, detail)
    }

    pub(super) fn fail(name: &'static str, detail: &str) -> Self {
        Self::new(name, CheckResult::Fail, detail)
    }

    /// It was not tried because the check `on` failed.
    pub(super) fn skipped(name: &'static str, on: &str) -> Self {
        Self::new(name, CheckResult::Skipped, &format!("not tried because {on} failed"))
    }

    /// The same with its fix.
    pub(super) fn with_fix(self, fix: impl AsRef<str>) -> Self {
        Self { fix: Some(one_line(fix.as_ref())), ..self }
    }

    /// The same about one entry of `TABLE`.
    pub(super) fn about(self, table: &str) -> Self {
        Self { table: Some(table.to_owned()), ..self }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.result == CheckResult::Fail
    }

    fn line(&self) -> String {
        let (result, name) = (self.result.as_str(), self.name);
        let table = self.table.as_ref().map(|table| format!(" {table}")).unwrap_or_default();
        let fix = self.fix.as_ref().map(|fix| format!("; fix: {fix}")).unwrap_or_default();
        format!("{result:<7} {name}{table}: {}{fix}\n", self.detail)
    }
}

/// All checks of one run, in the order in which an event passes what they check: configuration, AWS, tables, positions, sink, clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// Whether none failed.
    pub(super) ok: bool,
    /// Every check, also those that were skipped.
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// The report of these checks.
    pub(super) fn new(checks: Vec<Check>) -> Self {
        Self { ok: !checks.iter().any(Check::has_failed), checks }
    }

    /// One line a check, and one that counts them.
    pub(super) fn text(&self) -> String {
        let mut text: String = self.checks.iter().map(Check::line).collect();
        let count = |result| self.checks.iter().filter(|check| check.result == result).count();
        let counts = [CheckResult::Ok, CheckResult::Warn, CheckResult::Fail, CheckResult::Skipped]
            .map(|result| format!("{} {}", count(result), result.as_str()));
        text.push_str(&format!("{}\n", counts.join(", ")));
        text
    }

    /// One JSON object in one line.
    pub(super) fn json(&self) -> String {
        let text = serde_json::to_string(self).expect("texts and flags are always JSON");
        format!("{text}\n")
    }

    /// 0, or 69 when a check failed.
    pub(super) fn exit_code(&self) -> u8 {
        if self.ok { EXIT_OK } else { EXIT_UNAVAILABLE }
    }
}

/// The result of `work`; the text of an error when it takes longer than `limit`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, String> {
    let answer = tokio::time::timeout(limit, work).await;
    answer.map_err(|_| format!("no answer within {}", humantime::format_duration(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_everything_about_its_check() {
        let check = Check::fail("records", "denied\nby \u{1b}[31mAWS").about("Orders").with_fix("allow it");
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
