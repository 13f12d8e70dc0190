//! The controller by itself: single rules, and generated histories. What it makes of sinks: `tests/simulation/sinks.rs`.

mod histories;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A controller, and a clock that the test moves.
struct Scene {
    controller: SinkController,
    now: Instant,
    lane: u64,
    waiting_lanes: usize,
}

impl Scene {
    fn new(concurrency: usize) -> Self {
        Self::limited(ControllerLimits { concurrency, rate_max: None, keeps_refused: false })
    }

    fn limited(limits: ControllerLimits) -> Self {
        let controller = SinkController::new(limits);
        Self { controller, now: Instant::now(), lane: 0, waiting_lanes: 1_000_000 }
    }

    fn may_start(&self) -> bool {
        self.controller.may_start(self.now).is_some_and(|at| at <= self.now)
    }

    fn start(&mut self, kind: AttemptKind) -> Permit {
        assert!(self.may_start(), "{:?}", self.view());
        self.controller.started(kind, 1, self.now)
    }

    fn end(&mut self, permit: Permit, outcome: Outcome) -> Change {
        self.lane += 1;
        self.end_of(self.lane, permit, outcome)
    }

    fn end_of(&mut self, lane: u64, permit: Permit, outcome: Outcome) -> Change {
        let report = AttemptReport { lane, outcome, waiting_lanes: self.waiting_lanes };
        self.controller.ended(permit, report, self.now)
    }

    /// Waits until one may start, starts it, and ends it a moment later.
    fn attempt(&mut self, kind: AttemptKind, outcome: Outcome) -> Change {
        self.now = self.controller.may_start(self.now).unwrap();
        let permit = self.start(kind);
        self.now += 10 * MS;
        self.end(permit, outcome)
    }

    fn first(&mut self, outcome: Outcome) -> Change {
        self.attempt(AttemptKind::FirstAttempt, outcome)
    }

    /// As many first attempts of distinct items as it takes, none after the other has ended; the last one's change.
    fn first_of_many(&mut self, times: usize, outcome: Outcome) -> Change {
        (0..times).map(|_| self.first(outcome)).find(|change| *change != Change::None).unwrap_or(Change::None)
    }

    fn view(&self) -> ControllerView {
        self.controller.view(self.now)
    }

    /// Cuts the rate: half of the requests are congested.
    fn congest(&mut self) {
        while self.view().rate.is_none() {
            self.first(Outcome::Accepted);
            self.first(CONGESTED);
        }
    }

    fn take_down(&mut self) {
        assert_eq!(self.first_of_many(64, Outcome::Failed), Change::WentDown(DownReason::Failing));
    }
}

const CONGESTED: Outcome = Outcome::Congested { retry_after: None };

fn asks(seconds: u64) -> Outcome {
    Outcome::Congested { retry_after: Some(Duration::from_secs(seconds)) }
}

#[test]
fn a_sink_that_takes_everything_gets_all_places_at_once() {
    let mut scene = Scene::new(64);
    for _ in 0..64 {
        scene.start(AttemptKind::FirstAttempt);
    }
    assert_eq!(scene.controller.may_start(scene.now), None, "a 65th");
}

#[test]
fn neither_latency_nor_other_faults_nor_retries_lower_the_rate() {
    let mut scene = Scene::new(64);
    for _ in 0..1_000 {
        let permit = scene.start(AttemptKind::FirstAttempt);
        scene.now += 30 * SECOND;
        scene.end(permit, Outcome::Accepted);
        scene.first(Outcome::Failed);
        scene.first(Outcome::Unsent);
        scene.attempt(AttemptKind::Retry, CONGESTED);
    }
    assert_eq!((scene.view().rate, scene.view().ceiling, scene.view().moved), (None, 64, Cause::Start));
}

#[test]
fn a_few_congested_ones_among_many_do_not_lower_the_rate() {
    let mut scene = Scene::new(64);
    for number in 0..10_000 {
        scene.first(if number % 100 == 0 { CONGESTED } else { Outcome::Accepted });
    }
    assert_eq!(scene.view().rate, None);
}

