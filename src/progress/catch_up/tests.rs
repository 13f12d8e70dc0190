//! What may be left out, when passes are due, and what they find. Generated histories are in `table_tracker/tests.rs`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::*;
use crate::checkpoint::StoredTable;
use crate::progress::left_out::{Place, Reread};
use crate::progress::page_entry::{Owed, PageEntry};
use crate::progress::tracked_shard::PageRead;
use crate::records::{Gap, LossReason, StreamDetails};

const ARN: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-01T00:00:00.000";
const NOW: SystemTime = UNIX_EPOCH;

fn lane(item: u8) -> LaneId {
    LaneId::of_shard(&format!("item {item}"))
}

fn sequence(number: u64) -> SequenceNumber {
    number.to_string().parse().unwrap()
}

fn at(hours: u64) -> SystemTime {
    NOW + Duration::from_hours(hours)
}

/// A table with one shard.
fn table(is_ordered_by_shard: bool) -> (TableTracker, ShardHandle) {
    let mut tracker = TableTracker::restored(StoredTable::default(), is_ordered_by_shard);
    let stream = tracker.open_stream(Arc::new(StreamDetails::from_arn(ARN)), Position::Start, true, NOW);
    let shard = open(&mut tracker, stream, "a", None);
    (tracker, shard)
}

fn open(tracker: &mut TableTracker, stream: StreamHandle, id: &str, parent: Option<&str>) -> ShardHandle {
    tracker.learn(stream, id, parent);
    tracker.open_ready(stream).pop().expect("it may be read").handle
}

fn read(tracker: &mut TableTracker, shard: ShardHandle, number: u64, item: u8) -> Option<Owed> {
    PageEntry::of(tracker, shard).record(sequence(number), lane(item), Some(at(number)))
}

fn token(owed: Option<Owed>) -> AckToken {
    owed.unwrap().token.unwrap()
}

fn place(number: u64) -> Place {
    Place { position: Position::after(sequence(number)), created: Some(at(number)) }
}

fn again(tracker: &mut TableTracker, shard: ShardHandle, number: u64, item: u8) -> Option<Owed> {
    let reread = Reread { number: sequence(number).into(), before: place(number - 1) };
    PageEntry::of(tracker, shard).again(reread, lane(item), Some(at(number)))
}

fn trimmed(before: Option<u64>) -> Gap {
    let gap = Gap::at(&StreamDetails::from_arn(ARN), Some("a"), Position::after(sequence(1)), LossReason::Trimmed);
    Gap { before: before.map(sequence), lanes: Some(1), ..gap }
}

/// A shard in which item 0 owes 1, 3 and 4, of which the last two are left out, and item 1 owes 2.
fn half_left_out() -> (TableTracker, ShardHandle, AckToken) {
    let (mut tracker, shard) = table(false);
    let head = token(read(&mut tracker, shard, 1, 0));
    let _other = read(&mut tracker, shard, 2, 1);
    let next = token(read(&mut tracker, shard, 3, 0));
    CatchUp::of(&mut tracker).leave_out([&next]);
    assert!(read(&mut tracker, shard, 4, 0).is_none());
    (tracker, shard, head)
}

#[test]
fn what_is_left_out_is_due_once_nothing_of_its_lane_that_was_handed_on_is_owed() {
    let (mut tracker, shard, head) = half_left_out();
    assert_eq!(tracker.unsettled(), 2);
    assert_eq!(CatchUp::of(&mut tracker).begin_pass(shard, PassCause::Due), None);
    tracker.settle(&head);
    assert!(CatchUp::of(&mut tracker).take_news() && !CatchUp::of(&mut tracker).take_news());
    let start = CatchUp::of(&mut tracker).begin_pass(shard, PassCause::Due).unwrap();
    assert_eq!((start.from, start.at), (place(2), sequence(3)), "behind the record that was read before it");
}

/// Else reading would go on behind a lane's records as if they had been delivered, and each of its heads again.
#[test]
fn a_lane_that_is_left_out_again_leaves_the_pass_and_what_is_still_brought_of_it_is_not_taken() {
    let (mut tracker, shard, head) = half_left_out();
    tracker.settle(&head);
    CatchUp::of(&mut tracker).begin_pass(shard, PassCause::Due);
    let third = token(again(&mut tracker, shard, 3, 0));
    let mut catch_up = CatchUp::of(&mut tracker);
    catch_up.leave_out([&third]);
    assert_eq!(catch_up.in_pass(shard, [Some(lane(0))]), [false]);
    assert!(!catch_up.has_more_behind(shard, Position::Start), "the pass may end early");
    assert!(again(&mut tracker, shard, 4, 0).is_none());
    PageEntry::of(&mut tracker, shard).passed(place(4), true);
    let mut catch_up = CatchUp::of(&mut tracker);
    assert_eq!((catch_up.lanes(), catch_up.begin_pass(shard, PassCause::Due)), (1, None), "it was left out as a whole");
    catch_up.readmit();
    assert_eq!(catch_up.begin_pass(shard, PassCause::Due).unwrap().at, sequence(3));
}

