//! One seed, from the beginning of its world to the judge's last word: the lives of the process, one runtime each.
//!
//! A life is the process's own assembly on simulated services, in virtual time. It is stopped as the process is, or killed by
//! dropping its runtime.

use std::cell::Cell;
use std::ffi::OsString;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dynamodb_streams_adapter::app::table::PositionStore;
use dynamodb_streams_adapter::app::{self, Services};
use dynamodb_streams_adapter::checkpoint::{FileStore, OpenError};
use dynamodb_streams_adapter::clock::{self, SimulatedClock};
use dynamodb_streams_adapter::config::{Config, EnvironmentFacts};
use dynamodb_streams_adapter::delivery::dispatcher::Sinks;
use dynamodb_streams_adapter::lease::owner_name;
use dynamodb_streams_adapter::progress::buffer::Buffer;
use dynamodb_streams_adapter::readiness::Health;
use dynamodb_streams_adapter::telemetry::metrics::Metrics;
use futures_util::future::join;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::aws::wall;
use crate::fault::Fault;
use crate::fleet::run_several;
use crate::judge::{Finding, Sentence};
use crate::plan::several::{SharedFault, Trouble};
use crate::plan::{Boundary, End, HEALTHY, Moment, Plan, Settings, Start, chance};
use crate::sabotage::Sabotage;
use crate::sabotage::shared::leased_store;
use crate::said;
use crate::service::SimulatedAws;
use crate::sink::SimulatedSink;
use crate::store::SimulatedStore;
use crate::world::{POSITIONS, World};

thread_local! {
    /// The wall clock of the process that lives on this thread.
    static CLOCK: Cell<Option<SimulatedClock>> = const { Cell::new(None) };
}

/// How often somebody looks at the probes.
const PROBE: Duration = Duration::from_secs(20);

/// How long the orderly end may take.
const SHUTDOWN: Duration = Duration::from_secs(25);

/// What a seed's run came to.
pub struct Run {
    pub findings: Vec<Finding>,
    pub story: Vec<String>,
    pub digest: u64,
    pub calls: u64,
    pub lives: u32,
    pub simulated: Duration,
    /// It was ended by the most calls that a seed may take.
    pub is_cut: bool,
    /// How long leases were free that were given back, or not renewed any more, until a process that waited had them.
    pub handovers: Vec<Duration>,
    pub takeovers: Vec<Duration>,
}

/// When a life ends, and how.
pub struct Term {
    pub at: Moment,
    pub edge: Option<u64>,
    pub end: End,
}

pub fn run(plan: Plan) -> Run {
    run_sabotaged(plan, Sabotage::None)
}

/// The seed's run with an adapter that has a fault.
pub fn run_sabotaged(plan: Plan, sabotage: Sabotage) -> Run {
    if plan.several.is_some() {
        return run_several(plan, sabotage);
    }
    let world = World::new(plan.clone());
    let _listening = said::listen(&world);
    world.away(crate::plan::BEGIN, plan.first_start);
    let mut settings = plan.settings.clone();
    for Boundary { down, edge, up, end, settings: next } in &plan.boundaries {
        let ended = live(&world, sabotage, &settings, Term { at: *down, edge: *edge, end: *end });
        if world.look(|inner, _| inner.is_exhausted()) {
            break;
        }
        // A process that is killed early is restarted as soon.
        world.away(ended, if edge.is_some() { ended + (*up - *down) } else { *up });
        settings = next.clone();
    }
    let is_cut = world.look(|inner, _| inner.is_exhausted());
    if !is_cut {
        settings.stop_on_loss = false;
        close(&world, sabotage, &settings, plan.healed);
    }
    end_of(&world)
}

/// What it came to.
pub fn end_of(world: &World) -> Run {
    let inner = world.lock();
    Run {
        findings: inner.findings().to_vec(),
        story: inner.story().to_vec(),
        digest: inner.digest(),
        calls: inner.calls(),
        lives: inner.lives(),
        simulated: inner.now() - crate::plan::BEGIN,
        is_cut: inner.is_exhausted(),
        handovers: inner.judge.owners.handovers.clone(),
        takeovers: inner.judge.owners.takeovers.clone(),
    }
}

