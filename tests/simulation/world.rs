//! The world around the process: its clock, what happens in it, and the edges at which a life can end.
//!
//! Contract: everything outside the process is looked at through [`World::look`] and changed through [`World::edge`] alone, which
//! bring the world up to date first. A life that has ended has no effect any more: whoever still runs of it waits for ever.
//! Where several processes live in one world, each looks at it by a [`World`] of its own, and they take turns (`turns.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynamodb_streams_adapter::checkpoint::{CheckpointStore, FileStore, StoredChanges, StoredTable};
use dynamodb_streams_adapter::readiness::Health;
use fastrand::Rng;
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::aws::{Aws, Table, table_arn};
use crate::disk::{MemoryDisk, Outcome, Step};
use crate::fault::Fault;
use crate::item_table::SharedTable;
use crate::judge::{Finding, Judge, Sentence};
use crate::plan::{Event, Moment, Plan, Settings, chance};
use crate::sink::SinkState;
use crate::turns::Turns;

/// Where the process keeps its positions.
pub const POSITIONS: &str = "/positions/positions.json";

/// So many saves are believed before the file is looked at.
const LOOK_EVERY: u64 = 64;

/// The world as one process meets it.
pub struct World {
    /// Its number, where there are several.
    pub process: usize,
    turns: Option<Arc<Turns>>,
    inner: Arc<Mutex<Inner>>,
    died: Notify,
    bell: Notify,
}

pub struct Inner {
    pub plan: Plan,
    pub aws: Aws,
    pub judge: Judge,
    pub sink: SinkState,
    pub disk: MemoryDisk,
    pub shared: SharedTable,
    /// Chance for what calls meet.
    pub chance: Rng,
    /// When something was last wrongly said to be unknown.
    pub wrong_at: BTreeMap<u64, u64>,
    agenda: BTreeMap<(Moment, u64), Event>,
    scheduled: u64,
    saves: u64,
    /// How many lives there were, of all processes.
    lives: u32,
    terms: u32,
    processes: Vec<Process>,
    /// Which of them looks at the world.
    pub current: usize,
    calls: u64,
    /// A digest of all that crossed an edge.
    digest: u64,
    story: Vec<String>,
    reading: BTreeSet<(usize, String)>,
}

/// One process, in the life that it has now.
struct Process {
    clock: (Moment, Option<Instant>),
    life: u32,
    /// Its life for the judge: with several processes each tenure is one.
    term: u32,
    edges: u64,
    /// The edge at which this life ends, and whether in an orderly way.
    ends_at: Option<(u64, bool)>,
    is_dead: bool,
    held: Option<(Box<dyn Fn() -> usize + Send>, usize)>,
    health: Option<Arc<Health>>,
}

/// Reads a shard for as long as it lives.
pub struct ReadingShard<'w> {
    world: &'w World,
    shard: String,
}

impl World {
    pub fn new(plan: Plan) -> Arc<Self> {
        let mut worlds = Self::with_turns(plan, 1, None);
        worlds.remove(0)
    }

    /// A world of several processes, as each of them meets it. They are away until these moments, or never come.
    pub fn of_several(plan: Plan, first: Vec<Option<Moment>>) -> Vec<Arc<Self>> {
        let processes = first.len();
        Self::with_turns(plan, processes, Some(Arc::new(Turns::new(first))))
    }

    /// The last moment that any process has seen.
    pub fn latest(&self) -> Moment {
        let inner = self.lock();
        inner.processes.iter().map(|process| process.clock.0).max().unwrap_or_default()
    }

    fn with_turns(plan: Plan, processes: usize, turns: Option<Arc<Turns>>) -> Vec<Arc<Self>> {
        let aws = Aws::new(&plan);
        let mut inner = Inner {
            judge: Judge::new(&plan),
            sink: SinkState::default(),
            disk: MemoryDisk::new(),
            shared: SharedTable::default(),
            chance: chance(plan.seed, 5),
            wrong_at: BTreeMap::new(),
            agenda: BTreeMap::new(),
            scheduled: 0,
            saves: 0,
            lives: 0,
            terms: 0,
            processes: (0..processes).map(|_| Process::default()).collect(),
            current: 0,
            calls: 0,
            digest: plan.seed,
            story: Vec::new(),
            reading: BTreeSet::new(),
            aws,
            plan,
        };
        let events = std::mem::take(&mut inner.plan.events);
        events.iter().for_each(|(moment, event)| inner.schedule(*moment, *event));
        inner.plan.events = events;
        inner.schedule_rollovers();
        let disk = inner.disk.clone();
        let inner = Arc::new(Mutex::new(inner));
        let world = |process| {
            let (turns, inner) = (turns.clone(), inner.clone());
            Arc::new(Self { process, turns, inner, died: Notify::new(), bell: Notify::new() })
        };
        let worlds: Vec<Arc<Self>> = (0..processes).map(world).collect();
        let weak = Arc::downgrade(&worlds[0]);
        disk.on_step(move |step| weak.upgrade().map_or(Outcome::Dead, |world| world.disk_step(step)));
        worlds
    }