/// The parent's records came again and are with delivery, and a pass over the child has begun.
#[test]
fn a_lane_that_is_left_out_anew_in_a_parent_leaves_the_pass_over_the_child() {
    let (mut tracker, parent, head) = half_left_out();
    let page = PageRead { asked_at: NOW, is_caught_up: true, is_last: true };
    PageEntry::of(&mut tracker, parent).read(page);
    tracker.read_to_end(parent, Instant::now());
    let child = open(&mut tracker, parent.stream, "b", Some("a"));
    assert!(read(&mut tracker, child, 11, 0).is_none());
    tracker.settle(&head);
    assert_eq!(CatchUp::of(&mut tracker).begin_pass(child, PassCause::Due), None, "ancestors first");
    CatchUp::of(&mut tracker).begin_pass(parent, PassCause::Due).unwrap();
    let [third, _fourth] = [3, 4].map(|number| token(again(&mut tracker, parent, number, 0)));
    PageEntry::of(&mut tracker, parent).passed(place(4), true);
    CatchUp::of(&mut tracker).begin_pass(child, PassCause::Due).unwrap();
    CatchUp::of(&mut tracker).leave_out([&third]);
    assert!(again(&mut tracker, child, 11, 0).is_none(), "it would come before the third one");
    PageEntry::of(&mut tracker, child).passed(place(11), true);
    let mut catch_up = CatchUp::of(&mut tracker);
    catch_up.readmit();
    assert_eq!(catch_up.begin_pass(child, PassCause::Due), None);
    assert_eq!(catch_up.begin_pass(parent, PassCause::Due).unwrap().at, sequence(3));
}

#[test]
fn gaps_are_never_left_out_and_with_order_by_shard_nothing_is() {
    let (mut tracker, shard) = table(false);
    let gap = token(PageEntry::of(&mut tracker, shard).gap(&trimmed(Some(5)), LaneId::of_gap("gap")));
    let broken = Gap { reason: LossReason::Undecodable, lost: Some(sequence(5)), ..trimmed(None) };
    let broken = token(PageEntry::of(&mut tracker, shard).gap(&broken, LaneId::of_gap("broken")));
    let record = token(read(&mut tracker, shard, 6, 0));
    let catch_up = CatchUp::of(&mut tracker);
    assert_eq!([&gap, &broken, &record].map(|it| catch_up.may_leave_out(it, NOW)), [false, false, true]);
    let (mut tracker, shard) = table(true);
    let record = token(read(&mut tracker, shard, 6, 0));
    assert!(!CatchUp::of(&mut tracker).may_leave_out(&record, NOW));
}

/// It would be a loss.
#[test]
fn what_could_not_be_read_again_is_not_left_out() {
    let (mut tracker, shard) = table(false);
    let record = token(read(&mut tracker, shard, 6, 0));
    let may = |tracker: &mut TableTracker, now| CatchUp::of(tracker).may_leave_out(&record, now);
    assert!(may(&mut tracker, at(25)) && !may(&mut tracker, at(26)), "it is twenty hours old");
    tracker.end_stream(shard.stream);
    assert!(!may(&mut tracker, at(7)), "nobody reads the stream any more");
}

#[test]
fn what_comes_again_waits_for_the_gaps_before_it_anew() {
    let (mut tracker, shard) = table(false);
    let name = LaneId::of_gap("gap");
    PageEntry::of(&mut tracker, shard).gap(&Gap { lanes: None, ..trimmed(Some(5)) }, name).unwrap();
    let record = read(&mut tracker, shard, 6, 0).unwrap();
    assert_eq!(record.barrier, Some(name));
    CatchUp::of(&mut tracker).leave_out(&record.token);
    CatchUp::of(&mut tracker).readmit();
    CatchUp::of(&mut tracker).begin_pass(shard, PassCause::Due).unwrap();
    assert_eq!(again(&mut tracker, shard, 6, 0).unwrap().barrier, Some(name));
}

#[test]
fn a_shard_that_owes_what_is_left_out_is_not_finished() {
    let (mut tracker, shard, head) = half_left_out();
    let page = PageRead { asked_at: NOW, is_caught_up: true, is_last: true };
    PageEntry::of(&mut tracker, shard).read(page);
    tracker.settle(&head);
    let is_finished = |tracker: &TableTracker| tracker.view()[0].is_finished;
    assert!(!is_finished(&tracker));
    CatchUp::of(&mut tracker).begin_pass(shard, PassCause::Due);
    let rest = [3, 4].map(|number| token(again(&mut tracker, shard, number, 0)));
    PageEntry::of(&mut tracker, shard).passed(place(4), true);
    rest.iter().for_each(|token| tracker.settle(token));
    assert!(!is_finished(&tracker), "item 1 owes a record");
    assert_eq!((tracker.unsettled(), CatchUp::of(&mut tracker).lanes()), (1, 0));
}

