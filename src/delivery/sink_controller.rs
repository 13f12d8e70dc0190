//! TEMPORARY
use std::time::Duration;
use tokio::time::Instant;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptKind { FirstAttempt, Retry, DeadLetter }
#[derive(Debug, Clone, Copy)]
pub struct ControllerLimits { pub concurrency: usize, pub rate_max: Option<f64> }
#[derive(Debug)]
pub struct SinkController { limits: ControllerLimits, failed: std::collections::BTreeSet<u64>, down: Option<Instant>, probing: bool, due: Option<Instant>, n: usize }
#[derive(Debug, Clone, Copy)]
pub struct Permit { probe: bool, kind: AttemptKind }
#[derive(Debug, Clone, Copy)]
pub struct AttemptReport { pub lane: u64, pub outcome: Outcome, pub waiting_lanes: usize }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome { Accepted, Refused, Congested { retry_after: Option<Duration> }, Failed, Unsent }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownReason { Failing, Refusing }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change { None, WentDown(DownReason), CameUp(Duration) }
#[derive(Debug, Clone)]
pub struct ControllerView {}
impl SinkController {
    pub fn new(limits: ControllerLimits) -> Self { Self { limits, failed: Default::default(), down: None, probing: false, due: None, n: 0 } }
    pub fn may_start(&self, now: Instant) -> Option<Instant> { if self.down.is_some() { if self.probing { None } else { self.due.map(|d| d.max(now)) } } else if self.n < self.limits.concurrency { Some(now) } else { None } }
    pub fn is_down(&self) -> bool { self.down.is_some() }
    pub fn ceiling(&self) -> usize { self.limits.concurrency }
    pub fn started(&mut self, kind: AttemptKind, _events: usize, _now: Instant) -> Permit { self.n += 1; let probe = self.down.is_some(); self.probing |= probe; Permit { probe, kind } }
    pub fn ended(&mut self, permit: Permit, report: AttemptReport, now: Instant) -> Change {
        self.n -= 1;
        if permit.probe { self.probing = false; self.due = Some(now + Duration::from_secs(1)); }
        match report.outcome {
            Outcome::Accepted | Outcome::Refused => { self.failed.clear(); match self.down.take() { Some(since) => Change::CameUp(now - since), None => Change::None } }
            Outcome::Congested { .. } | Outcome::Failed => {
                if permit.kind == AttemptKind::FirstAttempt { self.failed.insert(report.lane); }
                if self.failed.len() >= 64 && self.down.is_none() { self.down = Some(now); self.due = Some(now + Duration::from_secs(1)); return Change::WentDown(DownReason::Failing) }
                Change::None
            }
            Outcome::Unsent => Change::None,
        }
    }
    pub fn view(&self, _now: Instant) -> ControllerView { ControllerView {} }
}
