//! The sink, and the one for dead letters: slow, limited, down, poisoned by single events, or losing its responses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dynamodb_streams_adapter::event::Message;
use dynamodb_streams_adapter::sink::{BodyEnd, RetryAfter, Sink, SinkResponse, TransportError};
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fault::Fault;
use crate::judge::{Posted, Told};
use crate::plan::{Moment, hash};
use crate::world::{Inner, World};

/// Where the process posts.
pub struct SimulatedSink {
    pub world: Arc<World>,
    pub takes_dead_letters: bool,
}

/// What the sink remembers.
#[derive(Default)]
pub struct SinkState {
    /// Requests that it may still take now.
    tokens: f64,
    filled: Moment,
    last_request: Moment,
    late: BTreeMap<(Moment, u64), LateRequest>,
    requests: u64,
}

/// A request that its sender may give up at any time, where several processes live: it may arrive all the same.
struct UnderWay<'w> {
    world: &'w World,
    request: Option<LateRequest>,
    begun: Moment,
}

/// What its sender does not wait for any more.
struct LateRequest {
    posted: Vec<Posted>,
    dead_letters: bool,
    arrives: Moment,
}

impl<'w> UnderWay<'w> {
    fn begin(world: &'w World, posted: &[Posted], dead_letters: bool, takes: Duration) -> Self {
        let begin = |inner: &mut Inner, now| {
            if !inner.judge.has_several() {
                return None;
            }
            posted.iter().for_each(|posted| inner.judge.begins(posted, inner.current, &inner.aws, now));
            Some(LateRequest { posted: posted.to_vec(), dead_letters, arrives: now + takes })
        };
        let (request, begun) = world.look(|inner, now| (begin(inner, now), now));
        Self { world, request, begun }
    }

    fn arrives(&mut self, inner: &mut Inner, now: Moment) {
        let request = self.request.take();
        for posted in request.iter().flat_map(|request| &request.posted) {
            inner.judge.is_waited_for(posted, inner.current, self.begun, &inner.aws, now);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            let mut inner = self.world.lock();
            // Some are on their way for longer than anybody thinks.
            let later = Duration::from_millis(inner.chance.u64(..20_000)).mul_f64(inner.chance.f64());
            if inner.chance.bool() {
                let at = inner.now().max(request.arrives) + later;
                inner.sink.comes_late(request, at);
            }
        }
    }
}

impl SinkState {
    fn comes_late(&mut self, request: LateRequest, at: Moment) {
        self.requests += 1;
        self.late.insert((at, self.requests), request);
    }
}

/// What comes of a request.
enum Fate {
    Taken {
        failed: Vec<usize>,
    },
    /// It is taken, and the process never hears of it.
    TakenUnheard(TransportError),
    Refused(StatusCode, Option<RetryAfter>),
    Fails(TransportError),
}

#[derive(Deserialize)]
struct Envelope<'e> {
    id: &'e str,
    #[serde(rename = "type")]
    kind: &'e str,
    #[serde(borrow)]
    data: Option<&'e RawValue>,
}

impl Sink for SimulatedSink {
    fn post(&self, message: Message, timeout: Duration) -> BoxFuture<'_, SinkResponse> {
        Box::pin(async move {
            let (posted, is_batch) = read(&message);
            let mut takes = self.world.look(|inner, now| inner.sink_takes(now));
            let times_out = takes >= timeout;
            takes = takes.min(timeout);
            let letters = self.takes_dead_letters;
            let mut under_way = UnderWay::begin(&self.world, &posted, letters, takes);
            let fate = self
                .world
                .edge(takes, |inner, now| {
                    under_way.arrives(inner, now);
                    let fate = inner.fate(&posted, times_out, is_batch, now);
                    inner.apply(&posted, &fate, letters, now);
                    fate
                })
                .await;
            self.world.look(|inner, _| inner.heard(&posted, &fate));
            response(&posted, fate)
        })
    }
}

impl Inner {
    /// What was under way when its process gave it up arrives up to this moment.
    pub fn sink_catches_up(&mut self, now: Moment) {
        while let Some(entry) = self.sink.late.first_entry().filter(|entry| entry.key().0 <= now) {
            let (at, LateRequest { posted, dead_letters, .. }) = (entry.key().0, entry.remove());
            let fate = self.fate(&posted, false, false, at);
            if matches!(fate, Fate::Taken { .. } | Fate::TakenUnheard(_)) {
                posted.iter().for_each(|posted| self.judge.accepted_late(posted, dead_letters));
            }
        }
    }