#[test]
fn a_pass_that_finds_the_first_record_has_lost_nothing_and_one_that_does_not_says_whose_it_was() {
    let (mut tracker, shard, head) = half_left_out();
    tracker.settle(&head);
    CatchUp::of(&mut tracker).begin_pass(shard, PassCause::Due);
    let catch_up = CatchUp::of(&mut tracker);
    let loss = |first: Option<u64>, is_trimmed| catch_up.loss(shard, first.map(sequence), is_trimmed, at(5));
    assert_eq!(loss(Some(3), true), None);
    assert_eq!(loss(Some(4), false), Some(Loss { lanes: Some(1) }));
    assert_eq!(loss(None, false), Some(Loss { lanes: Some(1) }));
    let gap = Reread { number: place(2).position.gap(None), before: place(2) };
    let name = LaneId::of_gap("gap");
    let gap = PageEntry::of(&mut tracker, shard).gap_again(&trimmed(Some(4)), gap, name);
    let last = again(&mut tracker, shard, 4, 0).unwrap();
    assert_eq!((gap.barrier, last.barrier), (Some(name), Some(name)), "what follows waits for it");
    PageEntry::of(&mut tracker, shard).passed(place(4), true);
    tracker.settle(&last.token.unwrap());
    let head = |tracker: &TableTracker| tracker.shard(shard).progress.settled().heads.get(&lane(0)).copied();
    assert_eq!(head(&tracker), Some(sequence(3).into()), "a restart has to find the gap again");
    tracker.settle(&gap.token.unwrap());
    assert_eq!((head(&tracker), CatchUp::of(&mut tracker).lanes()), (None, 0));
}

/// Nobody asks for one record more than was there.
#[test]
fn behind_what_a_pass_has_brought_only_doubt_makes_a_loss() {
    let (mut tracker, shard, head) = half_left_out();
    tracker.settle(&head);
    CatchUp::of(&mut tracker).begin_pass(shard, PassCause::Due);
    let _third = again(&mut tracker, shard, 3, 0);
    PageEntry::of(&mut tracker, shard).passed(place(3), false);
    let catch_up = CatchUp::of(&mut tracker);
    let loss = |first: u64, is_trimmed, hours| catch_up.loss(shard, Some(sequence(first)), is_trimmed, at(hours));
    assert_eq!(loss(4, false, 5), None, "what follows the third may be the fourth");
    assert!(loss(4, true, 5).is_some() && loss(4, false, 40).is_some() && loss(5, false, 5).is_some());
}

#[test]
fn what_is_twenty_hours_old_is_brought_back_to_stay_and_what_is_much_younger_is_not() {
    let (mut tracker, shard, _head) = half_left_out();
    let mut catch_up = CatchUp::of(&mut tracker);
    assert_eq!(catch_up.begin_pass(shard, PassCause::Age(at(22))), None);
    assert_eq!(catch_up.begin_pass(shard, PassCause::Age(at(23))).unwrap().at, sequence(3));
    let third = token(again(&mut tracker, shard, 3, 0));
    assert!(again(&mut tracker, shard, 4, 0).is_none());
    let mut catch_up = CatchUp::of(&mut tracker);
    assert!(!catch_up.may_leave_out(&third, NOW) && !catch_up.has_more_behind(shard, Position::Start));
    PageEntry::of(&mut tracker, shard).passed(place(4), true);
    catch_up = CatchUp::of(&mut tracker);
    assert_eq!(catch_up.lanes(), 1);
    assert_eq!(catch_up.begin_pass(shard, PassCause::Age(at(24))).unwrap().at, sequence(4));
}

/// The parent's last page waits to be entered.
#[test]
fn a_shard_has_no_second_reader_before_its_last_page_was_entered() {
    let (mut tracker, shard, head) = half_left_out();
    tracker.settle(&head);
    assert_eq!(CatchUp::of(&mut tracker).reopen(shard), None);
    CatchUp::of(&mut tracker).take_news();
    PageEntry::of(&mut tracker, shard).read(PageRead { asked_at: NOW, is_caught_up: true, is_last: true });
    let mut catch_up = CatchUp::of(&mut tracker);
    assert!(catch_up.take_news(), "whoever starts readers is told then");
    assert_eq!(catch_up.reopen(shard).unwrap().from, place(4).position);
}

#[test]
fn a_pass_that_nobody_makes_is_overdue_when_its_reader_does_not_rest() {
    let (mut tracker, shard, head) = half_left_out();
    let now = Instant::now();
    assert_eq!(CatchUp::of(&mut tracker).overdue(now), None);
    tracker.settle(&head);
    let mut catch_up = CatchUp::of(&mut tracker);
    catch_up.rest(shard, now + Duration::from_secs(1));
    assert_eq!(catch_up.overdue(now), None);
    let later = now + Duration::from_secs(2);
    assert_eq!(catch_up.overdue(later), Some(0));
    catch_up.begin_pass(shard, PassCause::Due);
    assert_eq!(catch_up.overdue(later), None);
}
