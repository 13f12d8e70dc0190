//! Knows every write, hears everything that the process does, and says where a promise was broken.
//!
//! Contract, in eight sentences:
//! 1. What the store holds as settled is, for each item and at every moment, a prefix of its history over shards and streams; it
//!    was settled indeed, and stays so.
//! 2. Each change was taken, given up by a policy that was set, lies before the start, or lies in a gap that was told, which tells
//!    of nothing that AWS still has.
//! 3. Each item's changes come in order, with order by shard each shard's; after all crashes an item's last delivery is its newest
//!    state.
//! 4. Nothing comes again that was stored as settled, or whose success this life has heard of.
//! 5. Calls stay within the account's limits and the stated budgets; a shard has at most one reader.
//! 6. Memory, by the process's own count, stays within its bound.
//! 7. In a world that has healed everything arrives in the stated time, the process is ready, and never not alive.
//! 8. Where several processes share a table of positions, one at a time begins to send, and only while it has the lease; a lease that is
//!    given back or runs out is taken over in the stated time, and all start at one moment. A life is then a tenure.

mod calls;
pub mod owners;
mod posted;
mod promptness;
mod sentence;
mod settled;

use std::collections::{BTreeMap, BTreeSet};

use self::calls::Calls;
use self::owners::Owners;
pub use self::posted::{Posted, Told};
use self::sentence::hours_since_begin;
pub use self::sentence::{Finding, Sentence};
use self::settled::Settled;
use crate::aws::{Aws, Change, ChangeNumber};
use crate::fault::Fault;
use crate::plan::{HEALTHY, Moment, Plan, Settings, Start};
use crate::service::{CALL_LIMIT, text_hash};

/// More findings of one sentence say nothing new.
const MOST_A_SENTENCE: usize = 5;

/// What became of a change.
#[derive(Debug, Clone, Default)]
struct Fate {
    taken: bool,
    /// The life in which it was last taken.
    taken_in: u32,
    taken_at: Option<Moment>,
    given_up: bool,
    /// Attempts that failed, in one life.
    failures: (u32, u32),
    /// The life in which the sink refused it so often that the policy may act.
    undeliverable_in: u32,
    told: bool,
    /// It lies before the moment from which on everything is owed.
    optional: bool,
    /// The life that has heard of its success.
    heard_in: u32,
    /// A save that was confirmed held it as settled.
    confirmed: bool,
}

impl Fate {
    fn is_resolved(&self) -> bool {
        self.taken || self.given_up || self.told || self.optional
    }
}

/// A table's item; its stream too, where streams are read by themselves.
type History = (usize, u32, Option<usize>);

pub struct Judge {
    plan: Plan,
    fates: Vec<Fate>,
    /// Each item's change behind a change.
    next: Vec<Option<ChangeNumber>>,
    /// The last delivery of each table's items: in which life, and of what.
    last: BTreeMap<History, (u32, ChangeNumber)>,
    /// The same of each table's streams' shards.
    last_of_shard: BTreeMap<(usize, usize, usize), (u32, ChangeNumber)>,
    settled: Settled,
    /// When a shard's page was empty although there were records.
    withheld: BTreeMap<(usize, usize, usize), Vec<Moment>>,
    calls: Calls,
    life: u32,
    settings: Settings,
    /// The streams that alone are read, where the process is told streams.
    streams: Option<BTreeSet<(usize, usize)>>,
    /// The lowest and the highest moment that a start so far may have meant.
    starts: Option<(Moment, Moment)>,
    /// When the first life began.
    begun: Option<Moment>,
    /// Since when everything is owed.
    owed_since: Option<Moment>,
    /// The streams of which anything was read.
    seen: BTreeSet<(usize, usize)>,
    /// Everything was settled at an orderly end: nothing may come again.
    is_closed: bool,
    pub owners: Owners,
    findings: Vec<Finding>,
}