    fn sink_takes(&mut self, now: Moment) -> Duration {
        let usual = Duration::from_micros(self.chance.u64(300..20_000));
        let cold =
            self.plan.during(Fault::ColdStart, now).filter(|_| self.sink.last_request + Duration::from_secs(60) < now);
        let cold = cold.map_or(Duration::ZERO, |episode| Duration::from_secs_f64(20.0 * episode.severity));
        self.sink.last_request = now;
        let slow = self.plan.during(Fault::SlowSink, now).map_or(0.0, |episode| episode.severity);
        let slow = match self.chance.f64() < slow {
            true => self.plan.settings.timeout.mul_f64(1.5 * self.chance.f64() * self.chance.f64()),
            false => Duration::ZERO,
        };
        usual + cold + slow
    }

    fn fate(&mut self, posted: &[Posted], times_out: bool, is_batch: bool, now: Moment) -> Fate {
        let draw = self.chance.f64();
        for fault in [Fault::SinkOutage, Fault::LongSinkOutage] {
            if let Some(episode) = self.plan.during(fault, now) {
                return match episode.pick % 5 {
                    0 => Fate::Fails(TransportError::Connect),
                    1 => Fate::Fails(TransportError::Timeout),
                    2 => Fate::Refused(StatusCode::INTERNAL_SERVER_ERROR, None),
                    3 => {
                        Fate::Refused(StatusCode::SERVICE_UNAVAILABLE, Some(RetryAfter::Delay(Duration::from_secs(5))))
                    }
                    _ => Fate::Fails(TransportError::Reset),
                };
            }
        }
        if self.is_over_capacity(now) {
            let after = self.chance.bool().then(|| RetryAfter::Delay(Duration::from_secs(self.chance.u64(1..5))));
            return Fate::Refused(StatusCode::TOO_MANY_REQUESTS, after);
        }
        let poisoned: Vec<usize> = (0..posted.len()).filter(|n| self.is_poisoned(&posted[*n], now)).collect();
        if let Some(episode) = self.plan.during(Fault::Poison, now).filter(|_| !poisoned.is_empty()) {
            let is_final = episode.pick.is_multiple_of(2);
            return match is_batch && !is_final {
                true => Fate::Taken { failed: self.with_followers(posted, &poisoned) },
                false if is_final => Fate::Refused(StatusCode::BAD_REQUEST, None),
                false => Fate::Refused(StatusCode::INTERNAL_SERVER_ERROR, None),
            };
        }
        let loses = self.plan.during(Fault::LostResponses, now).map_or(0.0, |episode| episode.severity * 0.5);
        match (times_out, draw < loses) {
            (true, _) if draw < 0.5 => Fate::Fails(TransportError::Timeout),
            (true, _) => Fate::TakenUnheard(TransportError::Timeout),
            (false, true) => Fate::TakenUnheard(TransportError::Reset),
            (false, false) => Fate::Taken { failed: Vec::new() },
        }
    }

    /// A sink that keeps an item's order takes nothing of it behind an event that it refuses.
    fn with_followers(&self, posted: &[Posted], failed: &[usize]) -> Vec<usize> {
        let item = |posted: &Posted| match posted {
            Posted::Change(number) => self.aws.changes.get(*number as usize).map(|change| (change.table, change.item)),
            Posted::Gap(_) | Posted::Unknown(_) => None,
        };
        let follows = |n: usize| {
            failed.iter().any(|first| {
                *first <= n && (*first == n || item(&posted[n]).is_some_and(|it| item(&posted[*first]) == Some(it)))
            })
        };
        (0..posted.len()).filter(|n| follows(*n)).collect()
    }

    /// With order by shard, what lies behind a refusal comes again with it, although the sink has taken it.
    fn comes_again(&self, posted: &[Posted], failed: &[usize], number: usize) -> bool {
        let table = |posted: &Posted| match posted {
            Posted::Change(number) => self.aws.changes.get(*number as usize).map(|change| change.table),
            Posted::Gap(_) | Posted::Unknown(_) => None,
        };
        let is_before = |first: &usize| *first < number && table(&posted[*first]) == table(&posted[number]);
        self.judge.is_ordered_by_shard() && failed.iter().any(is_before)
    }

