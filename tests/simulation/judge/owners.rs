//! Who may deliver a table, where several processes share it: what the judge knows of leases.
//!
//! Contract: a tenure begins with a claim that its process knows to be granted, and ends its lease's duration after it has asked for the
//! renewal that it last knew to be granted, or when it begins to give the lease back. Nothing may begin outside of a tenure, nor under
//! one that is not the newest under which anything was begun. What was begun in time may arrive late.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dynamodb_streams_adapter::checkpoint::dynamodb::items::Members;

use super::{Judge, Posted, Sentence, name};
use crate::aws::{Aws, ChangeNumber};
use crate::fault::Fault;
use crate::item_table::{LEASE, Sent, stamp};
use crate::plan::several::{Several, SharedFault};
use crate::plan::{Moment, Settings};

/// Between a process that gives a lease back and one that waits for it.
const HANDOVER: Duration = Duration::from_secs(1);

/// Between two looks at a lease, twice: it is seen to be as it is late, and to be so still.
const LOOKS: Duration = Duration::from_millis(1_300);

/// For so long after a table was made anew what was sent to the one before may still land in it.
const STRAYS: Duration = Duration::from_secs(150);

/// From the word to stop to the lease that is given back, where nothing is slow.
const STOP: Duration = Duration::from_millis(1_500);

/// A waiter that met errors looks again after so long.
const LOOKS_AGAIN: Duration = Duration::from_secs(6);

/// What a process may be late by its timers and its calls.
const SLACK: Duration = Duration::from_millis(100);

/// A write of a lease.
#[derive(Debug, Clone)]
pub struct LeaseWrite {
    pub partition: String,
    pub process: usize,
    /// None: it is given back.
    pub owner: Option<String>,
    pub epoch: u64,
    pub asked_at: Moment,
    /// Under which the sender has it, or claims it.
    pub term: u32,
}

impl LeaseWrite {
    pub fn of(sent: &Sent) -> Option<Self> {
        let members = sent.write.to.as_ref().filter(|_| sent.write.key.entry == LEASE)?;
        Some(Self {
            partition: sent.write.key.partition.clone(),
            process: sent.process,
            owner: owner(members),
            epoch: stamp(members)?.epoch,
            asked_at: sent.at,
            term: sent.term,
        })
    }
}

fn owner(members: &Members) -> Option<String> {
    members.get("owner").and_then(|owner| owner.as_str()).map(str::to_owned)
}

/// What is known of all tables' leases.
#[derive(Default)]
pub struct Owners {
    tables: BTreeMap<usize, TableOwners>,
    pub processes: BTreeMap<usize, ProcessState>,
    claims: u64,
    table_is_another_at: Option<Moment>,
    /// It was empty then.
    was_made_anew: bool,
    /// Lives that remember what was stored of a table before the table of positions was another.
    witnesses: BTreeSet<(u32, usize)>,
    /// What the last owner knows to have stored in a table that was made anew.
    remembered: Option<(u32, Vec<ChangeNumber>)>,
    /// It has claimed it, and sent nothing yet.
    is_restoring: bool,
    /// What the earliest start of all meant.
    oldest_start: Option<Moment>,
    /// How long handovers took: given back, and run out.
    pub handovers: Vec<Duration>,
    pub takeovers: Vec<Duration>,
}

#[derive(Default)]
struct TableOwners {
    tenures: BTreeMap<usize, Tenure>,
    /// The claim, by its number, under which anything was begun last.
    newest_begun: u64,
    last: Option<Claim>,
    /// Whether the process of each claim had seen a lease before.
    had_seen_a_lease: BTreeMap<u64, bool>,
    /// The lease was given back.
    released_at: Option<Moment>,
    /// Since when is stored that the table is read no further.
    stopped_at: Option<Moment>,
    /// The last write of the lease that happened.
    written_at: Moment,
}

#[derive(Debug, Clone)]
struct Claim {
    number: u64,
    process: usize,
    life: u32,
    term: u32,
    epoch: u64,
    at: Moment,
    /// Its process goes on from what it has found stored.
    has_loaded: bool,
}