    /// Looks at the world as it is now.
    pub fn look<T>(&self, look: impl FnOnce(&mut Inner, Moment) -> T) -> T {
        if let Some(turns) = &self.turns {
            let now = self.lock().now();
            turns.take(self.process, now);
        }
        let mut inner = self.lock();
        let now = inner.now();
        inner.catch_up(now);
        look(&mut inner, now)
    }

    /// Something that the process does to the outside: it takes so long, and the life can end before it takes effect and before
    /// the process knows.
    pub async fn edge<T>(&self, takes: Duration, effect: impl FnOnce(&mut Inner, Moment) -> T) -> T {
        let share = self.look(|inner, _| inner.chance.f64());
        self.pass().await;
        sleep(takes.mul_f64(share)).await;
        if self.look(|inner, _| inner.process().is_dead) {
            return std::future::pending().await;
        }
        let result = self.look(effect);
        self.pass().await;
        sleep(takes.mul_f64(1.0 - share)).await;
        if self.look(|inner, _| inner.process().is_dead) {
            return std::future::pending().await;
        }
        result
    }

    async fn pass(&self) {
        let (is_dead, is_stopped) = self.look(|inner, _| (inner.pass_edge(), inner.is_stopped_here()));
        if is_stopped {
            self.ring();
        }
        if is_dead {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// What comes of a step on the disk; a life can end between any two.
    fn disk_step(&self, step: Step) -> Outcome {
        if self.look(|inner, _| inner.pass_edge()) {
            self.died.notify_one();
            return Outcome::Dead;
        }
        self.look(|inner, now| inner.disk_outcome(step, now))
    }

    /// Waits for the end of this life.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    pub fn begin_life(&self, ends_at: Option<(u64, bool)>) -> (u32, Moment) {
        let mut inner = self.lock();
        // What was left over of the life before.
        let _ = (self.died.notified().now_or_never(), self.bell.notified().now_or_never());
        inner.lives += 1;
        inner.terms += 1;
        let (life, term, number) = (inner.lives, inner.terms, self.process);
        if life == 1 && inner.plan.has(Fault::StreamArns) {
            inner.name_streams();
        }
        inner.reading.retain(|(process, _)| *process != number);
        let process = inner.process_mut();
        process.clock.1 = Some(Instant::now());
        (process.life, process.term) = (life, term);
        (process.edges, process.ends_at, process.is_dead) = (0, ends_at, false);
        (process.held, process.health) = (None, None);
        (life, inner.now())
    }

    /// Ends this life at once.
    pub fn kill(&self) {
        self.lock().process_mut().is_dead = true;
    }

    /// Stops the world's clock, which is that of the life's runtime; returns what it shows.
    pub fn stop_clock(&self) -> Moment {
        self.look(|inner, now| {
            inner.process_mut().clock = (now, None);
            now
        })
    }

    /// The process is away until `until`; call it when its runtime is gone.
    pub fn away(&self, now: Moment, until: Moment) {
        let until = now.max(until);
        let mut inner = self.lock();
        let process = inner.process_mut();
        (process.is_dead, process.clock) = (true, (until, None));
        (process.held, process.health) = (None, None);
        drop(inner);
        self.look(|_, _| ());
    }

    /// The process takes no turn any more, until it is away or looks again.
    pub fn leave(&self) {
        if let Some(turns) = &self.turns {
            turns.leave(self.process);
        }
    }

    /// The machine is suspended: the world goes on, and the monotonic clock of the process does not.
    pub fn suspended(&self, duration: Duration) {
        self.lock().process_mut().clock.0 += duration;
    }

    pub fn begin_reading(&self, shard: &str) -> ReadingShard<'_> {
        let mut inner = self.lock();
        let now = inner.now();
        if !inner.reading.insert((self.process, shard.to_owned())) {
            inner.judge.find(Sentence::TwoReaders, now, format!("shard {shard} is read twice at a time"));
        }
        ReadingShard { world: self, shard: shard.to_owned() }
    }

