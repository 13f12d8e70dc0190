//! Tables that this process owns for a time: what is sent until that is over, and that nothing is after it.

use super::stage::SECOND_TABLE;
use super::*;

const LONG: Duration = Duration::from_secs(3_600);

/// Which of the second table's events were posted after a moment.
fn posted_since(stage: &Stage, since: Instant) -> Vec<String> {
    let posts = stage.sink.requests().into_iter().chain(stage.letters.requests());
    let late = posts.filter(|request| request.at >= since).flat_map(|request| request.ids);
    late.filter(|id| id.split('-').next().unwrap().parse::<u64>().unwrap() >= SECOND_TABLE).collect()
}

/// The second table's items, from 0 on.
fn second(items: std::ops::Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    items.map(|item| (SECOND_TABLE + item, 0))
}

fn is_second(id: &str) -> bool {
    id.split('-').next().unwrap().parse::<u64>().unwrap() >= SECOND_TABLE
}

/// Another process may deliver the item's next change as soon as the lease is over.
#[tokio::test(start_paused = true)]
async fn whatever_an_event_waits_for_it_is_not_sent_after_the_end_of_its_tenure() {
    for mode in [EventMode::Binary, EventMode::Batch] {
        for status in [200, 400, 429, 503] {
            let mut settings = settings(mode);
            settings.policy.on_undeliverable = OnUndeliverable::DeadLetter;
            settings.policy.limits.attempts = NonZeroU32::new(4);
            let stage = Stage::new(settings);
            stage.sink.script(move |ids| {
                let answer = Reaction::status(if ids.iter().any(|id| is_second(id)) { status } else { 200 });
                Reaction { after: Duration::from_millis(70), ..answer }
            });
            stage.letters.script(|_| Reaction { after: 10 * SECOND, ..Reaction::status(503) });
            let tenure = stage.own(1, LONG);
            stage.push(second(0..300));
            stage.push(second(0..20).map(|(item, _)| (item, 1)));
            stage.settle_down(Duration::from_millis(1_234)).await;
            stage.push(second(300..400));
            let ended = Instant::now();
            tenure.end();
            stage.push(second(400..500));
            stage.push((0..100).map(|item| (item, 0)));
            stage.settle_down(Duration::from_millis(10)).await;
            stage.withdraw(1).await;
            stage.settle_down(20 * MINUTE).await;
            let late = posted_since(&stage, ended);
            assert!(late.is_empty(), "{mode:?}, {status}: {late:?} were sent after the lease's end");
            let settled = stage.settled();
            assert_eq!(settled.iter().filter(|(item, _)| *item < SECOND_TABLE).count(), 100, "{mode:?}, {status}");
            assert_eq!(stage.kept(), 0, "{mode:?}, {status}");
        }
    }
}

/// `DELIVERY_TIMEOUT` may be longer than the lease: what is under way at its end is cut off there.
#[tokio::test(start_paused = true)]
async fn an_attempt_is_cut_off_at_the_end_of_its_tenure_and_that_is_no_fault_of_the_sink() {
    for mode in [EventMode::Binary, EventMode::Batch] {
        // As many as prove an outage, if all of them fail.
        let mut settings = settings(mode);
        settings.limits.concurrency = 100;
        let stage = Stage::new(settings);
        stage.sink.script(|_| Reaction { after: 20 * SECOND, ..Reaction::status(200) });
        let tenure = stage.own(1, LONG);
        stage.push(second(0..100));
        stage.settle_down(SECOND).await;
        assert_eq!(stage.in_flight(), 100);
        let ended = Instant::now();
        tenure.end();
        stage.withdraw(1).await;
        assert!(ended.elapsed() < SECOND, "{mode:?}: it waited for the sink's answer");
        assert_eq!(stage.settled(), [], "{mode:?}");
        assert_eq!(stage.outage(), None);
        let view = stage.delivery.borrow().sink.unwrap();
        assert_eq!((view.rate, view.down, view.in_flight), (None, None, 0), "{mode:?}: the sink is blamed");
        assert_eq!(stage.troubles(), Vec::<String>::new());
    }
}

/// A machine that was suspended: nobody is told, the clocks say so.
#[tokio::test(start_paused = true)]
async fn a_process_that_wakes_after_the_end_of_its_lease_sends_nothing_more() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|_| Reaction { after: 40 * SECOND, ..Reaction::status(200) });
    stage.own(1, 30 * SECOND);
    stage.push(second(0..8));
    stage.settle_down(SECOND).await;
    let before = stage.sink.requests().len();
    tokio::time::advance(30 * SECOND).await;
    let woken = Instant::now();
    stage.push(second(8..16));
    stage.settle_down(MINUTE).await;
    assert_eq!((before, posted_since(&stage, woken)), (8, Vec::new()));
    assert_eq!(stage.settled(), [], "an answer after the end of the lease");
    stage.withdraw(1).await;
}

#[tokio::test(start_paused = true)]
async fn renewals_push_the_end_out() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|_| Reaction { after: 100 * SECOND, ..Reaction::status(200) });
    let tenure = stage.own(1, 30 * SECOND);
    stage.push(second(0..8));
    for _ in 0..11 {
        stage.settle_down(10 * SECOND).await;
        tenure.renewed(Instant::now(), crate::clock::now());
    }
    assert_eq!(stage.settled().len(), 8, "an attempt may take longer than the lease");
}