/// What a process knows of its own.
#[derive(Debug, Clone)]
struct Tenure {
    claim: u64,
    epoch: u64,
    claimed_at: Moment,
    asked_at: Moment,
    is_given_back: bool,
}

/// What the judge knows of a process besides.
#[derive(Debug, Clone, Default)]
pub struct ProcessState {
    pub life: u32,
    /// What its start means, if it is the first one.
    start: Moment,
    stops_on_loss: bool,
    pub alive_since: Option<Moment>,
    pub told_to_stop: Option<Moment>,
    /// When it last stood still, was suspended, or its clock jumped.
    pub disturbed_at: Option<Moment>,
    pub has_seen_a_lease: bool,
    /// The tables of which it has taken over in this life what is stored.
    has_owned: BTreeSet<usize>,
}

impl ProcessState {
    fn was_undisturbed(&self, since: Moment) -> bool {
        self.alive_since.is_some_and(|alive| alive <= since) && self.disturbed_at.is_none_or(|at| at < since)
    }
}

impl Judge {
    fn lease_duration(&self) -> Duration {
        self.plan.several.as_ref().map_or(Duration::ZERO, |several| several.lease)
    }

    pub fn has_several(&self) -> bool {
        self.plan.several.is_some()
    }

    pub fn process(&mut self, process: usize) -> &mut ProcessState {
        self.owners.processes.entry(process).or_default()
    }

    pub fn process_begins(&mut self, process: usize, life: u32, settings: &Settings, now: Moment) {
        let start = settings.first_moment(now);
        let (stops_on_loss, alive_since) = (settings.stop_on_loss, Some(now));
        *self.process(process) = ProcessState { life, start, stops_on_loss, alive_since, ..ProcessState::default() };
    }

    pub fn process_ends(&mut self, process: usize) {
        self.process(process).alive_since = None;
        for owners in self.owners.tables.values_mut() {
            owners.tenures.remove(&process);
        }
    }

    /// Whether the process may deliver all tables now.
    pub fn owns_all(&self, process: usize, tables: usize, now: Moment) -> bool {
        (0..tables).all(|table| {
            let tenures = self.owners.tables.get(&table).map(|owners| &owners.tenures);
            tenures.and_then(|tenures| tenures.get(&process)).is_some_and(|it| self.lasts(it, now))
        })
    }

    fn lasts(&self, tenure: &Tenure, now: Moment) -> bool {
        !tenure.is_given_back && now < tenure.asked_at + self.lease_duration()
    }

    /// Whether a process has a tenure of this epoch.
    pub fn holds(&self, table: usize, process: usize, epoch: u64) -> bool {
        let tenures = self.owners.tables.get(&table).map(|owners| &owners.tenures);
        tenures.and_then(|tenures| tenures.get(&process)).is_some_and(|it| it.epoch == epoch && !it.is_given_back)
    }

    /// Whether nobody has claimed the table behind this one, and it goes on from what it has found.
    pub fn goes_on(&self, table: usize, term: u32) -> bool {
        let last = self.owners.tables.get(&table).and_then(|owners| owners.last.as_ref());
        last.is_some_and(|claim| claim.term == term && claim.has_loaded)
    }

    /// A process begins to claim, renew or give back a lease.
    pub fn lease_asked(&mut self, table: usize, lease: &LeaseWrite) {
        let tenures = &mut self.owners.tables.entry(table).or_default().tenures;
        if let Some(tenure) = tenures.get_mut(&lease.process).filter(|_| lease.owner.is_none()) {
            tenure.is_given_back = true;
        }
    }