    /// The life's term is brought forward: its stop or its kill comes now.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    pub fn tell(&self, line: String) {
        self.look(|inner, now| inner.tell(now, line));
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.current = self.process;
        let term = inner.term();
        inner.judge.hears_of(term);
        inner
    }
}

impl Default for Process {
    fn default() -> Self {
        Self {
            clock: (crate::plan::BEGIN, None),
            life: 0,
            term: 0,
            edges: 0,
            ends_at: None,
            is_dead: true,
            held: None,
            health: None,
        }
    }
}

impl Drop for ReadingShard<'_> {
    fn drop(&mut self) {
        let shard = (self.world.process, std::mem::take(&mut self.shard));
        self.world.lock().reading.remove(&shard);
    }
}

impl Inner {
    pub fn now(&self) -> Moment {
        let (from, since) = self.process().clock;
        from + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn process(&self) -> &Process {
        &self.processes[self.current]
    }

    fn process_mut(&mut self) -> &mut Process {
        &mut self.processes[self.current]
    }

    /// The number of the life of the process that looks.
    pub fn life(&self) -> u32 {
        self.process().life
    }

    pub fn term(&self) -> u32 {
        self.process().term
    }

    /// The process may become an owner: what the judge calls a life begins.
    pub fn begin_term(&mut self) {
        self.terms += 1;
        self.process_mut().term = self.terms;
        let term = self.terms;
        self.judge.hears_of(term);
    }

    /// How many lives there were.
    pub fn lives(&self) -> u32 {
        self.lives
    }

    pub fn calls(&self) -> u64 {
        self.calls
    }

    pub fn is_exhausted(&self) -> bool {
        self.calls >= self.plan.scale.most_calls()
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn story(&self) -> &[String] {
        &self.story
    }

    /// Adds something that was said or done to what two runs of a seed must agree in.
    fn note(&mut self, what: &str) {
        self.digest =
            (self.digest.rotate_left(5) ^ crate::service::text_hash(what)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    pub fn tell(&mut self, now: Moment, line: String) {
        let since = now.saturating_sub(crate::plan::BEGIN);
        let (hours, seconds) = (since.as_secs() / 3600, since.as_secs_f64() % 3600.0);
        let name = match self.processes.len() {
            1 => String::new(),
            _ => format!("process {} ", char::from(b'A' + self.current as u8)),
        };
        let life = self.life();
        let line =
            format!("{hours:>3}h{:02}m{:06.3} {name}life {life}: {line}", (seconds / 60.0) as u64, seconds % 60.0);
        self.note(&line);
        self.story.push(line);
    }

    /// What the process is told to read.
    pub fn named(&self, settings: &Settings) -> Vec<String> {
        let name = |table: &Table| if settings.by_arn { table_arn(&table.name) } else { table.name.clone() };
        match self.judge.streams() {
            Some(streams) => {
                streams.iter().map(|(table, stream)| self.aws.tables[*table].streams[*stream].arn.clone()).collect()
            }
            None => self.aws.tables.iter().map(name).collect(),
        }
    }

    /// What a table's positions are stored under: its ARN, or that of each of its streams that is read.
    fn keys(&self, table: usize) -> Vec<String> {
        let Aws { tables, .. } = &self.aws;
        match self.judge.streams() {
            None => vec![table_arn(&tables[table].name)],
            Some(streams) => {
                let own = streams.iter().filter(|(of, _)| *of == table);
                own.map(|(_, stream)| tables[table].streams[*stream].arn.clone()).collect()
            }
        }
    }

    /// The process is told the streams that the tables have now, at most the two newest of each.
    fn name_streams(&mut self) {
        let now = self.now();
        let tables = self.aws.tables.iter().enumerate();
        let streams = tables.flat_map(|(table, found)| {
            let newest = found.streams.iter().enumerate().rev().filter(move |(_, stream)| !stream.is_gone(now));
            newest.map(move |(stream, _)| (table, stream)).take(2)
        });
        self.judge.reads_only(streams.collect());
    }

    /// Shows the judge what a process that starts now would find stored of all tables.
    pub fn look_at_store(&mut self, now: Moment) {
        (0..self.aws.tables.len()).for_each(|table| self.look_at_stored(table, now));
    }

    /// Shows the judge what a save of the table that the process stores under this name has come to: the store has said that it
    /// is there, or nobody knows.
    pub fn look_at_save(&mut self, key: &str, changes: &StoredChanges, is_confirmed: bool, now: Moment) {
        let table = (0..self.aws.tables.len()).find(|table| self.keys(*table).iter().any(|name| name == key));
        let Some(table) = table else { return };
        self.saves += 1;
        match is_confirmed {
            true => self.judge.changed(table, changes, &self.aws, now),
            false => self.look_at_stored(table, now),
        }
        if is_confirmed && self.saves.is_multiple_of(LOOK_EVERY) {
            self.look_at_stored(table, now);
        }
    }

    /// Shows the judge what a process that started now would find stored of a table.
    fn look_at_stored(&mut self, table: usize, now: Moment) {
        let store = FileStore::open_on(self.disk.snapshot(), POSITIONS.as_ref(), "default").ok();
        let load = |key: &String| store.as_ref()?.load(key).now_or_never()?.ok()?;
        let stored = self.keys(table).iter().filter_map(load).flat_map(|stored| stored.streams).collect();
        self.judge.stored(table, StoredTable { streams: stored, stopped: None }, &self.aws, now);
    }

    /// From now on the judge looks at what the process holds, and at its bound.
    pub fn watch_memory(&mut self, held: impl Fn() -> usize + Send + 'static, limit: usize) {
        self.process_mut().held = Some((Box::new(held), limit));
    }

    /// How many pages all that there is takes to be listed.
    pub fn pages_to_list(&self) -> usize {
        let streams = self.aws.tables.iter().flat_map(|table| &table.streams);
        streams.map(|stream| stream.shards.len().div_ceil(self.plan.listing_page)).sum()
    }

    /// From now on the judge looks whether the process is ready.
    pub fn watch_health(&mut self, health: Arc<Health>) {
        self.process_mut().health = Some(health);
    }

    /// Looks at what the process says of itself.
    pub fn look_at_process(&mut self, now: Moment) {
        let process = &self.processes[self.current];
        if let Some((held, limit)) = &process.held {
            self.judge.memory(held(), *limit, now);
        }
        let is_owner = !self.judge.has_several() || self.judge.owns_all(self.current, self.aws.tables.len(), now);
        let is_awaited = is_owner && !self.judge.everything_is_owed();
        if is_awaited && process.health.as_ref().is_some_and(|health| health.not_ready(Instant::now()).is_none()) {
            self.judge.is_ready(&self.aws, now);
            self.tell(now, "is ready for the first time".to_owned());
        }
    }

    /// Whether everything that is owed has come.
    pub fn is_complete(&self, now: Moment) -> bool {
        let (owed, lost) = self.judge.missing(&self.aws, now);
        owed.is_empty() && lost.is_empty()
    }

    fn schedule(&mut self, moment: Moment, event: Event) {
        self.scheduled += 1;
        self.agenda.insert((moment, self.scheduled), event);
    }

    fn schedule_rollovers(&mut self) {
        let mut rng = chance(self.plan.seed, 6);
        for table in 0..self.plan.tables {
            let pause = self.plan.rollover.div_f64(self.plan.partitions as f64);
            let mut at = crate::plan::BEGIN + pause.mul_f64(rng.f64());
            while at < self.plan.healed {
                self.schedule(at, Event::Rollover { table, split: rng.u8(..5) == 0, draw: rng.u64(..) });
                at += pause.mul_f64(0.5 + rng.f64()).max(Duration::from_secs(1));
            }
        }
    }

    fn catch_up(&mut self, now: Moment) {
        while let Some(entry) = self.agenda.first_entry() {
            let (at, _) = *entry.key();
            if at > now {
                break;
            }
            let event = entry.remove();
            if let Event::Recreate { table, pause } | Event::Replace { table, pause } = event {
                self.schedule(at + pause, Event::Enable { table });
            }
            if let Some(told) = self.aws.happen(event, at) {
                self.tell(at, told);
            }
            match event {
                Event::Rollover { .. } | Event::MassRollover { .. } => self.judge.handed_over(at),
                Event::Recreate { .. } | Event::Replace { .. } | Event::Enable { .. } => self.judge.stream_changed(at),
                Event::Write { .. } => {}
            }
        }
        self.judge.learn(&self.aws);
        if self.judge.has_several() {
            self.table_catches_up(now);
            self.sink_catches_up(now);
        }
    }

    /// Whether the life has ended.
    fn pass_edge(&mut self) -> bool {
        let process = self.process_mut();
        process.edges += 1;
        if process.ends_at.is_some_and(|(edge, is_orderly)| process.edges >= edge && !is_orderly) {
            process.is_dead = true;
        }
        let (edges, is_dead) = (process.edges, process.is_dead);
        self.calls += edges % 2;
        is_dead
    }

    fn is_stopped_here(&self) -> bool {
        let Process { ends_at, edges, .. } = self.process();
        *ends_at == Some((*edges, true))
    }

    pub fn findings(&self) -> &[Finding] {
        self.judge.findings()
    }
}