/// Events of two tables went in one batch: the other table's may have arrived, and are sent again.
#[tokio::test(start_paused = true)]
async fn a_batch_of_two_tables_is_cut_off_with_the_first_tenure_and_the_other_tables_events_go_on() {
    let stage = Stage::new(settings(EventMode::Batch));
    let mut slow = true;
    stage.sink.script(move |_| {
        let after = if std::mem::take(&mut slow) { 20 * SECOND } else { Duration::from_millis(1) };
        Reaction { after, ..Reaction::status(200) }
    });
    let (tenure, other) = (stage.own(1, LONG), stage.own(0, LONG));
    stage.push(second(0..5));
    stage.push((0..5).map(|item| (item, 0)));
    stage.settle_down(SECOND).await;
    assert_eq!(stage.sink.requests()[0].ids.len(), 10);
    let ended = Instant::now();
    tenure.end();
    stage.settle_down(SECOND).await;
    assert_eq!(posted_since(&stage, ended), Vec::<String>::new());
    assert_eq!(stage.settled().len(), 5, "the other table's events wait for the answer of a request that was cut off");
    stage.withdraw(1).await;
    assert!(other.lasts(Instant::now(), crate::clock::now()));
}

/// In a batch that is being filled, lanes of a table whose tenure is over give way to the others.
#[tokio::test(start_paused = true)]
async fn a_batch_takes_along_nothing_of_a_table_whose_tenure_is_over() {
    let stage = Stage::new(settings(EventMode::Batch));
    let tenure = stage.own(1, LONG);
    stage.push(second(0..5));
    stage.push((0..4).map(|item| (item, 0)));
    tenure.end();
    stage.settle_down(SECOND).await;
    let ids: Vec<String> = stage.sink.requests().into_iter().flat_map(|request| request.ids).collect();
    assert_eq!(ids.len(), 4, "{ids:?}");
    assert_eq!(stage.settled().len(), 4);
    stage.withdraw(1).await;
}

/// What waits behind a gap, and the gap itself.
#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_barrier_is_withdrawn_with_it() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|_| Reaction { after: 20 * SECOND, ..Reaction::status(200) });
    let tenure = stage.own(1, LONG);
    let gap = (SECOND_TABLE, 0);
    stage.push_gated([(gap, BarrierRole::Barrier(SECOND_TABLE))]);
    stage.push_gated(second(1..100).map(|change| (change, BarrierRole::After(SECOND_TABLE))));
    stage.settle_down(SECOND).await;
    let ended = Instant::now();
    tenure.end();
    stage.withdraw(1).await;
    assert_eq!(stage.kept(), 0);
    stage.settle_down(MINUTE).await;
    assert_eq!(posted_since(&stage, ended), Vec::<String>::new());
    // The next tenure meets neither the barrier nor what waited behind it.
    stage.sink.script(|_| Reaction::status(200));
    stage.own(1, LONG);
    stage.push_gated(second(1..100).map(|change| (change, BarrierRole::After(SECOND_TABLE))));
    stage.settle_down(MINUTE).await;
    assert_eq!(stage.settled().len(), 99);
}

/// Whoever asks for the withdrawal begins anew after it: an answer that came then would settle something else.
#[tokio::test(start_paused = true)]
async fn a_withdrawal_waits_for_what_is_under_way() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|_| Reaction { after: 20 * SECOND, ..Reaction::status(200) });
    stage.own(1, LONG);
    stage.push(second(0..8));
    stage.settle_down(SECOND).await;
    let asked = Instant::now();
    stage.withdraw(1).await;
    assert!(asked.elapsed() >= 19 * SECOND, "an attempt was under way when it was done");
    assert_eq!(stage.settled().len(), 8);
}

/// What this process kept of a table would keep the same item's events from being tried.
#[tokio::test(start_paused = true)]
async fn the_next_tenure_begins_with_a_clean_slate() {
    for status in [400, 503] {
        let stage = Stage::new(settings(EventMode::Binary));
        stage.sink.script(move |_| Reaction::status(status));
        let tenure = stage.own(1, LONG);
        stage.push(second(0..200));
        stage.settle_down(10 * MINUTE).await;
        tenure.end();
        stage.withdraw(1).await;
        stage.sink.script(|_| Reaction::status(200));
        stage.own(1, LONG);
        stage.push(second(0..200));
        stage.settle_down(5 * SECOND).await;
        assert_eq!(stage.settled().len(), 200, "{status}");
        assert_eq!((stage.parked(), stage.kept()), (0, 0), "{status}");
    }
}

/// A million items of one table are withdrawn while another one is delivered.
#[tokio::test(start_paused = true)]
async fn the_withdrawal_of_a_large_table_holds_no_other_up() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|ids| match is_second(&ids[0]) {
        true => Reaction { after: LONG, ..Reaction::status(200) },
        false => Reaction { after: Duration::from_millis(1), ..Reaction::status(200) },
    });
    let tenure = stage.own(1, LONG);
    stage.push(second(0..50_000));
    stage.settle_down(SECOND).await;
    let turns = stage.activity.turns();
    tenure.end();
    stage.push((0..100).map(|item| (item, 0)));
    stage.withdraw(1).await;
    let turns = stage.activity.turns() - turns;
    assert!(turns >= 20, "50,000 events went in {turns} turns");
    stage.settle_down(MINUTE).await;
    assert_eq!(stage.settled().len(), 100);
}