#[test]
fn what_started_before_a_cut_does_not_cut_again() {
    let mut scene = Scene::new(64);
    let permits: Vec<Permit> = (0..64).map(|_| scene.start(AttemptKind::FirstAttempt)).collect();
    scene.now += 10 * MS;
    let mut rates = Vec::new();
    for permit in permits {
        scene.end(permit, CONGESTED);
        rates.extend(scene.view().rate);
    }
    assert!(rates.len() > 50, "it was cut late");
    assert!(rates.windows(2).all(|pair| pair[0] == pair[1]), "{rates:?}");
}

#[test]
fn the_rate_spaces_starts_and_rises_only_while_events_wait() {
    let mut scene = Scene::new(64);
    scene.congest();
    scene.first_of_many(60, Outcome::Accepted);
    let rate = scene.view().rate.unwrap();
    for _ in 0..100 {
        scene.now += SECOND;
        scene.first(Outcome::Accepted);
    }
    assert_eq!(scene.view().rate, Some(rate), "one event a second waited for nothing");
    for _ in 0..3_000 {
        let began = scene.now;
        scene.first(Outcome::Accepted);
        let earliest = 1.0 / scene.view().rate.unwrap() - 0.011;
        assert!((scene.now - began).as_secs_f64() >= earliest.max(0.0));
    }
    assert!(scene.view().rate.unwrap() > rate * 1.1, "{:?}", scene.view());
    assert_eq!(scene.view().moved, Cause::Demand);
}

#[test]
fn events_that_come_more_seldom_than_they_may_do_not_raise_the_rate() {
    let mut scene = Scene::new(64);
    scene.congest();
    scene.first_of_many(60, Outcome::Accepted);
    let rate = scene.view().rate.unwrap();
    let (mut chance, end) = (fastrand::Rng::with_seed(1), scene.now + 60 * SECOND);
    while scene.now < end {
        scene.now += Duration::from_secs_f64((1.2 + chance.f64()) / rate);
        let permit = scene.start(AttemptKind::FirstAttempt);
        scene.end(permit, Outcome::Accepted);
    }
    assert_eq!(scene.view().rate, Some(rate));
}

#[test]
fn only_what_could_not_start_before_has_waited() {
    let (mut spacing, now) = (Spacing::default(), Instant::now());
    assert_eq!(spacing.take(1.0, 500.0, now), None);
    assert_eq!(spacing.take(1.0, 500.0, now + MS), None, "it might have started at once");
    let next = spacing.next().unwrap();
    assert!(next > now + MS, "two at once, and no pause after them");
    assert_eq!(spacing.take(1.0, 500.0, next + MS), Some(next - now));
    assert_eq!(spacing.take(1.0, 500.0, next + 10 * MS), None, "it came late by itself");
}

#[test]
fn attempts_that_were_not_sent_do_not_keep_a_cut_from_being_judged() {
    let mut scene = Scene::new(64);
    scene.congest();
    scene.first_of_many(100, Outcome::Unsent);
    scene.first_of_many(2_000, Outcome::Accepted);
    assert_eq!(scene.view().moved, Cause::Demand);
}

#[test]
fn late_wakes_cost_no_rate() {
    let mut scene = Scene::new(64);
    scene.congest();
    scene.first_of_many(60, Outcome::Accepted);
    let (began, mut expected) = (scene.now, 0.0);
    for _ in 0..500 {
        let interval = 1.0 / scene.view().rate.unwrap();
        expected += interval;
        scene.now = scene.controller.may_start(scene.now).unwrap() + Duration::from_secs_f64(interval * 0.4);
        let permit = scene.start(AttemptKind::FirstAttempt);
        scene.end(permit, Outcome::Accepted);
    }
    let took = (scene.now - began).as_secs_f64();
    assert!(took <= expected * 1.01, "{took} s instead of {expected} s");
}

#[test]
fn the_ceiling_follows_a_sink_that_gets_slower() {
    let mut scene = Scene::new(1_000);
    scene.congest();
    scene.first_of_many(60, Outcome::Accepted);
    let rate = scene.view().rate.unwrap();
    // Each attempt takes a second from now on: what waits is started as it may be.
    let (end, mut under_way, mut starts) = (scene.now + 20 * SECOND, std::collections::VecDeque::new(), 0);
    while scene.now < end {
        while under_way.front().is_some_and(|(ends, _)| *ends <= scene.now) {
            let (_, permit) = under_way.pop_front().unwrap();
            scene.end(permit, Outcome::Accepted);
        }
        if scene.may_start() {
            under_way.push_back((scene.now + SECOND, scene.start(AttemptKind::FirstAttempt)));
            starts += u32::from(scene.now > end - 10 * SECOND);
        } else {
            scene.now += MS;
        }
    }
    assert!(f64::from(starts) >= 10.0 * rate * 0.95, "{starts} starts in 10 s at {rate}: {:?}", scene.view());
}

