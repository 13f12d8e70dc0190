//! Processes that are killed, that stand still for longer than their lease, and that do not reach their positions.

use std::time::{Duration, Instant};

use crate::group::{Group, LEASE, Process, print_times, rounds};
use crate::support::proxy::Line;
use crate::support::sink::Reaction;

/// Writes for so long.
async fn write_for(group: &Group, time: Duration, dice: &mut fastrand::Rng) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        group.aws.write("orders", dice.usize(1..12), 1);
        tokio::time::sleep(Duration::from_millis(dice.u64(5..50))).await;
    }
}

/// Now and then a shard splits or is continued.
fn change_shards(group: &Group, round: usize, dice: &mut fastrand::Rng) {
    if round.is_multiple_of(3) {
        let open = group.aws.script().open_shards("orders");
        let shard = &open[dice.usize(0..open.len())];
        match open.len() < 5 {
            true => drop(group.aws.script().split("orders", shard)),
            false => drop(group.aws.script().roll_over("orders", shard)),
        }
    }
}

fn misbehave(group: &Group) {
    let mut n = 0u64;
    group.sink.react(move |event| {
        n += 1;
        match n % 37 {
            0 => Reaction::Status(503),
            1 => Reaction::Reset,
            2 => Reaction::After(Duration::from_millis(40), Box::new(Reaction::Status(202))),
            _ if event.item == "item-5" && event.earlier < 1 => Reaction::Status(500),
            _ => Reaction::Status(202),
        }
    });
}

async fn owner_of(processes: &[Process]) -> Option<usize> {
    for (index, process) in processes.iter().enumerate() {
        if process.is_owner().await {
            return Some(index);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_process_is_killed_under_load_nothing_is_lost_and_items_stay_in_order() {
    let (group, rounds) = (Group::with_shards(3).await, rounds(4));
    group.aws.script().page_records = 40;
    misbehave(&group);
    let mut dice = fastrand::Rng::with_seed(11);
    let mut processes = vec![group.start().await, group.start().await];
    for round in 0..rounds {
        let life = Duration::from_millis(dice.u64(200..2 * LEASE.as_millis() as u64));
        write_for(&group, life, &mut dice).await;
        change_shards(&group, round, &mut dice);
        let owner = owner_of(&processes).await.unwrap_or_default();
        let killed = if dice.u8(0..4) == 0 { 1 - owner } else { owner };
        processes.remove(killed).adapter.kill();
        group.sink.has_seen_everything().await;
        processes.push(group.start().await);
    }
    group.is_up_to_date().await;
    group.assert_sound(&[&processes[0], &processes[1]]);
    print_times("pause after a kill", group.takeover_times());
    println!("killed {rounds} times: {} events, {} duplicates", group.sink.distinct(), group.duplicates());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stood_still_for_longer_than_its_lease_begins_nothing_when_it_goes_on() {
    let (group, rounds) = (Group::with_shards(2).await, rounds(3));
    let mut dice = fastrand::Rng::with_seed(12);
    let processes = [group.start().await, group.start().await];
    let mut went_on = Vec::new();
    for round in 0..rounds {
        write_for(&group, Duration::from_millis(dice.u64(300..1500)), &mut dice).await;
        change_shards(&group, round, &mut dice);
        let owner = loop {
            if let Some(owner) = owner_of(&processes).await {
                break owner;
            }
        };
        let (paused, other) = (&processes[owner], &processes[1 - owner]);
        let since = Instant::now();
        paused.adapter.pause();
        let pause = async {
            write_for(&group, LEASE + Duration::from_millis(dice.u64(500..1500)), &mut dice).await;
            group.delivers(other, since).await
        };
        pause.await;
        went_on.push((paused.name.clone(), Instant::now()));
        paused.adapter.signal("CONT");
    }
    // Of what came late nothing is anybody's newest state any more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    group.aws.write("orders", 12, 1);
    group.is_up_to_date().await;
    group.assert_sound_but_for_late(&[&processes[0], &processes[1]], &went_on);
    print_times("pause when an owner stands still", group.takeover_times());
    println!("stopped {rounds} times: {} events, {} duplicates", group.sink.distinct(), group.duplicates());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_does_not_reach_its_positions_stops_and_another_one_goes_on() {
    let (group, rounds) = (Group::with_shards(2).await, rounds(2));
    let mut dice = fastrand::Rng::with_seed(13);
    let processes = [group.start().await, group.start().await];
    for round in 0..rounds {
        write_for(&group, Duration::from_millis(dice.u64(300..1500)), &mut dice).await;
        let owner = loop {
            if let Some(owner) = owner_of(&processes).await {
                break owner;
            }
        };
        let (cut, other) = (&processes[owner], &processes[1 - owner]);
        let since = Instant::now();
        cut.line.set(if round.is_multiple_of(2) { Line::Silent } else { Line::Closed });
        write_for(&group, LEASE + LEASE / 2, &mut dice).await;
        group.delivers(other, since).await;
        cut.line.set(Line::Whole);
    }
    group.is_up_to_date().await;
    group.assert_sound(&[&processes[0], &processes[1]]);
    print_times("pause when an owner is cut off", group.takeover_times());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_positions_no_process_reads_and_all_go_on_by_themselves_once_they_are_back() {
    let group = Group::with_shards(2).await;
    let mut dice = fastrand::Rng::with_seed(14);
    let processes = [group.start_ready().await, group.start_ready().await];
    write_for(&group, Duration::from_millis(500), &mut dice).await;
    group.has_everything().await;
    processes.iter().for_each(|process| process.line.set(Line::Silent));
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    let before = group.sink.received().len();
    write_for(&group, Duration::from_secs(1), &mut dice).await;
    assert_eq!(group.sink.received().len(), before, "events were sent without a lease");
    let restart = Instant::now();
    processes.iter().for_each(|process| process.line.set(Line::Whole));
    group.is_up_to_date().await;
    group.assert_sound_besides(&[&processes[0], &processes[1]], &[restart]);
}
