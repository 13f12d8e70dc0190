//! What lanes need to know of an event: its size, its barrier, and how it lets go of its page.

pub trait Cargo {
    /// Called when the event is going to be kept for long: let go of what it shares with others.
    fn settle_in(&mut self) {}

    /// About how many bytes it adds to a request.
    fn size(&self) -> usize {
        0
    }

    /// What it has to do with barriers.
    fn gate(&self) -> Gate {
        Gate::None
    }
}

/// What an event has to do with barriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    None,
    /// It waits while a barrier of this number is there that was never tried.
    Behind(u64),
    /// It is a barrier, and it waits for an earlier one of the same number.
    Barrier(u64),
}