#[test]
fn a_pause_that_three_lanes_are_asked_for_is_the_whole_sinks() {
    let mut scene = Scene::new(64);
    scene.first(Outcome::Accepted);
    let permits: Vec<Permit> = (0..4).map(|_| scene.start(AttemptKind::FirstAttempt)).collect();
    scene.now += 10 * MS;
    scene.end(permits[0], asks(7));
    scene.end(permits[1], asks(9));
    scene.end_of(scene.lane, permits[2], asks(8));
    assert!(scene.may_start(), "two lanes, one of them twice");
    scene.end(permits[3], asks(3));
    let until = scene.now + 8 * SECOND;
    assert_eq!(scene.controller.may_start(scene.now), Some(until), "the longest that its lanes were asked for last");
    assert_eq!(scene.view().paused_until, Some(until));
    scene.now = until;
    assert!(scene.may_start());
    assert_eq!(scene.view().paused_until, None);
}

#[test]
fn no_pause_is_longer_than_an_hour() {
    let mut scene = Scene::new(64);
    scene.first_of_many(3, asks(1_000_000));
    assert_eq!(scene.view().paused_until, Some(scene.now + Duration::from_secs(3_600)));
}

#[test]
fn lanes_that_are_asked_far_apart_pause_the_sink_only_if_it_took_nothing_between() {
    let mut scene = Scene::new(64);
    for _ in 0..20 {
        scene.now += SECOND;
        scene.attempt(AttemptKind::Retry, asks(60));
        scene.first(Outcome::Accepted);
    }
    assert_eq!(scene.view().paused_until, None);
    for _ in 0..3 {
        scene.now += SECOND;
        scene.attempt(AttemptKind::Retry, asks(60));
    }
    assert!(scene.view().paused_until.is_some());
}

#[test]
fn sixty_four_distinct_items_in_a_row_are_an_outage_and_fewer_are_not() {
    let mut scene = Scene::new(64);
    for _ in 0..10 {
        assert_eq!(scene.first_of_many(63, Outcome::Failed), Change::None);
        assert_eq!(scene.first(Outcome::Accepted), Change::None);
    }
    let permit = scene.start(AttemptKind::FirstAttempt);
    scene.first_of_many(63, Outcome::Failed);
    let of_the_row = scene.lane;
    for _ in 0..100 {
        assert_eq!(scene.attempt(AttemptKind::Retry, Outcome::Failed), Change::None, "a retry");
    }
    assert_eq!(scene.end_of(of_the_row, permit, Outcome::Failed), Change::None, "an item of the row");
    assert_eq!(scene.first(Outcome::Failed), Change::WentDown(DownReason::Failing));
}

#[test]
fn congestion_is_an_outage_only_if_the_sink_took_nothing_for_a_second() {
    let mut scene = Scene::new(1_000);
    let permits: Vec<Permit> = (0..500).map(|_| scene.start(AttemptKind::FirstAttempt)).collect();
    scene.end(permits[0], Outcome::Accepted);
    for permit in &permits[1..400] {
        assert_eq!(scene.end(*permit, CONGESTED), Change::None);
    }
    scene.now += SECOND;
    assert_eq!(scene.end(permits[400], CONGESTED), Change::WentDown(DownReason::Failing));
}

#[test]
fn all_items_that_there_are_are_an_outage_after_five_seconds() {
    let mut scene = Scene::new(64);
    scene.waiting_lanes = 3;
    scene.first_of_many(2, Outcome::Failed);
    scene.now += 10 * SECOND;
    assert_eq!(scene.attempt(AttemptKind::Retry, Outcome::Failed), Change::None, "one of three was not tried");
    assert_eq!(scene.first(Outcome::Accepted), Change::None);
    scene.first_of_many(3, Outcome::Failed);
    scene.now += 4 * SECOND;
    assert_eq!(scene.attempt(AttemptKind::Retry, CONGESTED), Change::None, "too early");
    scene.now += SECOND;
    assert_eq!(scene.attempt(AttemptKind::Retry, CONGESTED), Change::WentDown(DownReason::Failing));
}

