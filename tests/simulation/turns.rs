//! Whose turn it is, where several processes live in one world.
//!
//! Contract: each process runs on a thread and in a virtual time of its own, and one thread runs at a time. Whoever wants to look at the world
//! waits until no other process can still look at it earlier. So the world sees all that is done to it in the order of its
//! moments, and a seed says the same twice.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::plan::Moment;

pub struct Turns {
    state: Mutex<State>,
    passed_on: Condvar,
}

struct State {
    /// When each process looks at the world next, or earlier; none: it has left.
    due: Vec<Option<Moment>>,
    running: Option<usize>,
}

impl State {
    /// Who is first; of those that are at the same time `process`.
    fn first(&self, process: usize) -> Option<usize> {
        let due = self.due.iter().enumerate().filter_map(|(number, due)| Some((number, (*due)?)));
        due.min_by_key(|(number, due)| (*due, *number != process, *number)).map(|(number, _)| number)
    }
}

impl Turns {
    /// Of processes that look at the world at these moments first; none: never.
    pub fn new(first: Vec<Option<Moment>>) -> Self {
        let mut state = State { due: first, running: None };
        state.running = state.first(0);
        Self { state: Mutex::new(state), passed_on: Condvar::new() }
    }

    /// Waits until it is the process's turn to look at the world at this moment.
    pub fn take(&self, process: usize, now: Moment) {
        let mut state = self.state();
        state.due[process] = Some(now);
        if state.running == Some(process) || state.running.is_none() {
            state.running = state.first(process);
            if state.running == Some(process) {
                return;
            }
            self.passed_on.notify_all();
        }
        while state.running != Some(process) {
            state = self.passed_on.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The process does not look at the world any more.
    pub fn leave(&self, process: usize) {
        let mut state = self.state();
        state.due[process] = None;
        if state.running == Some(process) {
            state.running = state.first(process);
            self.passed_on.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
