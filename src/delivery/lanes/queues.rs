//! Whose turn it is: what waits for its first try, for another one, for the dead-letter sink, or for the end of a pause.

use std::cmp::Reverse;

use tokio::time::Instant;

use super::lane::State;
use super::{Cargo, Class, Classes, Departure, LaneKey, Lanes};

impl<T: Cargo> Lanes<T> {
    pub(super) fn queue_fresh(&mut self, key: LaneKey, since: Instant) {
        if let Some(lane) = self.lanes.get(&key) {
            self.fresh_load += lane.load;
            self.fresh.push_back((key, since));
        }
    }

    pub(super) fn pop_fresh(&mut self) -> Option<(LaneKey, Instant)> {
        let (key, since) = self.fresh.pop_front()?;
        if let Some(lane) = self.lanes.get(&key) {
            self.fresh_load -= lane.load;
        }
        Some((key, since))
    }

    /// Takes on board what may leave together: the first lane's event, and of fresh lanes as much as there is room for.
    pub(super) fn load(
        &mut self,
        class: Class,
        first: (LaneKey, Instant),
        now: Instant,
        take: &mut impl FnMut(&T) -> bool,
    ) -> Option<Departure> {
        let mut room = if class == Class::Fresh { self.limits.events } else { 1 };
        let mut departure: Option<Departure> = None;
        let mut next = Some(first);
        while let Some((key, since)) = next {
            let lane = self.lanes.get_mut(&key)?;
            let Some(passengers) = lane.board(key, room, now, take) else {
                self.fresh_load += lane.load;
                self.fresh.push_front((key, since));
                break;
            };
            room -= passengers.events;
            let goes_on = class == Class::Fresh && room > 0 && passengers.events == lane.load.events;
            match &mut departure {
                None => departure = Some(Departure { class, first: passengers, more: Vec::new() }),
                Some(departure) => departure.more.push(passengers),
            }
            next = if goes_on { self.pop_fresh() } else { None };
        }
        departure
    }

    /// What has failed goes first: it has waited longer, and there are never more than half of the places for it. The only
    /// place cannot be halved: there they take turns.
    pub(super) fn next_lane(&mut self, allowed: Classes, now: Instant) -> Option<(Class, LaneKey, Instant)> {
        let fresh = allowed.fresh && self.fresh_leave_at().is_some_and(|leave| leave <= now);
        let gives_way = fresh && self.fresh_next && self.limits.concurrency == 1;
        let class = if gives_way { None } else { self.next_failed(allowed) };
        let class = class.or(fresh.then_some(Class::Fresh))?;
        self.fresh_next = class != Class::Fresh;
        match class {
            Class::Letter => Some((class, self.letters.pop_front()?, now)),
            Class::Repeat => Some((class, self.due.pop_front()?, now)),
            Class::Fresh => self.pop_fresh().map(|(key, since)| (class, key, since)),
        }
    }

    pub(super) fn next_failed(&mut self, allowed: Classes) -> Option<Class> {
        let letters = allowed.letters && !self.letters.is_empty() && self.has_place_for(Class::Letter);
        let repeats = allowed.repeats && !self.due.is_empty() && self.has_place_for(Class::Repeat);
        let class = match (letters, repeats) {
            (false, false) => return None,
            (true, false) => Class::Letter,
            (false, true) => Class::Repeat,
            (true, true) if self.letter_next => Class::Letter,
            (true, true) => Class::Repeat,
        };
        self.letter_next = class == Class::Repeat;
        Some(class)
    }

    pub(super) fn has_place_for(&self, class: Class) -> bool {
        let half = (self.limits.concurrency / 2).max(1);
        let quarter = (self.limits.concurrency / 4).max(1);
        self.repeats_under_way < half && (class != Class::Letter || self.letters_under_way < quarter)
    }

    /// When fresh events leave: at once if they fill a request, else when the oldest has waited long enough.
    pub(super) fn fresh_leave_at(&self) -> Option<Instant> {
        let (_, since) = self.fresh.front()?;
        let full = self.fresh_load.events >= self.limits.events || self.fresh_load.bytes >= self.limits.bytes;
        Some(if full { *since } else { *since + self.limits.wait })
    }

    pub(super) fn end_pauses(&mut self, now: Instant) {
        while let Some(Reverse((end, key))) = self.pausing.peek().copied() {
            if end > now {
                return;
            }
            self.pausing.pop();
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.state = State::Queued;
                if lane.diverted { self.letters.push_back(key) } else { self.due.push_back(key) }
            }
        }
    }
}
