//! Faults that the test has ordered.

use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// HTTP 400 with this error code.
    Error(&'static str),
    /// This status with a body that is not JSON.
    Html(u16),
    /// This status and this body.
    Answer(u16, String),
    /// The announced body is longer than the one sent.
    Truncated,
    /// 200 with a body that is not JSON.
    Garbage,
    /// The connection is cut without an answer.
    Reset,
    /// No answer for so long, then a cut.
    Hang(Duration),
}

/// A trouble with its extent.
#[derive(Debug, Clone)]
pub struct Fault {
    pub operation: &'static str,
    /// Only calls about this table; all calls if there is none.
    pub table: Option<String>,
    pub trouble: Trouble,
    /// So many more times; for ever if there is none.
    pub times: Option<u32>,
    /// One call in so many.
    pub one_in: u64,
}

#[derive(Default)]
pub struct Faults {
    pub ordered: Vec<Fault>,
    dice: u64,
}

impl Faults {
    /// The next `times` calls of an operation fail.
    pub fn next(&mut self, operation: &'static str, times: u32, trouble: Trouble) {
        self.ordered.push(Fault { operation, table: None, trouble, times: Some(times), one_in: 1 });
    }

    /// All calls of an operation fail until [`Faults::clear`].
    pub fn always(&mut self, operation: &'static str, trouble: Trouble) {
        self.ordered.push(Fault { operation, table: None, trouble, times: None, one_in: 1 });
    }

    /// All calls of an operation about one table fail.
    pub fn always_for(&mut self, table: &str, operation: &'static str, trouble: Trouble) {
        let table = Some(table.to_owned());
        self.ordered.push(Fault { operation, table, trouble, times: None, one_in: 1 });
    }

    /// One call in `one_in` fails, by chance that is the same in every run.
    pub fn sometimes(&mut self, operation: &'static str, one_in: u64, trouble: Trouble) {
        self.ordered.push(Fault { operation, table: None, trouble, times: None, one_in });
    }

    pub fn clear(&mut self) {
        self.ordered.clear();
    }

    /// The trouble that this call meets.
    pub fn strike(&mut self, operation: &str, about: &str) -> Option<Trouble> {
        for fault in &mut self.ordered {
            let meant = fault.operation == operation
                && fault.times != Some(0)
                && fault
                    .table
                    .as_ref()
                    .is_none_or(|table| about.contains(&format!("table/{table}/")) || about == table);
            if !meant {
                continue;
            }
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if (self.dice >> 33).is_multiple_of(fault.one_in) {
                fault.times = fault.times.map(|times| times - 1);
                return Some(fault.trouble.clone());
            }
        }
        None
    }
}