#[test]
fn a_sink_that_is_down_gets_one_probe_a_second() {
    let mut scene = Scene::new(64);
    let leftover = scene.start(AttemptKind::FirstAttempt);
    scene.take_down();
    let due = scene.now + SECOND;
    assert_eq!(scene.controller.may_start(scene.now), Some(due));
    scene.now = due;
    let probe = scene.start(AttemptKind::Retry);
    assert_eq!(scene.controller.may_start(scene.now), None, "a second probe beside the first");
    scene.end(leftover, Outcome::Failed);
    assert_eq!(scene.controller.may_start(scene.now), None, "what started before is not the probe");
    scene.end(probe, Outcome::Failed);
    assert_eq!(scene.controller.may_start(scene.now), Some(due + SECOND));
    scene.now += 100 * SECOND;
    let slow = scene.start(AttemptKind::FirstAttempt);
    scene.now += 30 * SECOND;
    scene.end(slow, CONGESTED);
    assert!(scene.may_start(), "a probe that took longer than a second");
}

#[test]
fn a_probe_does_not_wait_for_what_hangs_since_before_the_outage() {
    let mut scene = Scene::new(200);
    scene.first(Outcome::Accepted);
    let hanging: Vec<Permit> = (0..150).map(|_| scene.start(AttemptKind::FirstAttempt)).collect();
    scene.now += 2 * SECOND;
    let changes: Vec<Change> = hanging[..64].iter().map(|permit| scene.end(*permit, CONGESTED)).collect();
    assert_eq!(changes[63], Change::WentDown(DownReason::Failing));
    assert_eq!(scene.controller.may_start(scene.now), Some(scene.now + SECOND), "{:?}", scene.view());
}

#[test]
fn a_probe_that_was_not_sent_moves_nothing_and_hangs_nothing() {
    let mut scene = Scene::new(64);
    scene.take_down();
    for _ in 0..10 {
        assert_eq!(scene.first(Outcome::Unsent), Change::None);
        assert!(scene.controller.is_down());
    }
    assert!(matches!(scene.first(Outcome::Accepted), Change::CameUp(_)));
}

#[test]
fn a_success_or_a_refusal_ends_an_outage_and_says_how_long_it_was() {
    for outcome in [Outcome::Accepted, Outcome::Refused] {
        let mut scene = Scene::new(64);
        scene.take_down();
        let since = scene.now;
        assert_eq!(scene.view().down, Some((since, DownReason::Failing)));
        scene.first_of_many(5, Outcome::Failed);
        let Change::CameUp(length) = scene.first(outcome) else { panic!("{outcome:?}") };
        assert_eq!(length, scene.now - since);
        assert!(!scene.controller.is_down());
    }
}

#[test]
fn after_an_outage_each_success_doubles_what_may_be_in_flight() {
    let mut scene = Scene::new(64);
    scene.take_down();
    scene.first(Outcome::Accepted);
    for ceiling in [1, 2, 4, 8, 16, 32, 64] {
        assert_eq!(scene.view().ceiling, ceiling);
        scene.first(Outcome::Accepted);
    }
}

#[test]
fn an_outage_does_not_spoil_what_was_known_of_the_sink() {
    let mut scene = Scene::new(64);
    scene.congest();
    scene.first_of_many(400, Outcome::Accepted);
    let before = scene.view().rate.unwrap();
    while !scene.controller.is_down() {
        scene.first(CONGESTED);
    }
    assert!(scene.view().rate.unwrap() < before * 0.5, "the outage's own congestion cuts: {:?}", scene.view());
    scene.first(Outcome::Accepted);
    assert!(scene.view().rate.unwrap() > before * 0.7, "{:?}", scene.view());
}

#[test]
fn items_that_are_all_refused_pause_delivery_until_one_is_accepted() {
    let mut scene = Scene::new(64);
    for _ in 0..3 {
        assert_eq!(scene.first_of_many(63, Outcome::Refused), Change::None);
        scene.first(Outcome::Accepted);
    }
    for _ in 0..100 {
        scene.attempt(AttemptKind::Retry, Outcome::Refused);
    }
    assert_eq!(scene.first_of_many(64, Outcome::Refused), Change::WentDown(DownReason::Refusing));
    for outcome in [Outcome::Refused, Outcome::Failed, CONGESTED, Outcome::Refused] {
        assert_eq!(scene.first(outcome), Change::None, "{outcome:?}");
    }
    assert!(matches!(scene.first(Outcome::Accepted), Change::CameUp(_)));
}