/// All is well from here on: what is owed must come, and one more restart must bring nothing.
fn close(world: &Arc<World>, sabotage: Sabotage, settings: &Settings, healed: Moment) {
    let ended = live(world, sabotage, settings, Term { at: healed + HEALTHY, edge: None, end: End::Stopped });
    if world.look(|inner, _| inner.is_exhausted()) {
        return;
    }
    world.look(|inner, now| {
        inner.judge.close(&inner.aws, now);
    });
    world.away(ended, ended + Duration::from_secs(2));
    // A stream is listed at eight pages a second, and only then is a table ready.
    let listing = world.look(|inner, _| inner.pages_to_list()).div_ceil(4);
    let at = ended + Duration::from_secs(60 + listing as u64);
    live(world, sabotage, settings, Term { at, edge: None, end: End::Stopped });
}

/// Lives until its term, and returns when it ended.
pub fn live(world: &Arc<World>, sabotage: Sabotage, settings: &Settings, term: Term) -> Moment {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread");
    let ended = runtime.block_on(async {
        let (life, now) = world.begin_life(term.edge.map(|edge| (edge, term.end == End::Stopped)));
        CLOCK.set(Some(clock::start_at(wall(settings.clock(now)))));
        fastrand::seed(chance(world.lock().plan.seed, 1_000 + u64::from(life)).u64(..));
        world.look(|inner, now| {
            inner.judge.begin_life(inner.term(), settings, now);
            match inner.judge.has_several() {
                true => inner.process_begins(settings, now),
                false => inner.look_at_store(now),
            }
        });
        world.tell(format!("starts, {settings:?}"));
        process(world, sabotage, settings, &term).await;
        CLOCK.take();
        world.stop_clock()
    });
    drop(runtime);
    let end = term.end;
    world.look(|inner, now| {
        inner.tell(now, format!("has ended: {end:?}"));
        if inner.judge.has_several() {
            inner.process_ends();
            return;
        }
        inner.disk.process_died();
        if end == End::PowerLost {
            let mut chance = chance(inner.plan.seed, 2_000 + u64::from(inner.life()));
            inner.disk.power_lost(&mut chance);
        }
    });
    ended
}

/// Runs the process until it ends, is told to, or dies.
async fn process(world: &Arc<World>, sabotage: Sabotage, settings: &Settings, term: &Term) {
    let stop = CancellationToken::new();
    let health = Arc::new(Health::default());
    let begun = world.look(|_, now| now);
    let until = Instant::now() + term.at.saturating_sub(begun);
    let at_term = async {
        tokio::select! {
            biased;
            () = world.rung() => {}
            () = sleep_until(until) => {}
        }
        if term.end == End::Stopped {
            world.look(|inner, now| inner.is_told_to_stop(now));
            stop.cancel();
            sleep(SHUTDOWN + Duration::from_secs(5)).await;
            world.look(|inner, now| inner.judge.find(Sentence::Ended, now, "an orderly end takes for ever".to_owned()));
        }
    };
    tokio::select! {
        biased;
        () = world.died() => {}
        () = at_term => {}
        () = adapter(world, sabotage, settings, &health, &stop) => {}
        () = pauses(world) => {}
        () = troubles(world) => {}
        () = watch_probes(world, &health, term) => {}
    }
    world.kill();
}