    /// The lease of a table was written. Whether that is a claim.
    pub fn lease_written(&mut self, table: usize, lease: &LeaseWrite, before: Option<&Members>, now: Moment) -> bool {
        let was = before.and_then(|members| Some((owner(members), stamp(members)?.epoch)));
        let is_claim = lease.owner.is_some() && was.as_ref().is_none_or(|(_, epoch)| *epoch != lease.epoch);
        if is_claim {
            self.claimed(table, lease, was.as_ref().is_some_and(|(owner, _)| owner.is_none()), now);
        } else if lease.owner.is_none() {
            self.given_back(table, lease.process, now);
        }
        self.owners.tables.entry(table).or_default().written_at = now;
        is_claim
    }

    fn given_back(&mut self, table: usize, process: usize, now: Moment) {
        self.owners.tables.entry(table).or_default().released_at = Some(now);
        let Some(told) = self.process(process).told_to_stop else { return };
        let is_prompt = self.plan.faults.is_empty()
            && self.process(process).was_undisturbed(told.saturating_sub(LOOKS_AGAIN))
            && self.was_well(told.saturating_sub(Duration::from_secs(30)), now, &[]);
        if is_prompt && now > told + STOP {
            let took = (now - told).as_secs_f64();
            self.find(
                Sentence::LateTakeover,
                now,
                format!("a process gives its lease back {took:.1} s after it was told to stop"),
            );
        }
    }

    /// Whether nothing was wrong with the table, but what `harmless` names.
    pub fn was_well(&self, from: Moment, until: Moment, harmless: &[SharedFault]) -> bool {
        self.plan.several.as_ref().is_none_or(|several| several.table_was_well(from, until, harmless))
    }

    fn claimed(&mut self, table: usize, lease: &LeaseWrite, was_given_back: bool, now: Moment) {
        self.owners.claims += 1;
        let settings = self.settings.clone();
        self.calls.begin_life(now, &settings);
        let state = self.process(lease.process).clone();
        let claim = Claim {
            number: self.owners.claims,
            process: lease.process,
            life: state.life,
            term: lease.term,
            epoch: lease.epoch,
            at: now,
            has_loaded: false,
        };
        let owners = self.owners.tables.entry(table).or_default();
        owners.had_seen_a_lease.insert(claim.number, state.has_seen_a_lease);
        let (before, released_at, written_at) =
            (owners.last.replace(claim), owners.released_at.take(), owners.written_at);
        let Some(before) = before else { return };
        if before.life == state.life {
            let lease = self.lease_duration();
            let tenure = self.owners.tables.get(&table).and_then(|owners| owners.tenures.get(&before.process));
            if tenure.is_some_and(|tenure| now >= tenure.asked_at + lease) {
                self.was_rightly_deposed(&before, now);
            }
            return;
        }
        match released_at.filter(|_| was_given_back) {
            Some(released_at) => {
                let waited = state.was_undisturbed(released_at.saturating_sub(LOOKS_AGAIN));
                if waited && self.was_well(released_at.saturating_sub(LOOKS_AGAIN), now, &[]) {
                    self.owners.handovers.push(now - released_at);
                    self.must_be_prompt("a lease that was given back", now - released_at, HANDOVER, now);
                }
            }
            None => {
                let (patience, since) =
                    (self.lease_duration().mul_f64(1.1) + LOOKS, written_at.saturating_sub(LOOKS_AGAIN));
                if state.was_undisturbed(since) && self.was_well(since, now, &[SharedFault::SlowTable]) {
                    self.owners.takeovers.push(now - written_at);
                    self.must_be_prompt("a lease that was not renewed", now - written_at, patience, now);
                }
                self.was_rightly_deposed(&before, now);
            }
        }
    }

    fn must_be_prompt(&mut self, what: &str, took: Duration, most: Duration, now: Moment) {
        // Who starts asks AWS what the table is called in the store, and then waits.
        let is_late = [Fault::Outages, Fault::Throttling, Fault::SlowCalls].iter().any(|fault| self.plan.has(*fault));
        if took > most && !is_late {
            let what = format!("{what} is claimed after {:.1} s by a process that waits for it", took.as_secs_f64());
            self.find(Sentence::LateTakeover, now, what);
        }
    }