#[test]
fn few_places_need_fewer_refusals() {
    let mut scene = Scene::new(1);
    assert_eq!(scene.first_of_many(9, Outcome::Refused), Change::None);
    assert_eq!(scene.first(Outcome::Refused), Change::WentDown(DownReason::Refusing));
}

#[test]
fn dead_letters_are_first_attempts_of_their_sink() {
    let mut scene = Scene::new(64);
    for _ in 0..63 {
        assert_eq!(scene.attempt(AttemptKind::DeadLetter, Outcome::Failed), Change::None);
    }
    assert_eq!(scene.attempt(AttemptKind::DeadLetter, Outcome::Failed), Change::WentDown(DownReason::Failing));
}

#[test]
fn a_ceiling_of_events_counts_events_and_not_requests() {
    let mut scene = Scene::limited(ControllerLimits { concurrency: 64, rate_max: Some(100.0), keeps_refused: false });
    scene.controller.started(AttemptKind::FirstAttempt, 200, scene.now);
    let next = scene.controller.may_start(scene.now).unwrap();
    assert_eq!((next - scene.now).as_millis(), 2_000 - spacing::TOLERANCE_MAX.as_millis());
}

#[test]
fn a_ceiling_that_is_no_positive_number_is_none() {
    for rate_max in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut scene =
            Scene::limited(ControllerLimits { concurrency: 0, rate_max: Some(rate_max), keeps_refused: false });
        scene.first_of_many(100, Outcome::Accepted);
    }
    let mut scene =
        Scene::limited(ControllerLimits { concurrency: 4, rate_max: Some(f64::MIN_POSITIVE), keeps_refused: false });
    scene.start(AttemptKind::FirstAttempt);
    assert!(scene.controller.may_start(scene.now).is_some_and(|at| at > scene.now + 86_400 * SECOND));
}

#[test]
fn failures_that_do_not_depend_on_the_rate_do_not_lower_it_for_long() {
    for percent in [5, 20, 50] {
        let mut scene = Scene::new(64);
        let mut chance = fastrand::Rng::with_seed(percent);
        let (mut lowest, mut began) = (f64::MAX, None);
        for number in 0..40_000 {
            scene.first(if chance.u64(0..100) < percent { CONGESTED } else { Outcome::Accepted });
            if number == 20_000 {
                began = Some(scene.now);
            }
            lowest = if number >= 20_000 { scene.view().rate.unwrap_or(f64::MAX).min(lowest) } else { lowest };
        }
        // One after the other, 10 ms each: 200 s, if nothing limits them.
        let length = (scene.now - began.unwrap()).as_secs_f64();
        assert!(length < 212.0, "{percent} %: {length} s, at {lowest}/s at the lowest: {:?}", scene.view());
    }
}

#[test]
fn words_for_what_moved_the_rate_and_why_the_sink_is_down_are_distinct() {
    use Cause::*;
    let causes = [Start, Congestion, RetryAfter, Demand, Noise, Trial, Outage, Recovery].map(Cause::as_str);
    let words: std::collections::BTreeSet<&str> = causes.into_iter().collect();
    assert_eq!(words.len(), causes.len());
    assert_ne!(DownReason::Failing.as_str(), DownReason::Refusing.as_str());
}

/// `cargo test --release --lib cost_of_an_attempt -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn the_cost_of_an_attempt() {
    for (name, congested) in [("never congested", 0), ("one in a hundred", 100), ("one in two", 2)] {
        let mut controller =
            SinkController::new(ControllerLimits { concurrency: 64, rate_max: Some(1e9), keeps_refused: false });
        let (epoch, wall) = (Instant::now(), Instant::now());
        let mut now = epoch;
        for number in 1..=2_000_000u64 {
            now = controller.may_start(now).unwrap().max(now + Duration::from_micros(25));
            let permit = controller.started(AttemptKind::FirstAttempt, 1, now);
            let outcome = if congested > 0 && number.is_multiple_of(congested) { CONGESTED } else { Outcome::Accepted };
            controller.ended(permit, AttemptReport { lane: number, outcome, waiting_lanes: 100_000 }, now);
        }
        println!("{name}: {} ns an attempt", wall.elapsed().as_nanos() / 2_000_000);
    }
}