/// The adapter, started until it can, as its supervisor would.
async fn adapter(
    world: &Arc<World>,
    sabotage: Sabotage,
    settings: &Settings,
    health: &Arc<Health>,
    stop: &CancellationToken,
) {
    let named = world.lock().named(settings);
    let (tables, config) = (named.len(), config(&sabotage.settings(settings), &sabotage.tables(named)));
    loop {
        match position_store(world, sabotage) {
            Ok(store) => {
                let sink = |takes_dead_letters| {
                    sabotage.sink(Arc::new(SimulatedSink { world: world.clone(), takes_dead_letters }))
                };
                let service = sabotage.aws(Arc::new(SimulatedAws(world.clone())));
                let services = Services {
                    store,
                    sinks: Sinks { sink: sink(false), dead_letters: Some(sink(true)) },
                    credentials: Vec::new(),
                    connect: Box::new(move |_| Ok(service.clone())),
                    metrics: metrics(),
                    health: health.clone(),
                };
                match app::assemble(&config, services) {
                    Ok(tasks) => {
                        let progress = tasks.progress().to_vec();
                        let limit = settings.buffer + tables * Buffer::PAGE;
                        world.lock().watch_memory(move || progress.iter().map(|it| it.buffer().held()).sum(), limit);
                        world.lock().watch_health(health.clone());
                        let told = stop.child_token();
                        let (ended, ()) = join(tasks.run_until(&told, SHUTDOWN), sabotage.stops(&told)).await;
                        world.look(|inner, now| match ended {
                            Ok(()) if stop.is_cancelled() => {
                                inner.tell(now, "stopped".to_owned());
                                if inner.store_was_well(now) {
                                    inner.judge.ended_in_order(inner.current, &inner.aws, now);
                                    inner.judge.gives_leases_back(inner.current, now);
                                }
                            }
                            Ok(()) => inner.judge.find(Sentence::Ended, now, "it was not told to".to_owned()),
                            Err(fault) => inner.judge.find(Sentence::Ended, now, fault.to_string()),
                        });
                        return;
                    }
                    Err(error) => world.tell(format!("cannot start: {error}")),
                }
            }
            Err(error) if error.may_pass() => world.tell(format!("cannot start: {error}")),
            Err(error) => {
                world.look(|inner, now| inner.judge.find(Sentence::Ended, now, error.to_string()));
                return;
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(Duration::from_secs(10)) => {}
        }
    }
}

/// Where the process keeps its positions: a file of its own, or the table of all.
fn position_store(world: &Arc<World>, sabotage: Sabotage) -> Result<PositionStore, OpenError> {
    if let Some(several) = world.lock().plan.several.as_ref() {
        let duration = several.lease;
        return Ok(PositionStore::Leased { store: leased_store(sabotage, world), owner: owner_name("pod"), duration });
    }
    let files = world.lock().disk.clone();
    let store = FileStore::open_on(files, POSITIONS.as_ref(), "default")?;
    Ok(PositionStore::Own(sabotage.store(Arc::new(SimulatedStore { world: world.clone(), store }))))
}

/// Registering metrics takes longer than most lives: they are registered once a thread.
fn metrics() -> Metrics {
    thread_local! {
        static METRICS: OnceLock<Metrics> = const { OnceLock::new() };
    }
    METRICS
        .with(|metrics| metrics.get_or_init(|| Metrics::new("simulated", "simulated").expect("valid metrics")).clone())
}

fn config(settings: &Settings, tables: &[String]) -> Config {
    let millis = |duration: Duration| format!("{}ms", duration.as_millis());
    let start = match settings.start {
        Start::Latest => "latest".to_owned(),
        Start::TrimHorizon => "trim-horizon".to_owned(),
        Start::Ago(ago) => millis(ago),
    };
    let mut variables = vec![
        ("TABLE", tables.join(",")),
        ("AWS_REGION", "eu-west-1".to_owned()),
        ("K_SINK", "http://sink.example/".to_owned()),
        ("CHECKPOINT_STORE", format!("file:{POSITIONS}")),
        ("START_POSITION", start),
        ("DELIVERY_ORDER", if settings.by_shard { "shard" } else { "item" }.to_owned()),
        ("EVENT_MODE", settings.mode.to_owned()),
        ("ON_UNDELIVERABLE", settings.undeliverable.to_owned()),
        ("ON_DATA_LOSS", if settings.stop_on_loss { "stop" } else { "continue" }.to_owned()),
        ("POLL_INTERVAL", millis(settings.poll)),
        ("IDLE_POLL_INTERVAL_MAX", millis(settings.idle_max)),
        ("DELIVERY_TIMEOUT", millis(settings.timeout)),
        ("BUFFER_MEMORY", settings.buffer.to_string() + "B"),
    ];
    if settings.undeliverable == "dead-letter" {
        variables.push(("DEAD_LETTER_SINK", "http://letters.example/".to_owned()));
    }
    if let Some(attempts) = settings.max_attempts {
        variables.push(("RETRY_MAX_ATTEMPTS", attempts.to_string()));
    }
    let variables = variables.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let facts = EnvironmentFacts { now: clock::now(), stdout_is_terminal: false, open_files: None, memory_limit: None };
    Config::from_env_vars(variables, &facts).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The process stands still, and so does its clock's hand, until it goes on.
async fn pauses(world: &Arc<World>) {
    let episodes = world.lock().plan.episodes.clone();
    for episode in episodes.iter().filter(|episode| episode.fault == Fault::Pauses) {
        let now = world.look(|_, now| now);
        if episode.from < now {
            continue;
        }
        sleep(episode.from - now).await;
        world.tell(format!("stands still for {:?}", episode.until - episode.from));
        tokio::time::advance(episode.until - episode.from).await;
    }
    std::future::pending().await
}

/// The wall clock of the process jumps by so many milliseconds.
fn jump(millis: i64) {
    let (shown, by) = (clock::now(), Duration::from_millis(millis.unsigned_abs()));
    CLOCK.take();
    CLOCK.set(Some(clock::start_at(if millis < 0 { shown - by } else { shown + by })));
}

/// What befalls one of several processes: it stands still, its machine is suspended, its clock jumps.
async fn troubles(world: &Arc<World>) {
    let (troubles, process) = {
        let inner = world.lock();
        (inner.plan.several.as_ref().map_or_else(Vec::new, |several| several.troubles.clone()), world.process)
    };
    for Trouble { fault, from, until, severity, .. } in troubles.iter().filter(|it| it.process == process) {
        let now = world.look(|_, now| now);
        if *from < now || !matches!(fault, SharedFault::Pauses | SharedFault::Suspensions | SharedFault::ClockJumps) {
            continue;
        }
        sleep(*from - now).await;
        let lasts = *until - *from;
        world.look(|inner, now| inner.process_is_disturbed(now + lasts));
        match fault {
            SharedFault::Pauses => {
                world.tell(format!("stands still for {lasts:.3?}"));
                tokio::time::advance(lasts).await;
            }
            SharedFault::Suspensions => {
                world.tell(format!("is suspended for {lasts:.3?}"));
                world.suspended(lasts);
                jump(lasts.as_millis() as i64);
            }
            _ => {
                // Up to minutes, forwards or backwards.
                let by = (severity * 2.0 - 1.0).powi(3) * 300_000.0;
                world.tell(format!("its wall clock jumps by {:.1} s", by / 1_000.0));
                jump(by as i64);
            }
        }
        world.look(|inner, now| inner.process_is_disturbed(now));
    }
    std::future::pending().await
}

/// Looks at the probes, as the platform does.
async fn watch_probes(world: &Arc<World>, health: &Arc<Health>, term: &Term) {
    let healed = world.lock().plan.healed;
    loop {
        sleep(PROBE).await;
        let is_over = world.look(|inner, now| {
            inner.look_at_process(now);
            if let Some(why) = health.not_live() {
                inner.judge.find(Sentence::NotAlive, now, why);
            }
            inner.is_exhausted()
        });
        if is_over {
            return;
        }
        let is_last = term.at > healed;
        if is_last && world.look(|inner, now| now > healed + Duration::from_secs(90) && inner.is_complete(now)) {
            // A probe asks whether it is ready, until its patience ends.
            let why = health.not_ready(Instant::now());
            let is_late = world.look(|_, now| now + PROBE >= term.at);
            match why {
                Some(why) if is_late => {
                    world.look(|inner, now| inner.judge.not_ready(why, &inner.aws, now));
                }
                Some(_) => continue,
                None => {}
            }
            // What is left of the time brings nothing new.
            world.ring();
            return std::future::pending().await;
        }
    }
}