    /// An owner that lives and reaches the table renews its lease.
    fn was_rightly_deposed(&mut self, before: &Claim, now: Moment) {
        let since = now.saturating_sub(2 * self.lease_duration() + LOOKS_AGAIN);
        let owner = self.process(before.process).clone();
        let could_renew = owner.life == before.life
            && owner.told_to_stop.is_none()
            && owner.was_undisturbed(since)
            && before.at < since
            && self.was_well(since, now, &[SharedFault::SlowTable]);
        if could_renew {
            let what = format!("the lease of a process that could renew it is claimed, epoch {}", before.epoch);
            self.find(Sentence::Deposed, now, what);
        }
    }

    /// The process knows that its claim or renewal was granted.
    pub fn lease_granted(&mut self, table: usize, lease: &LeaseWrite, now: Moment) {
        if lease.owner.is_none() {
            return;
        }
        let owners = self.owners.tables.entry(table).or_default();
        let known = owners
            .tenures
            .get_mut(&lease.process)
            .filter(|tenure| tenure.epoch == lease.epoch && !tenure.is_given_back);
        match known {
            Some(tenure) => tenure.asked_at = tenure.asked_at.max(lease.asked_at),
            None => {
                let claim = owners.last.as_ref().filter(|claim| claim.process == lease.process);
                let (claim, claimed_at) = claim.map_or((0, now), |claim| (claim.number, claim.at));
                let tenure =
                    Tenure { claim, epoch: lease.epoch, claimed_at, asked_at: lease.asked_at, is_given_back: false };
                owners.tenures.insert(lease.process, tenure);
            }
        }
    }

    /// Whether the process has given its lease of a table back in time, or needs none.
    pub fn has_given_back(&self, table: usize, process: usize, now: Moment) -> bool {
        let tenures = self.owners.tables.get(&table).map(|owners| &owners.tenures);
        let tenure = tenures.and_then(|tenures| tenures.get(&process));
        let lease = self.lease_duration();
        !self.has_several() || tenure.is_some_and(|it| it.is_given_back && now < it.asked_at + lease)
    }

    /// The process has ended in order, and the table had nothing against it.
    pub fn gives_leases_back(&mut self, process: usize, now: Moment) {
        let tenures = self.owners.tables.values().filter_map(|owners| owners.tenures.get(&process));
        if tenures.into_iter().any(|tenure| self.lasts(tenure, now)) {
            let what = format!("process {} has ended in order and keeps its lease", letter(process));
            self.find(Sentence::LateTakeover, now, what);
        }
    }

    /// A process begins an attempt.
    pub fn begins(&mut self, posted: &Posted, process: usize, aws: &Aws, now: Moment) {
        let Posted::Change(number) = *posted else { return };
        self.must_not_be_repeated(number, aws, now);
        let table = aws.changes[number as usize].table;
        let lease = self.lease_duration();
        let tenure = self.owners.tables.entry(table).or_default().tenures.get(&process).cloned();
        let Some(tenure) = tenure.filter(|tenure| self.lasts(tenure, now)) else {
            let what = format!("{} is sent by process {}, whose tenure is over", name(number, aws), letter(process));
            return self.find(Sentence::AfterTheEnd, now, what);
        };
        let another_at = self.owners.table_is_another_at;
        let owners = self.owners.tables.entry(table).or_default();
        if tenure.claim >= owners.newest_begun {
            owners.newest_begun = tenure.claim;
            self.owners.is_restoring = false;
            return;
        }
        // Of a table that was made anew nobody can know that it had an owner who has not seen its lease.
        let next = owners.had_seen_a_lease.range(tenure.claim + 1..).next().is_some_and(|(_, had_seen)| *had_seen);
        let is_excused = another_at.is_some_and(|at| tenure.claimed_at < at && now < at + lease && !next);
        if !is_excused {
            let what = format!(
                "{} is sent by process {} under claim {}, and claim {} has sent before",
                name(number, aws),
                letter(process),
                tenure.claim,
                owners.newest_begun
            );
            self.find(Sentence::TwoOwners, now, what);
        }
    }

