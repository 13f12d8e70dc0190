//! Which lanes and gates the events of a table's shards get.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::checkpoint::StoredTable;
use crate::config::DeliveryOrder;
use crate::config::{EventData, EventMode, EventProfile};
use crate::progress::buffer::Buffer;
use crate::progress::table_tracker::ShardHandle;
use crate::readiness::Health;
use crate::records::{Gap, LossReason, Page, Position};
use crate::telemetry::TableTelemetry;
use crate::telemetry::metrics::Metrics;

struct Line {
    progress: Arc<TableProgress>,
    pages: mpsc::Sender<ShardPage>,
    events: mpsc::Receiver<Handover>,
    running: JoinHandle<()>,
}

fn details(stream: &str) -> Arc<StreamDetails> {
    let (arn, table_arn) = (stream.to_owned(), "arn:table".to_owned());
    Arc::new(StreamDetails {
        arn,
        table_arn,
        table: "t".to_owned(),
        key_schema: vec!["id".to_owned()],
        view_type: None,
    })
}

fn record(number: u64) -> Entry {
    let record = format!(
        r#"{{"Records":[{{"eventID":"{number}","eventName":"MODIFY","dynamodb":{{"Keys":{{"id":{{"N":"{number}"}}}},"SequenceNumber":"{number:021}"}}}}]}}"#
    );
    Entry::Record(Page::parse(Bytes::from(record)).unwrap().records.remove(0).unwrap())
}

fn gap(stream: &str, shard: Option<&str>) -> Entry {
    Entry::Gap(Gap::at(&details(stream), shard, Position::Start, LossReason::Trimmed))
}

impl Line {
    fn new(order: DeliveryOrder) -> Self {
        let telemetry = TableTelemetry::new("t", &Metrics::new("t", "t").unwrap());
        let is_ordered_by_shard = order == DeliveryOrder::Shard;
        let health = Health::default().table("t");
        let progress = TableProgress::new(is_ordered_by_shard, Buffer::new(1 << 20), telemetry, health);
        let event = config::Event {
            profile: EventProfile::Aws,
            data: EventData::DynamodbJson,
            mode: EventMode::Binary,
            overrides: Default::default(),
        };
        let ((pages, taken), (sender, events)) = (mpsc::channel(16), mpsc::channel(16));
        let pipeline = Pipeline::new(progress.clone(), event, sender, Arc::default());
        let running = tokio::spawn(pipeline.run(taken));
        Self { progress, pages, events, running }
    }

    /// Opens a shard; its parent was read to its end.
    fn open(&self, stream: &str, id: &str, parent: Option<ShardHandle>) -> ShardHandle {
        self.progress.change(|tracker| {
            let stream = tracker.open_stream(details(stream), Position::Start, false, SystemTime::now());
            let parent_id = parent.map(|parent| {
                tracker.read_to_end(parent, tokio::time::Instant::now());
                tracker.shard_id(parent).clone()
            });
            tracker.learn(stream, id, parent_id.as_deref());
            tracker.open_ready(stream).pop().expect("it may be read").handle
        })
    }

    async fn hand_in(&self, stream: &str, shard: ShardHandle, entries: Vec<Entry>, is_last: bool) {
        self.progress.buffer().charge(entries.iter().map(Entry::cost).sum());
        let (details, now, is_caught_up) = (details(stream), SystemTime::now(), true);
        let page =
            ShardPage { shard, details, entries, asked_at: now, read_at: now, is_caught_up, is_last, pass: None };
        self.pages.send(page).await.unwrap();
    }

