//! Asks AWS for a shard that another one names as its parent and that no listing shows.
//!
//! Contract: a listing that lacks a shard proves nothing, what AWS says of the shard itself decides. It is gone when AWS has denied it
//! three times, 20 seconds apart and with a whole listing between them. If it holds records, or has ended, AWS knows it, and a listing
//! will show it, and whose child it is; after 5 minutes it is read without that. It is empty when it gave nothing but empty pages
//! for a minute, and no whole listing has shown it. Whatever else AWS answers decides nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::client::{IteratorStart, StreamsClient as _};
use super::shard_discovery::{BETWEEN_WITNESSES, DENIALS_OF_EXISTENCE};
use super::{Listings, ReaderContext, Step, Task};
use crate::aws::errors::{CallError, ErrorKind};
use crate::backoff::pause_after;
use crate::progress::buffer::Buffer;
use crate::progress::table_tracker::{PROOF_OF_EMPTINESS, ShardHandle};
use crate::records::{Page, ShardId, StreamDetails};

/// How long a shard that AWS knows may be missing in listings before it is read all the same.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Between two empty pages.
const EMPTY_PAGE_PAUSE: Duration = Duration::from_secs(2);

const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A shard that no listing has shown.
pub struct UnlistedShard {
    pub context: Arc<ReaderContext>,
    pub details: Arc<StreamDetails>,
    pub handle: ShardHandle,
    pub id: ShardId,
    pub listings: Listings,
}

/// What came of asking for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// A listing shows it.
    Listed,
    /// AWS knows it.
    Found,
    /// It holds nothing, unless a listing has just shown it.
    Empty,
    /// AWS does not know it, unless a listing has just shown it.
    Gone,
}

/// What AWS has answered so far.
struct Inquiry {
    begun: Instant,
    iterator: Option<String>,
    /// Since when it gave empty pages and nothing else.
    empty_since: Option<Instant>,
    /// How often in a row AWS has said that there is no such shard, and how often it has failed otherwise.
    denials: u32,
    failures: u32,
}

impl Inquiry {
    fn begin() -> Self {
        Self { begun: Instant::now(), iterator: None, empty_since: None, denials: 0, failures: 0 }
    }

    /// The next page is the shard's first one again.
    fn start_over(&mut self) {
        (self.iterator, self.empty_since) = (None, None);
    }
}

impl UnlistedShard {
    /// Asks until that is known.
    pub async fn ask(mut self) -> Existence {
        let mut inquiry = Inquiry::begin();
        loop {
            if self.context.progress.tracker().is_known(self.handle) {
                return Existence::Listed;
            }
            let found = match self.page(&mut inquiry.iterator).await {
                Ok(page) => self.page_arrived(page, &mut inquiry).await,
                Err(error) => self.page_failed(&error, &mut inquiry).await,
            };
            if let Some(existence) = found {
                return existence;
            }
        }
    }

    /// What a page proves, if it proves anything; else waits until the next one may be asked for.
    async fn page_arrived(&mut self, page: Page, inquiry: &mut Inquiry) -> Option<Existence> {
        (inquiry.denials, inquiry.failures) = (0, 0);
        let has_records_or_end = !page.records.is_empty() || page.next_iterator.is_none();
        if has_records_or_end && inquiry.begun.elapsed() >= PATIENCE {
            return Some(Existence::Found);
        }
        if has_records_or_end {
            // It is read from its start, once a listing has shown it.
            inquiry.start_over();
            self.wait_for_listing(BETWEEN_WITNESSES).await;
            return None;
        }
        if inquiry.empty_since.get_or_insert_with(Instant::now).elapsed() >= PROOF_OF_EMPTINESS {
            self.wait_for_listing(Duration::ZERO).await;
            return Some(Existence::Empty);
        }
        inquiry.iterator = page.next_iterator.filter(|next| !next.is_empty());
        self.pause(EMPTY_PAGE_PAUSE).await;
        None
    }

    /// What a failure proves, if it proves anything; else waits until the next page may be asked for.
    async fn page_failed(&mut self, error: &CallError, inquiry: &mut Inquiry) -> Option<Existence> {
        inquiry.start_over();
        if !is_denial(error) {
            inquiry.failures += 1;
            self.context.client.refused(error);
            self.pause(pause_after(inquiry.failures, PAUSE_MIN, PAUSE_MAX, fastrand::f64())).await;
            return None;
        }
        inquiry.denials += 1;
        if inquiry.denials >= DENIALS_OF_EXISTENCE {
            return Some(Existence::Gone);
        }
        self.wait_for_listing(BETWEEN_WITNESSES).await;
        None
    }

    async fn page(&self, iterator: &mut Option<String>) -> Result<Page, CallError> {
        let client = &self.context.client;
        self.begin(Step::Room);
        let _room = self.context.buffer.reserve(Buffer::PAGE).await;
        self.begin(Step::call());
        let iterator = match iterator.take() {
            Some(iterator) => iterator,
            None => client.get_shard_iterator(&self.details.arn, &self.id, IteratorStart::Oldest).await?,
        };
        self.begin(Step::call());
        client.get_records(&iterator, 1).await
    }

    async fn wait_for_listing(&mut self, pause: Duration) {
        self.begin(Step::Listing);
        self.listings.wait(pause).await;
    }

    async fn pause(&self, pause: Duration) {
        self.begin(Step::Until(Instant::now() + pause));
        sleep(pause).await;
    }

    fn begin(&self, step: Step) {
        self.context.activity.begin(Task::Shard(self.handle), step);
    }
}

impl Drop for UnlistedShard {
    fn drop(&mut self) {
        self.context.activity.end(Task::Shard(self.handle));
    }
}

/// Whether that says that there is no such shard. Some services find the id of one that they do not know invalid.
fn is_denial(error: &CallError) -> bool {
    error.kind == ErrorKind::NotFound || error.code == "ValidationException"
}