    /// An attempt reaches the sink, and its process waits for the answer still.
    pub fn is_waited_for(&mut self, posted: &Posted, process: usize, begun: Moment, aws: &Aws, now: Moment) {
        let Posted::Change(number) = *posted else { return };
        let table = aws.changes[number as usize].table;
        let was_disturbed = self.process(process).disturbed_at.is_some_and(|at| at >= begun);
        let tenures = self.owners.tables.get(&table).map(|owners| &owners.tenures);
        let Some(tenure) = tenures.and_then(|tenures| tenures.get(&process)) else { return };
        if !was_disturbed && now > tenure.asked_at + self.lease_duration() + SLACK {
            let what =
                format!("{} is not cut off at the end of the tenure of process {}", name(number, aws), letter(process));
            self.find(Sentence::AfterTheEnd, now, what);
        }
    }

    /// An attempt that its process has given up, or did not live to see, reaches the sink.
    pub fn accepted_late(&mut self, posted: &Posted, dead_letters: bool) {
        if let (Posted::Change(number), false) = (posted, dead_letters) {
            self.fates[*number as usize].taken = true;
        }
    }

    /// The table of positions was made anew, or restored from a backup: what it holds is not what was stored last.
    pub fn table_is_another(&mut self, is_empty: bool, now: Moment) {
        self.keep_what_owners_remember(is_empty, now);
        self.forgets_confirmed();
        self.owners.table_is_another_at = Some(now);
        self.owners.was_made_anew = is_empty;
        // A backup may be of a time before that.
        if let (Some((start, _)), false) = (&mut self.starts, is_empty) {
            *start = (*start).min(self.owners.oldest_start.unwrap_or(*start));
        }
        self.owners.witnesses.clear();
        let living = self.owners.processes.values().filter(|it| it.alive_since.is_some());
        let witnesses = living.flat_map(|it| it.has_owned.iter().map(|table| (it.life, *table)));
        self.owners.witnesses.extend(witnesses);
        for owners in self.owners.tables.values_mut() {
            owners.released_at = None;
            owners.written_at = now;
        }
    }

    /// Who claims may find a table that is older than it knows, and go back behind what others have stored since.
    pub fn witness_claims(&mut self, table: usize, process: usize, nothing_is_left: bool) -> bool {
        let life = self.process(process).life;
        if self.owners.is_restoring {
            self.forgets_confirmed();
            self.owners.is_restoring = false;
        }
        if let Some((owner, remembered)) = self.owners.remembered.take()
            && owner == life
            && nothing_is_left
        {
            self.owners.witnesses.remove(&(life, table));
            self.owners.is_restoring = true;
            remembered.into_iter().for_each(|number| self.fates[number as usize].confirmed = true);
            return true;
        }
        let is_witness = self.owners.witnesses.remove(&(life, table));
        if is_witness {
            self.forgets_confirmed();
        }
        is_witness
    }

    /// The last owner stores again what it knows to have stored, if the table is empty when it claims it anew and nobody was before it.
    fn keep_what_owners_remember(&mut self, is_empty: bool, now: Moment) {
        self.owners.remembered = None;
        let is_certain = is_empty
            && self.owners.tables.len() == 1
            && self.was_well(now.saturating_sub(Duration::from_secs(60)), now, &[SharedFault::SlowTable]);
        let last = self.owners.tables.values().filter_map(|owners| owners.last.as_ref()).next();
        let remembers = |claim: &&Claim| claim.has_loaded && self.owners.processes[&claim.process].life == claim.life;
        if let Some(claim) = last.filter(|claim| is_certain && remembers(claim)) {
            let confirmed = (0..self.fates.len()).filter(|number| self.fates[*number].confirmed);
            let confirmed = confirmed.map(|number| number as ChangeNumber).collect();
            self.owners.remembered = Some((claim.life, confirmed));
        }
    }