    /// The events that a page of these becomes.
    async fn page(&mut self, stream: &str, shard: ShardHandle, entries: Vec<Entry>) -> Vec<BoxedEvent> {
        self.hand_in(stream, shard, entries, false).await;
        let handed_on = timeout(Duration::from_secs(5), self.events.recv()).await.expect("nothing was handed on");
        match handed_on.unwrap() {
            Handover::Events(events) => events,
            Handover::Withdrawal(_) => unreachable!("a pipeline hands on events"),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn roles(events: &[BoxedEvent]) -> Vec<BarrierRole> {
    events.iter().map(|event| event.barrier_role).collect()
}

fn settle(events: Vec<BoxedEvent>) {
    events.into_iter().for_each(|event| event.acknowledger.acknowledge(event.token, event.cost));
}

#[tokio::test]
async fn what_follows_a_gap_in_its_lineage_is_behind_it_and_nothing_else_is() {
    let mut line = Line::new(DeliveryOrder::Item);
    let (one, two) = (line.open("a", "1", None), line.open("a", "2", None));
    let page = line.page("a", one, vec![record(1), gap("a", Some("1")), record(2)]).await;
    let BarrierRole::Barrier(number) = page[1].barrier_role else {
        panic!("a gap is a barrier: {:?}", page[1].barrier_role)
    };
    assert_eq!(roles(&page), [BarrierRole::None, BarrierRole::Barrier(number), BarrierRole::After(number)]);
    assert_eq!(page[1].lane, number);
    assert_eq!(roles(&line.page("a", two, vec![record(3)]).await), [BarrierRole::None], "another lineage");
    let three = line.open("a", "3", Some(one));
    line.hand_in("a", three, Vec::new(), true).await;
    let four = line.open("a", "4", Some(three));
    assert_eq!(roles(&line.page("a", four, vec![record(4)]).await), [BarrierRole::After(number)], "a grandchild");
    let again = line.page("a", four, vec![gap("a", Some("4")), record(5)]).await;
    assert_eq!(roles(&again), [BarrierRole::Barrier(number), BarrierRole::After(number)]);
    assert_ne!(again[0].lane, page[1].lane, "a gap that is refused must not keep the next one from being tried");
}

#[tokio::test]
async fn a_stream_that_is_gone_is_a_gap_before_everything_in_the_next_one() {
    let mut line = Line::new(DeliveryOrder::Item);
    let lost = line.open("a", "1", None);
    let page = line.page("a", lost, vec![gap("a", None)]).await;
    let next = line.open("b", "2", None);
    assert_eq!(roles(&line.page("b", next, vec![record(1)]).await), [BarrierRole::After(page[0].lane)]);
}

#[tokio::test]
async fn a_gap_at_which_reading_stops_holds_the_position_for_good() {
    let mut line = Line::new(DeliveryOrder::Item);
    let shard = line.open("a", "1", None);
    let Entry::Gap(mut gap) = gap("a", Some("1")) else { unreachable!() };
    gap.resume = None;
    settle(line.page("a", shard, vec![record(1), Entry::Gap(gap), record(2)]).await);
    let Entry::Record(first) = record(1) else { unreachable!() };
    assert_eq!(line.progress.tracker().view()[0].safe, Position::after(first.sequence_number()));
    assert_eq!(line.progress.buffer().used(), 0, "its room is given back all the same");
}

#[tokio::test]
async fn with_order_by_shard_a_shard_is_one_lane_and_gaps_wait_in_it() {
    let mut line = Line::new(DeliveryOrder::Shard);
    let (one, two) = (line.open("a", "1", None), line.open("a", "2", None));
    let parent = line.page("a", one, vec![record(1), gap("a", Some("1")), record(2)]).await;
    assert!(parent.iter().all(|event| event.lane == parent[0].lane && event.barrier_role == BarrierRole::None));
    let three = line.open("a", "3", Some(one));
    let child = line.page("a", three, vec![record(3)]).await;
    assert_eq!((child[0].lane == parent[0].lane, child[0].barrier_role), (false, BarrierRole::None), "a child");
    assert_ne!(line.page("a", two, vec![record(4)]).await[0].lane, parent[0].lane, "another lineage");
}

#[tokio::test(start_paused = true)]
async fn with_order_by_shard_a_child_waits_for_everything_in_its_ancestors_and_with_order_by_item_for_nothing() {
    for order in [DeliveryOrder::Shard, DeliveryOrder::Item] {
        let mut line = Line::new(order);
        let root = line.open("a", "1", None);
        let events = line.page("a", root, vec![record(1)]).await;
        line.hand_in("a", root, Vec::new(), true).await;
        let child = line.open("a", "2", Some(root));
        let mut waits = Box::pin(line.progress.ancestors_are_settled(child));
        let waited = timeout(Duration::from_secs(60), &mut waits).await;
        if order == DeliveryOrder::Item {
            assert_eq!(waited, Ok(false));
            continue;
        }
        assert!(waited.is_err(), "it overtakes its parent's last record");
        settle(events);
        assert_eq!(timeout(Duration::from_secs(60), waits).await, Ok(true), "it goes on by itself");
    }
}

#[tokio::test(start_paused = true)]
async fn with_order_by_shard_a_new_stream_waits_for_everything_in_the_old_one() {
    let mut line = Line::new(DeliveryOrder::Shard);
    let old = line.open("a", "1", None);
    let mut events = line.page("a", old, vec![record(1), record(2)]).await;
    line.hand_in("a", old, Vec::new(), true).await;
    let details = details("b");
    let next = line.progress.change(|it| it.open_stream(details, Position::Start, true, SystemTime::now()));
    let last = events.split_off(1);
    settle(events);
    let mut waits = Box::pin(line.progress.earlier_streams_are_settled(next));
    assert!(timeout(Duration::from_secs(60), &mut waits).await.is_err(), "it overtakes the old stream's last record");
    settle(last);
    timeout(Duration::from_secs(60), waits).await.expect("it goes on by itself");
}

/// Whoever restarts reads a parked item's shard again from there on: what the sink has must not be sent twice.
#[tokio::test]
async fn what_an_earlier_run_has_settled_goes_no_further_and_takes_no_room() {
    let mut line = Line::new(DeliveryOrder::Item);
    let shard = line.open("a", "1", None);
    let mut events = line.page("a", shard, vec![record(1), record(2), record(3)]).await;
    let parked = events.remove(1);
    settle(events);
    let mut stored = StoredTable::default();
    stored.apply(&line.progress.tracker().take_changes());

    let mut line = Line::new(DeliveryOrder::Item);
    line.progress.restore(stored);
    let shard = line.open("a", "1", None);
    let again = line.page("a", shard, vec![record(2), record(3), record(4)]).await;
    assert_eq!(again.iter().map(|event| event.id()).collect::<Vec<_>>(), [parked.id(), "4".to_owned()]);
    settle(again);
    assert_eq!(line.progress.buffer().used(), 0);
}