impl Judge {
    pub fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            fates: Vec::new(),
            next: Vec::new(),
            last: BTreeMap::new(),
            last_of_shard: BTreeMap::new(),
            settled: Settled::default(),
            withheld: BTreeMap::new(),
            calls: Calls::new(plan),
            life: 0,
            settings: plan.settings.clone(),
            streams: None,
            starts: None,
            begun: None,
            owed_since: None,
            seen: BTreeSet::new(),
            is_closed: false,
            owners: Owners::default(),
            findings: Vec::new(),
        }
    }

    pub fn find(&mut self, sentence: Sentence, at: Moment, what: String) {
        if self.findings.iter().filter(|finding| finding.sentence == sentence).count() < MOST_A_SENTENCE {
            self.findings.push(Finding { sentence, at, what });
        }
    }

    /// The process is told these streams, each a table's number and its own.
    pub fn reads_only(&mut self, streams: BTreeSet<(usize, usize)>) {
        self.streams = Some(streams);
    }

    pub fn streams(&self) -> Option<&BTreeSet<(usize, usize)>> {
        self.streams.as_ref()
    }

    fn is_read(&self, change: &Change) -> bool {
        self.streams.as_ref().is_none_or(|streams| streams.contains(&(change.table, change.stream)))
    }

    /// Within what a change has an order.
    fn history(&self, change: &Change) -> History {
        (change.table, change.item, self.streams.as_ref().map(|_| change.stream))
    }

    /// It is not ready although nobody misbehaves any more.
    pub fn not_ready(&mut self, why: String, aws: &Aws, now: Moment) {
        // Whoever was told a stream that is disabled waits for another word.
        let is_disabled = |(table, stream): &(usize, usize)| aws.tables[*table].streams[*stream].disabled.is_some();
        if !self.streams.iter().flatten().any(is_disabled) {
            self.find(Sentence::NotReady, now, why);
        }
    }

    pub fn is_ordered_by_shard(&self) -> bool {
        self.settings.by_shard
    }

    pub fn everything_is_owed(&self) -> bool {
        self.owed_since.is_some()
    }

    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Takes note of what was written.
    pub fn learn(&mut self, aws: &Aws) {
        for (number, change) in aws.changes.iter().enumerate().skip(self.fates.len()) {
            // A start may lie in the future of AWS's clock.
            let is_before_start = self.starts.is_some_and(|(_, start)| change.at < start + self.grain());
            let optional = self.owed_since.is_none() || is_before_start || !self.is_read(change);
            self.fates.push(Fate { optional, ..Fate::default() });
            self.next.push(None);
            if let Some(before) = change.before {
                self.next[before as usize] = Some(number as ChangeNumber);
            }
        }
    }

    /// What comes next is said or done in this life.
    pub fn hears_of(&mut self, life: u32) {
        self.life = life;
    }

    pub fn begin_life(&mut self, life: u32, settings: &Settings, now: Moment) {
        // A life that was never ready may have stored that it starts with what is written from some moment of it on.
        if let Some((_, high)) = self.starts.as_mut().filter(|_| self.settings.start == Start::Latest) {
            *high = (*high).max(now);
        }
        (self.life, self.settings) = (life, settings.clone());
        self.begun.get_or_insert(now);
        self.calls.begin_life(now, settings);
        if self.owed_since.is_some() {
            return;
        }
        let start = settings.first_moment(now);
        let (low, high) = self.starts.unwrap_or((start, start));
        self.starts = Some((low.min(start), high.max(start)));
    }

    /// The process is ready: from now on everything is owed, and of what was there before what its start asks for.
    pub fn is_ready(&mut self, aws: &Aws, now: Moment) {
        if self.owed_since.is_some() {
            return;
        }
        self.owed_since = Some(now);
        let (_, start) = self.starts.unwrap_or((now, now));
        let (start, latest) = (start + self.grain(), self.settings.start == Start::Latest);
        for (number, change) in aws.changes.iter().enumerate().take(self.fates.len()) {
            let is_trimmed = aws.is_trimmed(change, now + crate::plan::minutes(5));
            // A first start begins with the stream that the table has then, and may take its time.
            let is_earlier = aws.stream_of(change).disabled.is_some();
            self.fates[number].optional =
                change.at < start || latest || is_trimmed || is_earlier || !self.is_read(change);
        }
    }

    /// How much earlier than it was made a change may say that it was, beyond the second that AWS cuts off.
    fn grain(&self) -> Moment {
        Moment::from_secs(if self.plan.has(Fault::MinuteTimes) { 60 } else { 0 })
    }

    /// An attempt reaches the sink.
    pub fn attempted(&mut self, posted: &Posted, aws: &Aws, now: Moment) {
        match posted {
            Posted::Change(number) => self.change_attempted(*number, aws, now),
            Posted::Gap(told) => self.told(told, aws, now),
            Posted::Unknown(id) => self.find(Sentence::OutOfOrder, now, format!("an event that nobody wrote: {id}")),
        }
    }

    fn change_attempted(&mut self, number: ChangeNumber, aws: &Aws, now: Moment) {
        // Where several processes take turns, it matters when they begin.
        if !self.has_several() {
            self.must_not_be_repeated(number, aws, now);
        }
        let change = &aws.changes[number as usize];
        // Times are whole seconds. Behind what cannot be decoded a restart does not know that nothing was as young as the start.
        let is_behind_odd = self.plan.has(Fault::OddRecords) && self.life > 1;
        // What a stream holds that was created at the start or later is everybody's; and a listing of streams may be late.
        let is_young = self.begun.is_some_and(|begun| aws.stream_of(change).created + crate::plan::minutes(5) > begun);
        // Whoever has waited for a lease reckons back from AWS's clock, of which it sees whole seconds too, and as it was before an
        // answer that took long.
        let seconds = match self.has_several() {
            true if self.plan.has(Fault::SlowCalls) => CALL_LIMIT + Moment::from_secs(2),
            true => Moment::from_secs(2),
            false => Moment::from_secs(1),
        };
        if let Some((low, _)) = self.starts.filter(|_| !is_behind_odd && !is_young)
            && change.at + seconds + self.grain() < low
        {
            self.find(Sentence::BeforeStart, now, format!("{} is older than any start", name(number, aws)));
        }
    }

    fn must_not_be_repeated(&mut self, number: ChangeNumber, aws: &Aws, now: Moment) {
        let fate = &self.fates[number as usize];
        let (heard, confirmed) = (fate.heard_in == self.life, fate.confirmed);
        if self.is_closed && fate.taken && self.is_stored(number) {
            let what =
                format!("{} is sent again after an orderly end at which everything was settled", name(number, aws));
            self.find(Sentence::Repeated, now, what);
        } else if heard {
            self.find(
                Sentence::Repeated,
                now,
                format!("{} is sent again in the life that heard of its success", name(number, aws)),
            );
        } else if confirmed {
            self.find(
                Sentence::Repeated,
                now,
                format!("{} is sent again, and was stored as settled", name(number, aws)),
            );
        }
    }

    fn told(&mut self, told: &Told, aws: &Aws, now: Moment) {
        let lost = self.changes_in(told, aws, now);
        for number in lost {
            let change = &aws.changes[number as usize];
            let stream = aws.stream_of(change);
            let gone = aws.is_trimmed(change, now) || stream.is_gone(now) || change.is_malformed;
            if self.fates[number as usize].told {
                continue;
            }
            self.fates[number as usize].told = true;
            // What lies before the start is owed to nobody.
            let fate = &self.fates[number as usize];
            if !gone && !fate.taken && !fate.optional {
                let what =
                    format!("gap {} ({}) tells of {}, which AWS still has", told.id, told.reason, name(number, aws));
                self.find(Sentence::FalseGap, now, what);
            }
        }
    }

    /// The changes that a gap speaks of.
    fn changes_in(&self, told: &Told, aws: &Aws, now: Moment) -> Vec<ChangeNumber> {
        let streams = aws.tables.iter().flat_map(|table| &table.streams);
        let Some(stream) = streams.rev().find(|stream| stream.arn == told.stream) else { return Vec::new() };
        let Some(shard) = &told.shard else {
            return stream.shards.iter().flat_map(|shard| shard.records.iter().copied()).collect();
        };
        let Some(shard) = stream.number(shard) else { return Vec::new() };
        let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<u128>().ok());
        let (after, before) = (number(&told.after), number(&told.before));
        let mut shards = vec![shard];
        if told.reason == "shard-missing" {
            // Whoever continued it and is gone too has no other place to be told of.
            let mut next = 0;
            while let Some(shard) = shards.get(next) {
                next += 1;
                shards
                    .extend(stream.shards[*shard].children.iter().filter(|child| stream.shards[**child].is_gone(now)));
            }
        }
        if told.reason != "undecodable" && after.is_none() {
            // Whatever came before and is gone was in no listing that the adapter could take: this is the place to be told of it.
            let ancestors = std::iter::successors(stream.shards[shard].parent, |shard| stream.shards[*shard].parent);
            shards.extend(ancestors.take_while(|shard| stream.shards[*shard].is_gone(now)));
        }
        let table = aws.tables.iter().find(|table| table.streams.iter().any(|it| std::ptr::eq(it, stream)));
        let mut unseen = Vec::new();
        if let Some(table) = table.filter(|_| told.reason == "trimmed" && after.is_none()) {
            // So was a stream that came and went while nobody looked.
            let earlier = table.streams.iter().take_while(|it| !std::ptr::eq(*it, stream)).filter(|it| it.is_gone(now));
            unseen.extend(earlier.flat_map(|it| it.shards.iter().flat_map(|shard| shard.records.iter().copied())));
        }
        let is_within = |change: &ChangeNumber| {
            let change = &aws.changes[*change as usize];
            // Where numbers repeat, what cannot be decoded may have the number of its neighbour.
            let is_itself = told.reason == "undecodable" && change.is_malformed;
            let first = change.shard == shard
                && after.is_some_and(|after| change.sequence < after || change.sequence == after && !is_itself);
            let behind = change.shard == shard
                && before.is_some_and(|before| change.sequence > before || change.sequence == before && !is_itself);
            // Where a gap's end is open, it is not all of the shard that is lost.
            let lost = match told.reason.as_str() {
                // What has no number that anybody can read has no gap of its own behind another one.
                "trimmed" => before.is_some() || aws.is_trimmed(change, now) || change.is_malformed,
                "undecodable" => before.is_some() || change.is_malformed,
                _ => true,
            };
            !first && !behind && lost
        };
        let within = shards.iter().flat_map(|shard| stream.shards[*shard].records.iter().copied()).filter(is_within);
        within.chain(unseen).collect()
    }

    /// The sink, or the one for dead letters, takes an event.
    pub fn accepted(&mut self, posted: &Posted, dead_letters: bool, aws: &Aws, now: Moment) {
        let Posted::Change(number) = *posted else { return };
        let may_be_letter =
            self.settings.undeliverable == "dead-letter" && self.fates[number as usize].undeliverable_in == self.life;
        if dead_letters && !may_be_letter {
            let what = format!("{} is among the dead letters, and is not to be given up yet", name(number, aws));
            return self.find(Sentence::Lost, now, what);
        }
        self.check_shard_order(number, aws, now);
        self.check_ancestors(number, aws, now);
        let change = &aws.changes[number as usize];
        let item = self.history(change);
        let mut before = change.before;
        while let Some(earlier) = before {
            if !self.fates[earlier as usize].is_resolved() && !self.may_follow(earlier, number, aws) {
                let what = format!("{} is taken before {}", name(number, aws), name(earlier, aws));
                self.find(Sentence::OutOfOrder, now, what);
                break;
            }
            before = match self.fates[earlier as usize].optional {
                true => aws.changes[earlier as usize].before,
                false => None,
            };
        }
        if let Some((life, last)) = self.last.get(&item).copied()
            && life == self.life
            && last > number
            && !self.comes_with_a_batch(number, last)
            && !self.may_follow(number, last, aws)
        {
            let what = format!("{} is taken behind {} in one life", name(number, aws), name(last, aws));
            self.find(Sentence::OutOfOrder, now, what);
        }
        self.last.insert(item, (self.life, number));
        let fate = &mut self.fates[number as usize];
        (fate.taken, fate.taken_in) = (true, self.life);
        if fate.taken_at.is_none() {
            fate.taken_at = Some(now);
            self.check_promptness(number, aws, now);
        }
    }

    /// A listing that hides a shard of a stream for longer than the adapter waits before it goes on with the next one makes its
    /// changes late: `docs/semantics.md` says so.
    fn may_follow(&self, earlier: ChangeNumber, later: ChangeNumber, aws: &Aws) -> bool {
        let [earlier, later] = [earlier, later].map(|number| &aws.changes[number as usize]);
        let hides =
            [Fault::HiddenShards, Fault::LateShards, Fault::RepeatingPages].iter().any(|fault| self.plan.has(*fault));
        hides && earlier.stream != later.stream
    }

    /// A batch of both was taken, and the process has not heard of it: it sends all of it again.
    fn comes_with_a_batch(&self, number: ChangeNumber, last: ChangeNumber) -> bool {
        let [number, last] = [number, last].map(|change| &self.fates[change as usize]);
        number.taken_in == self.life && last.heard_in != self.life
    }

    /// The process has ended in order, and the disk had nothing against it: what it has heard of must not come again.
    pub fn ended_in_order(&mut self, process: usize, aws: &Aws, now: Moment) {
        let life = self.life;
        if self.settings.by_shard && self.settings.mode == "batch" {
            // What lies behind a refusal of its shard comes again with it, although the sink has named no fault of its own.
            return;
        }
        let is_owner: Vec<bool> = (0..aws.tables.len()).map(|table| self.has_given_back(table, process, now)).collect();
        let own = self.fates.iter_mut().zip(&aws.changes).filter(|(_, change)| is_owner[change.table]);
        for (fate, _) in own.filter(|(fate, _)| fate.heard_in == life && !fate.optional) {
            fate.confirmed = true;
        }
    }

    pub fn heard_success(&mut self, posted: &Posted) {
        if let Posted::Change(number) = posted {
            self.fates[*number as usize].heard_in = self.life;
        }
    }

    /// An attempt failed; the policy may give the event up.
    pub fn heard_failure(&mut self, posted: &Posted, is_final: bool) {
        let Posted::Change(number) = posted else { return };
        let fate = &mut self.fates[*number as usize];
        let before = if fate.failures.0 == self.life { fate.failures.1 } else { 0 };
        fate.failures = (self.life, before + 1);
        if is_final || self.settings.max_attempts.is_some_and(|most| before + 1 >= most) {
            fate.undeliverable_in = self.life;
            fate.given_up |= self.settings.undeliverable == "drop";
        }
    }

    /// With order by shard, a shard's changes come one after the other.
    fn check_shard_order(&mut self, number: ChangeNumber, aws: &Aws, now: Moment) {
        let change = &aws.changes[number as usize];
        let last = self.last_of_shard.insert((change.table, change.stream, change.shard), (self.life, number));
        let Some((life, last)) = last.filter(|_| self.settings.by_shard) else { return };
        // What a lost response hides comes again. Of a batch the sink may take what lies behind a refusal of another item's.
        let is_first = !self.fates[number as usize].taken && self.settings.mode != "batch";
        let is_behind = life == self.life && last > number;
        if is_behind && (is_first || self.fates[last as usize].heard_in == self.life) {
            let what = format!("{} is taken behind {} of its shard", name(number, aws), name(last, aws));
            self.find(Sentence::OutOfOrder, now, what);
        }
    }

    /// With order by shard, a shard's changes come behind those of the shards that it continues.
    fn check_ancestors(&mut self, number: ChangeNumber, aws: &Aws, now: Moment) {
        if !self.settings.by_shard {
            return;
        }
        let change = &aws.changes[number as usize];
        let shards = &aws.tables[change.table].streams[change.stream].shards;
        let ancestors = std::iter::successors(shards[change.shard].parent, |ancestor| shards[*ancestor].parent);
        // They come one after the other: if one is missing, the last ones are.
        let mut last = ancestors.flat_map(|ancestor| shards[ancestor].records.iter().rev().take(8));
        if let Some(earlier) = last.find(|earlier| !self.fates[**earlier as usize].is_resolved()) {
            let what = format!("{} is taken before {} of an ancestor", name(number, aws), name(*earlier, aws));
            self.find(Sentence::OutOfOrder, now, what);
        }
    }

    pub fn stream_changed(&mut self, now: Moment) {
        self.calls.stream_changed(now);
    }

    pub fn handed_over(&mut self, now: Moment) {
        self.calls.handed_over(now);
    }

    pub fn called(&mut self, operation: &'static str, process: usize, now: Moment) {
        if let Some((sentence, what)) = self.calls.called(operation, process, now) {
            self.find(sentence, now, what);
        }
    }

    /// The listing of a table's streams is denied: one that was never read, and has a successor, is not known.
    pub fn streams_are_not_listed(&mut self, table: u64, aws: &Aws) {
        self.learn(aws);
        for (number, change) in aws.changes.iter().enumerate() {
            let of = &aws.tables[change.table];
            let is_known = change.stream + 1 == of.streams.len() || self.seen.contains(&(change.table, change.stream));
            self.fates[number].optional |= text_hash(&of.name) == table && !is_known;
        }
    }

    pub fn iterator_issued(&mut self, shard: (usize, usize, usize)) {
        self.seen.insert((shard.0, shard.1));
        self.calls.iterator_issued(shard);
    }

    /// A page is empty although there are records.
    pub fn withheld(&mut self, shard: (usize, usize, usize), now: Moment) {
        self.withheld.entry(shard).or_default().push(now);
    }

    pub fn page_sent(&mut self, shard: (usize, usize, usize), records: std::ops::Range<usize>, now: Moment) {
        if let Some((sentence, what)) = self.calls.page_sent(shard, records.is_empty(), now) {
            self.find(sentence, now, what);
        }
    }

    pub fn memory(&mut self, used: usize, limit: usize, now: Moment) {
        if used > limit {
            self.find(Sentence::Memory, now, format!("{used} bytes are held, more than {limit}"));
        }
    }

    /// What is missing still, of what AWS has and of what nobody can bring any more.
    pub fn missing(&self, aws: &Aws, now: Moment) -> (Vec<ChangeNumber>, Vec<ChangeNumber>) {
        let missing =
            (0..self.fates.len() as ChangeNumber).filter(|number| !self.fates[*number as usize].is_resolved());
        missing.partition(|number| {
            let change = &aws.changes[*number as usize];
            let stream = aws.stream_of(change);
            !aws.is_trimmed(change, now) && !stream.is_gone(now) && !self.settled.holds(*number)
        })
    }

    /// The world was well for long enough: everything must be there.
    pub fn close(&mut self, aws: &Aws, now: Moment) {
        let (owed, lost) = self.missing(aws, now);
        self.is_closed = owed.is_empty() && lost.is_empty();
        let all = |numbers: &[ChangeNumber]| {
            let names: Vec<String> = numbers.iter().take(4).map(|number| name(*number, aws)).collect();
            format!("{} changes, {}", numbers.len(), names.join(", "))
        };
        if !lost.is_empty() {
            self.find(Sentence::Lost, now, all(&lost));
        }
        if !owed.is_empty() {
            self.find(
                Sentence::NotDelivered,
                now,
                format!("{} min after all was well: {}", HEALTHY.as_secs() / 60, all(&owed)),
            );
        }
        for (history, (_, last)) in self.last.clone() {
            let newest = aws.changes.iter().rposition(|change| self.history(change) == history);
            let Some(newest) = newest.filter(|newest| self.fates[*newest].taken) else { continue };
            if newest as ChangeNumber != last && !self.may_follow(last, newest as ChangeNumber, aws) {
                let what = format!(
                    "the last delivery of an item is {}, its newest state {}",
                    name(last, aws),
                    name(newest as ChangeNumber, aws)
                );
                self.find(Sentence::Stale, now, what);
            }
        }
    }
}

/// A change for the reader of a finding.
fn name(number: ChangeNumber, aws: &Aws) -> String {
    let change = &aws.changes[number as usize];
    format!(
        "change {number} (table {}, item {}, stream {}, shard {}, sequence {}, written at {})",
        change.table,
        change.item,
        change.stream,
        change.shard,
        change.sequence,
        hours_since_begin(change.at),
    )
}
