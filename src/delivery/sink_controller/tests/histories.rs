//! Generated histories: whatever sinks answer, and in whatever order.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Time passes.
    Wait(Duration),
    /// What may start is started, at most so many requests of so many events.
    Start { requests: usize, events: usize, kind: AttemptKind },
    /// Waits until something may start.
    WaitForPermission,
    /// One of those under way ends.
    End { which: usize, outcome: Outcome, lane: u64, waiting_lanes: usize },
}

fn kinds() -> impl Strategy<Value = AttemptKind> {
    prop_oneof![4 => Just(AttemptKind::FirstAttempt), 1 => Just(AttemptKind::Retry), 1 => Just(AttemptKind::DeadLetter)]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => Just(Outcome::Accepted),
        2 => Just(Outcome::Refused),
        6 => Just(CONGESTED),
        2 => (0u64..5_000).prop_map(asks),
        3 => Just(Outcome::Failed),
        1 => Just(Outcome::Unsent),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let ends = (any::<usize>(), outcomes(), 0u64..200, 0usize..200);
    prop_oneof![
        2 => (0u64..3_000_000).prop_map(|micros| Step::Wait(Duration::from_micros(micros))),
        2 => (0u64..3_000).prop_map(|micros| Step::Wait(Duration::from_micros(micros))),
        6 => (1usize..100, 1usize..50, kinds())
            .prop_map(|(requests, events, kind)| Step::Start { requests, events, kind }),
        3 => Just(Step::WaitForPermission),
        20 => ends.prop_map(|(which, outcome, lane, waiting_lanes)| Step::End { which, outcome, lane, waiting_lanes }),
    ]
}

/// What a history has shown so far.
struct History {
    scene: Scene,
    rate_max: Option<f64>,
    under_way: Vec<(Permit, AttemptKind, u64)>,
    started: u64,
    /// When each request started, and with how many events.
    starts: Vec<(Instant, usize)>,
    last_probe: Option<Instant>,
    /// How many had started when the rate last went down.
    cut_at: u64,
}

impl History {
    fn new(concurrency: usize, rate_max: Option<f64>) -> Self {
        let scene = Scene::limited(ControllerLimits { concurrency, rate_max, keeps_refused: false });
        let (under_way, starts) = (Vec::new(), Vec::new());
        Self { scene, rate_max, under_way, started: 0, starts, last_probe: None, cut_at: 0 }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Wait(time) => self.scene.now += time,
            Step::Start { requests, events, kind } => (0..requests).for_each(|_| self.start(events, kind)),
            Step::WaitForPermission => self.wait_for_permission(),
            Step::End { which, outcome, lane, waiting_lanes } => self.end(which, outcome, lane, waiting_lanes),
        }
        let may = self.scene.controller.may_start(self.scene.now);
        assert!(may.is_some() || !self.under_way.is_empty(), "stuck: {:?}", self.scene.view());
        assert_eq!(self.scene.view().in_flight, self.under_way.len());
    }

    fn wait_for_permission(&mut self) {
        if let Some(at) = self.scene.controller.may_start(self.scene.now) {
            assert!(at <= self.scene.now + Duration::from_secs(3_700), "for ever: {:?}", self.scene.view());
            self.scene.now = at;
            assert!(self.scene.may_start(), "not even then: {:?}", self.scene.view());
        }
    }

    fn start(&mut self, events: usize, kind: AttemptKind) {
        if !self.scene.may_start() {
            return;
        }
        let (view, now) = (self.scene.view(), self.scene.now);
        assert!(self.under_way.len() < view.ceiling, "above the ceiling: {view:?}");
        assert_eq!(view.paused_until, None, "in a pause");
        if view.down.is_some() {
            assert!(self.last_probe.is_none_or(|last| now >= last + SECOND), "two probes in a second");
            self.last_probe = Some(now);
        } else {
            self.last_probe = None;
        }
        let permit = self.scene.controller.started(kind, events, now);
        self.started += 1;
        self.under_way.push((permit, kind, self.started));
        self.starts.push((now, events));
        assert!(self.scene.view().rate >= view.rate, "a start lowered the rate");
    }

    fn end(&mut self, which: usize, outcome: Outcome, lane: u64, waiting_lanes: usize) {
        if self.under_way.is_empty() {
            return;
        }
        let (permit, kind, number) = self.under_way.swap_remove(which % self.under_way.len());
        let before = self.scene.view();
        self.scene.waiting_lanes = waiting_lanes;
        let change = self.scene.end_of(lane, permit, outcome);
        let after = self.scene.view();
        let is_lower = after.rate.unwrap_or(f64::INFINITY) < before.rate.unwrap_or(f64::INFINITY);
        let began_pause = after.paused_until.is_some() && before.paused_until.is_none();
        if is_lower && change == Change::None && !began_pause {
            assert!(number > self.cut_at, "two cuts in a round trip: {before:?} {after:?}");
            assert_ne!(kind, AttemptKind::Retry, "cut by a retry");
        }
        if is_lower {
            assert!(before.down.is_none() || change != Change::None, "cut while down");
            self.cut_at = self.started;
        }
        assert_eq!(after.down.is_some(), self.scene.controller.is_down());
        if change == Change::None {
            assert_eq!(before.down, after.down);
        }
    }

    /// In no stretch of time were there more events than the ceiling allows, but for one request's.
    fn judge_rate_max(&self) {
        let Some(rate_max) = self.rate_max else { return };
        for (first, (from, _)) in self.starts.iter().enumerate().step_by(7) {
            let mut events = 0;
            for (at, more) in self.starts[first..].iter().take(200) {
                let allowed = ((*at - *from) + spacing::TOLERANCE_MAX).as_secs_f64() * rate_max;
                assert!(events as f64 <= allowed + 50.0 + 1e-3, "{events} events in {:?}", *at - *from);
                events += more;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn no_history_breaks_a_rule(
        concurrency in 1usize..200,
        rate_max in prop_oneof![Just(None), (0.5f64..5_000.0).prop_map(Some)],
        steps in prop::collection::vec(steps(), 1..400),
    ) {
        let mut history = History::new(concurrency, rate_max);
        for step in steps {
            history.take(step);
        }
        history.judge_rate_max();
    }
}