    /// Whether writes may land, in a table that was made anew, whose senders believed it to be the one before. What they replace comes again.
    pub fn others_may_still_write(&self, now: Moment) -> bool {
        let is_late = |several: &Several| several.faults.contains(&SharedFault::LateWrites);
        let another_at = self.owners.table_is_another_at.filter(|_| self.plan.several.as_ref().is_some_and(is_late));
        another_at.is_some_and(|at| now < at + STRAYS)
    }

    /// Whether what is stored holds a change, as far as anybody can know: what a restore from a backup has lost comes again.
    pub fn is_stored(&self, number: ChangeNumber) -> bool {
        self.owners.table_is_another_at.is_none() || self.settled.holds(number)
    }

    pub fn was_made_anew(&self) -> bool {
        self.owners.was_made_anew
    }

    fn forgets_confirmed(&mut self) {
        self.fates.iter_mut().for_each(|fate| fate.confirmed = false);
        self.is_closed = false;
    }

    /// Nothing is stored any more, and nobody knows what was: who starts now starts for the first time.
    /// Whoever has waited for the lease begins with what was written since its process began.
    pub fn starts_anew(&mut self, process: usize, aws: &Aws, now: Moment) {
        self.learn(aws);
        self.owed_since = None;
        let ProcessState { start, alive_since, .. } = self.process(process).clone();
        self.begun = Some(alive_since.unwrap_or(now));
        let known = self.owners.oldest_start.into_iter().chain(self.starts.map(|(oldest, _)| oldest));
        let oldest = known.chain([start]).min().unwrap_or(start);
        self.owners.oldest_start = Some(oldest);
        // What was sent to the table before may land in this one, its start too.
        let is_certain = self.plan.tables == 1 && !self.others_may_still_write(now);
        let low = if is_certain { start } else { oldest };
        // By a clock that is ahead it may lie in the future.
        self.starts = Some((low, start.max(now)));
        // What came before is nobody's any more, whatever came last of it.
        self.last.clear();
        for (fate, change) in self.fates.iter_mut().zip(&aws.changes) {
            // A first start begins with the stream that the table has then.
            fate.optional |= !fate.is_resolved() || aws.stream_of(change).disabled.is_some();
        }
    }

    /// It is stored that the table is read no further, or not any more.
    pub fn stop_stored(&mut self, table: usize, is_stopped: bool, now: Moment) {
        let stopped_at = &mut self.owners.tables.entry(table).or_default().stopped_at;
        *stopped_at = is_stopped.then(|| stopped_at.unwrap_or(now));
    }

    /// A process goes on from what it has found stored of a table.
    pub fn has_loaded(&mut self, table: usize, process: usize) {
        self.process(process).has_owned.insert(table);
        let last = self.owners.tables.get_mut(&table).and_then(|owners| owners.last.as_mut());
        if let Some(claim) = last.filter(|claim| claim.process == process) {
            claim.has_loaded = true;
        }
    }

    /// A shard of a table is read by a process.
    pub fn reads(&mut self, table: usize, process: usize, now: Moment) {
        self.has_loaded(table, process);
        let stops = self.process(process).stops_on_loss;
        let Some(owners) = self.owners.tables.get(&table).filter(|_| stops) else { return };
        let claimed_at = owners.tenures.get(&process).map(|tenure| tenure.claimed_at);
        if let (Some(stopped_at), Some(claimed_at)) = (owners.stopped_at, claimed_at)
            && stopped_at < claimed_at
        {
            let what = format!("process {} reads table {table}, which was stopped before", letter(process));
            self.find(Sentence::ReadsOn, now, what);
        }
    }

    /// A stream's start is stored once.
    pub fn start_stored(&mut self, before: Option<&Members>, after: Option<&Members>, now: Moment) {
        let start = |members: Option<&Members>| members?.get("start").cloned();
        if let (Some(before), Some(after)) = (start(before), start(after))
            && before != after
        {
            self.find(Sentence::StartMoved, now, format!("the start of a stream was {before}, and is {after}"));
        }
    }
}

fn letter(process: usize) -> char {
    char::from(b'A' + process as u8)
}
