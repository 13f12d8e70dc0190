//! Which lanes and gates the parcels of a table's shards get.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::config::{EventData, EventMode, EventProfile};
use crate::progress::Standing;
use crate::readiness::Health;
use crate::records::{LossReason, Page};
use crate::telemetry::metrics::Metrics;

struct Line {
    books: Arc<Books>,
    updates: mpsc::Sender<Update>,
    parcels: mpsc::Receiver<Vec<Parcel>>,
    running: JoinHandle<()>,
}

fn facts(stream: &str) -> Arc<StreamDetails> {
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
    Entry::Gap(Gap::at(&facts(stream), shard, Position::Start, LossReason::Trimmed))
}

impl Line {
    fn new(order: DeliveryOrder) -> Self {
        let telemetry = TableTelemetry::new("t", &Metrics::new("t", "t").unwrap());
        let books = Books::new(Ledger::default(), Budget::new(1 << 20), telemetry, Health::default().table("t"));
        let event = config::Event {
            profile: EventProfile::Aws,
            data: EventData::DynamodbJson,
            mode: EventMode::Binary,
            overrides: Default::default(),
        };
        let ((updates, taken), (sender, parcels)) = (mpsc::channel(16), mpsc::channel(16));
        let running = tokio::spawn(Pipeline::new(books.clone(), order, event, sender).run(taken));
        Self { books, updates, parcels, running }
    }

    async fn open_stream(&self, stream: &str) {
        let update = Update::StreamOpened { facts: facts(stream), start: Position::Start };
        self.updates.send(update).await.unwrap();
    }

    async fn open(&self, stream: &str, shard: ShardNumber, parent: Option<ShardNumber>) {
        let parent = parent.map(|parent| parent.to_string().as_str().into());
        let (id, facts) = (shard.to_string().as_str().into(), facts(stream));
        self.updates.send(Update::ShardOpened { shard, id, facts, from: Position::Start, parent }).await.unwrap();
    }

    /// The parcels that a page of these becomes.
    async fn page(&mut self, stream: &str, shard: ShardNumber, entries: Vec<Entry>) -> Vec<Parcel> {
        self.books.budget().charge(entries.iter().map(Entry::cost).sum());
        let page = ShardPage { shard, facts: facts(stream), entries, read_at: SystemTime::now(), caught_up: true };
        self.updates.send(Update::Page(page)).await.unwrap();
        timeout(Duration::from_secs(5), self.parcels.recv()).await.expect("nothing was handed on").unwrap()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn gates(parcels: &[Parcel]) -> Vec<Gate> {
    parcels.iter().map(|parcel| parcel.gate).collect()
}

fn settle(parcels: &[Parcel]) {
    parcels.iter().for_each(|parcel| parcel.account.settled(parcel.ticket, parcel.cost));
}

#[tokio::test]
async fn what_follows_a_gap_in_its_lineage_is_behind_it_and_nothing_else_is() {
    let mut line = Line::new(DeliveryOrder::Item);
    line.open_stream("a").await;
    line.open("a", 1, None).await;
    line.open("a", 2, None).await;
    let page = line.page("a", 1, vec![record(1), gap("a", Some("1")), record(2)]).await;
    let Gate::Barrier(number) = page[1].gate else { panic!("a gap is a barrier: {:?}", page[1].gate) };
    assert_eq!(gates(&page), [Gate::None, Gate::Barrier(number), Gate::Behind(number)]);
    assert_eq!(page[1].lane, number);
    assert_eq!(gates(&line.page("a", 2, vec![record(3)]).await), [Gate::None], "another lineage");
    line.open("a", 3, Some(1)).await;
    line.open("a", 4, Some(3)).await;
    assert_eq!(gates(&line.page("a", 4, vec![record(4)]).await), [Gate::Behind(number)], "a grandchild");
    let again = line.page("a", 4, vec![gap("a", Some("4"))]).await;
    assert_eq!((again[0].gate, again[0].lane), (Gate::Barrier(number), number), "gaps of one lineage share a lane");
}

#[tokio::test]
async fn a_stream_that_is_gone_is_a_gap_before_everything_in_the_next_one() {
    let mut line = Line::new(DeliveryOrder::Item);
    line.open_stream("a").await;
    line.open("a", 1, None).await;
    let page = line.page("a", 1, vec![gap("a", None)]).await;
    line.open_stream("b").await;
    line.open("b", 2, None).await;
    assert_eq!(gates(&line.page("b", 2, vec![record(1)]).await), [Gate::Behind(page[0].lane)]);
}

#[tokio::test]
async fn a_gap_at_which_reading_stops_holds_the_position_for_good() {
    let mut line = Line::new(DeliveryOrder::Item);
    line.open_stream("a").await;
    line.open("a", 1, None).await;
    let Entry::Gap(mut gap) = gap("a", Some("1")) else { unreachable!() };
    gap.resume = None;
    settle(&line.page("a", 1, vec![record(1), Entry::Gap(gap), record(2)]).await);
    let Entry::Record(first) = record(1) else { unreachable!() };
    let standing = line.books.ledger().view()[0].standing;
    assert_eq!(standing, Some(Standing::Reading(Position::After(first.sequence_number()))));
    assert_eq!(line.books.budget().used(), 0, "its room is given back all the same");
}

#[tokio::test]
async fn with_order_by_shard_a_lineage_is_one_lane_and_gaps_wait_in_it() {
    let mut line = Line::new(DeliveryOrder::Shard);
    line.open_stream("a").await;
    line.open("a", 1, None).await;
    line.open("a", 2, None).await;
    let parent = line.page("a", 1, vec![record(1), gap("a", Some("1")), record(2)]).await;
    assert!(parent.iter().all(|parcel| parcel.lane == parent[0].lane && parcel.gate == Gate::None));
    line.open("a", 3, Some(1)).await;
    assert_eq!(line.page("a", 3, vec![record(3)]).await[0].lane, parent[0].lane, "a child");
    assert_ne!(line.page("a", 2, vec![record(4)]).await[0].lane, parent[0].lane, "another lineage");
}

#[tokio::test(start_paused = true)]
async fn with_order_by_shard_a_new_stream_waits_for_everything_in_the_old_one() {
    let mut line = Line::new(DeliveryOrder::Shard);
    line.open_stream("a").await;
    line.open("a", 1, None).await;
    let old = line.page("a", 1, vec![record(1), record(2)]).await;
    line.updates.send(Update::ShardEnded { shard: 1 }).await.unwrap();
    line.open_stream("b").await;
    line.open("b", 2, None).await;
    settle(&old[..1]);
    let page = ShardPage {
        shard: 2,
        facts: facts("b"),
        entries: vec![record(3)],
        read_at: SystemTime::now(),
        caught_up: true,
    };
    line.updates.send(Update::Page(page)).await.unwrap();
    let early = timeout(Duration::from_secs(60), line.parcels.recv()).await;
    assert!(early.is_err(), "it overtook the old stream's last record");
    settle(&old[1..]);
    let new = timeout(Duration::from_secs(60), line.parcels.recv()).await;
    assert_eq!(new.expect("it goes on by itself").map(|page| page.len()), Some(1));
}
