//! File descriptors that are kept back for what has to work when the process has no others left: probes, stored positions.
//!
//! Contract: one that is given up can be used at once. It is taken back when there is room.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::{Errno, dup};

/// So many descriptors, for one purpose.
#[derive(Debug)]
pub struct SpareFiles {
    count: usize,
    held: Mutex<Vec<OwnedFd>>,
}

impl SpareFiles {
    /// Takes them, as far as there is room.
    pub fn new(count: usize) -> Self {
        let spare = Self { count, held: Mutex::default() };
        spare.refill();
        spare
    }

    /// Opens something, with a descriptor that was kept back if there is no other.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        self.refill();
        match open() {
            Err(error) if self.give_up_for(&error) => open(),
            opened => opened,
        }
    }

    /// Gives one up, if this error says that there are no more; whether it did.
    pub fn give_up_for(&self, error: &io::Error) -> bool {
        let is_shortage = Errno::from_io_error(error) == Some(Errno::MFILE);
        is_shortage && self.held().pop().is_some()
    }

    /// Takes back what was given up, as far as there is room.
    pub fn refill(&self) {
        let mut held = self.held();
        while held.len() < self.count {
            let Ok(one) = dup(io::stderr()) else { return };
            held.push(one);
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
