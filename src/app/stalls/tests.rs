//! The real parts of one table against a client, a sink and a store in memory, in virtual time: each part is made to stand
//! still, and `/livez` must say so; whatever AWS, the sink or the store hold up must not.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::admin::{self, Admin};
use crate::app::tests::{BUFFER, IDLE_MAX, LONGEST_PAUSE, World, event};
use crate::config::DeliveryOrder;
use crate::pipeline::Pipeline;
use crate::telemetry::metrics::Metrics;

/// A part whose wake-ups are lost while it sleeps.
struct Sleeper<F> {
    part: Pin<Box<F>>,
    asleep: Arc<AtomicBool>,
}

impl<F: Future> Future for Sleeper<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.asleep.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        self.part.as_mut().poll(context)
    }
}

/// The parts, running, each of which can be put to sleep.
struct House {
    world: Arc<World>,
    health: Arc<Health>,
    books: Arc<Books>,
    reading: Arc<AtomicBool>,
    pipeline: Arc<AtomicBool>,
    dispatcher: Arc<AtomicBool>,
    keeper: Arc<AtomicBool>,
    updates: mpsc::WeakSender<Update>,
    tasks: JoinSet<()>,
}

impl House {
    /// All parts, after a minute in which a change was delivered and stored.
    async fn new() -> Self {
        let (world, health) = (Arc::new(World::default()), Arc::new(Health::default()));
        let table = world.table(&health);
        let dispatcher = world.dispatcher();
        let (sender, parcels) = mpsc::channel(64);
        let tables = [table];
        let watched = Watched::new(&tables, dispatcher.activity(), sender.downgrade());
        let Some(Table { books, follower, updates, keeper }) = tables.into_iter().next() else { unreachable!() };
        let mut house = Self {
            world,
            health: health.clone(),
            books: books.clone(),
            reading: Arc::default(),
            pipeline: Arc::default(),
            dispatcher: Arc::default(),
            keeper: Arc::default(),
            updates: follower.reading.updates.downgrade(),
            tasks: JoinSet::new(),
        };
        house.tasks.spawn(watch(watched, health));
        house.run(house.reading.clone(), follower.run());
        house.run(house.pipeline.clone(), Pipeline::new(books, DeliveryOrder::Item, event(), sender).run(updates));
        house.run(house.dispatcher.clone(), dispatcher.run(parcels, CancellationToken::new()));
        house.run(house.keeper.clone(), keeper.run(CancellationToken::new()));
        house.world.write(1);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(house.delivered(), 1);
        house
    }

    fn run<F: Future + Send + 'static>(&mut self, asleep: Arc<AtomicBool>, part: F) {
        let part = Sleeper { part: Box::pin(part), asleep };
        self.tasks.spawn(async move {
            part.await;
        });
    }

    fn delivered(&self) -> u64 {
        self.books.telemetry().metrics().events_delivered.get()
    }

    /// Fails unless the probe says for two minutes that all is well, and then that this part stands still. The part is
    /// expected to have something to do within `slack`.
    async fn stands_still(&self, part: &str, slack: Duration) {
        sleep(PATIENCE - LOOK_INTERVAL).await;
        assert_eq!(self.health.not_live(), None, "too early");
        sleep(slack + 3 * LOOK_INTERVAL).await;
        let (status, body) = livez(&self.health).await;
        assert_eq!(status, 503, "nobody noticed that {part}");
        assert!(body.contains(part), "{body}");
    }

    /// Fails unless the probe says for an hour that all is well.
    async fn is_live(&self) {
        for _ in 0..720 {
            sleep(LOOK_INTERVAL).await;
            assert_eq!(self.health.not_live(), None);
        }
        assert_eq!(livez(&self.health).await.0, 200);
    }
}

/// What the probe answers, over HTTP and so in real time.
async fn livez(health: &Arc<Health>) -> (u16, String) {
    tokio::time::resume();
    let admin = Arc::new(Admin {
        health: health.clone(),
        metrics: Metrics::new("t", "t").unwrap(),
        refresh: Box::new(|| {}),
        status: Box::new(|| serde_json::Value::Null),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/livez", listener.local_addr().unwrap()).parse().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(admin::serve(listener, admin, stop.clone()));
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let answer = client.get(url).await.unwrap();
    let (status, body) = (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes());
    stop.cancel();
    server.await.unwrap().unwrap();
    tokio::time::pause();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_process_that_works_or_has_nothing_to_do_is_live() {
    let house = House::new().await;
    house.is_live().await;
    for number in 2..400 {
        house.world.write(number);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(house.health.not_live(), None);
    }
    house.is_live().await;
    assert_eq!(house.delivered(), 399);
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_lost_a_wake_up_fails_the_probe() {
    let house = House::new().await;
    house.dispatcher.store(true, Ordering::Relaxed);
    house.world.write(2);
    house.stands_still("the dispatcher takes in no events", IDLE_MAX).await;
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_does_not_go_on_after_a_pause_fails_the_probe() {
    let house = House::new().await;
    house.world.status.store(503, Ordering::Relaxed);
    house.world.write(2);
    sleep(Duration::from_secs(9)).await;
    house.dispatcher.store(true, Ordering::Relaxed);
    house.stands_still("the dispatcher did not go on after a pause", LONGEST_PAUSE).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_for_room_that_nobody_gives_back_fails_the_probe_until_it_gets_some() {
    let house = House::new().await;
    house.books.budget().charge(BUFFER);
    house.stands_still("the reader of a shard does not go on", IDLE_MAX).await;
    house.books.budget().release(BUFFER);
    sleep(2 * LOOK_INTERVAL).await;
    house.is_live().await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_lost_a_wake_up_fails_the_probe() {
    let house = House::new().await;
    house.reading.store(true, Ordering::Relaxed);
    // A whole listing is due once a minute.
    house.stands_still("the listing of shards does not go on", Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_lost_a_wake_up_fails_the_probe() {
    let house = House::new().await;
    house.pipeline.store(true, Ordering::Relaxed);
    house.world.write(2);
    house.stands_still("the pipeline takes in no pages", IDLE_MAX).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_position_that_is_never_written_fails_the_probe() {
    let house = House::new().await;
    house.keeper.store(true, Ordering::Relaxed);
    house.world.write(2);
    sleep(IDLE_MAX).await;
    assert_eq!(house.delivered(), 2);
    house.stands_still("changed positions are not written", IDLE_MAX).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_sink_aws_or_the_store_hold_up_is_no_stall() {
    let house = House::new().await;
    house.world.status.store(503, Ordering::Relaxed);
    house.world.write(2);
    house.is_live().await;
    house.world.status.store(0, Ordering::Relaxed);
    house.world.store_fails.store(true, Ordering::Relaxed);
    house.is_live().await;
    house.world.store_fails.store(false, Ordering::Relaxed);
    house.world.denies.store(true, Ordering::Relaxed);
    house.is_live().await;
    assert_eq!(house.delivered(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_table_whose_books_are_broken_stops_and_says_so_and_is_no_stall() {
    let house = House::new().await;
    let unknown = Update::ShardEnded { shard: 77 };
    house.updates.upgrade().unwrap().send(unknown).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let why = house.health.not_ready(Instant::now()).unwrap();
    assert!(why.starts_with("table Orders: reading stopped: the table's books do not know shard number 77"), "{why}");
    house.world.write(2);
    house.is_live().await;
    assert_eq!(house.delivered(), 1, "it is read no further");
}