    fn is_over_capacity(&mut self, now: Moment) -> bool {
        let Some(episode) = self.plan.during(Fault::LimitedSink, now) else { return false };
        let capacity = 2.0 + episode.severity * 100.0;
        let since = now.saturating_sub(self.sink.filled).as_secs_f64();
        (self.sink.tokens, self.sink.filled) = ((self.sink.tokens + since * capacity).min(capacity), now);
        let is_over = self.sink.tokens < 1.0;
        self.sink.tokens -= if is_over { 0.0 } else { 1.0 };
        is_over
    }

    fn is_poisoned(&self, posted: &Posted, now: Moment) -> bool {
        let Some(episode) = self.plan.during(Fault::Poison, now) else { return false };
        let number = match posted {
            Posted::Change(number) => u64::from(*number),
            Posted::Gap(_) => 1 << 40,
            Posted::Unknown(_) => return false,
        };
        hash(episode.pick, 40, number) % 100 < 5 + (episode.severity * 30.0) as u64
    }

    fn apply(&mut self, posted: &[Posted], fate: &Fate, dead_letters: bool, now: Moment) {
        let failed = match fate {
            Fate::Taken { failed } => failed.as_slice(),
            Fate::TakenUnheard(_) => &[],
            Fate::Refused(..) | Fate::Fails(_) => {
                posted.iter().for_each(|posted| self.judge.attempted(posted, &self.aws, now));
                return;
            }
        };
        for (number, posted) in posted.iter().enumerate() {
            self.judge.attempted(posted, &self.aws, now);
            if !failed.contains(&number) {
                self.judge.accepted(posted, dead_letters, &self.aws, now);
            }
        }
    }

    /// The process gets its answer.
    fn heard(&mut self, posted: &[Posted], fate: &Fate) {
        for (number, event) in posted.iter().enumerate() {
            match fate {
                Fate::Taken { failed } if failed.contains(&number) => self.judge.heard_failure(event, false),
                Fate::Taken { failed } if self.comes_again(posted, failed, number) => {}
                Fate::Taken { .. } => self.judge.heard_success(event),
                Fate::Refused(status, _) => self.judge.heard_failure(event, *status == StatusCode::BAD_REQUEST),
                _ => self.judge.heard_failure(event, false),
            }
        }
    }
}

fn response(posted: &[Posted], fate: Fate) -> SinkResponse {
    match fate {
        Fate::Taken { failed } => {
            let names: Vec<String> =
                failed.iter().map(|n| format!(r#"{{"itemIdentifier":"{}"}}"#, posted[*n].id())).collect();
            let body = match names.is_empty() {
                true => Bytes::new(),
                false => Bytes::from(format!(r#"{{"batchItemFailures":[{}]}}"#, names.join(","))),
            };
            SinkResponse::Accepted { status: StatusCode::OK, body, end: BodyEnd::Whole }
        }
        Fate::Refused(status, retry_after) => SinkResponse::Refused { status, retry_after, body_start: Bytes::new() },
        Fate::Fails(error) | Fate::TakenUnheard(error) => {
            SinkResponse::Failed { error, message: "simulated".to_owned() }
        }
    }
}

/// The events of a request, and whether it is a batch.
fn read(message: &Message) -> (Vec<Posted>, bool) {
    let header = |name: &str| message.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(id) = header("ce-id") {
        return (vec![posted(id, header("ce-type").unwrap_or_default(), &message.body)], false);
    }
    let one = |event: &Envelope<'_>| posted(event.id, event.kind, event.data.map_or("", RawValue::get).as_bytes());
    match message.body.first() {
        Some(b'[') => {
            let events: Vec<Envelope<'_>> = serde_json::from_slice(&message.body).expect("a batch is JSON");
            (events.iter().map(one).collect(), true)
        }
        _ => (vec![one(&serde_json::from_slice(&message.body).expect("an event is JSON"))], false),
    }
}

fn posted(id: &str, kind: &str, data: &[u8]) -> Posted {
    if kind == "com.amazonaws.dynamodb.gap" {
        let told: Told = serde_json::from_slice(data).expect("a gap's data is JSON");
        return Posted::Gap(told.with_id(id));
    }
    match id.strip_prefix('c').and_then(|number| number.parse().ok()) {
        Some(number) => Posted::Change(number),
        None => Posted::Unknown(id.to_owned()),
    }
}
