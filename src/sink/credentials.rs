//! The files that a sink's connections and requests are made with: read at the start, and again when they change.
//!
//! Contract:
//! - They are looked at when an attempt begins, at most once a second, outside the asynchronous threads. After a 401 they
//!   are looked at once more.
//! - What was good is used until there is something better: a file that breaks or disappears is said and changes nothing.
//! - New roots or a new client certificate make a new pool of connections. Attempts under way keep theirs to their end.
//! - No content of a file is ever told, in no message and no log.

mod headers;
mod parts;
mod said;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ::http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use self::parts::Parts;
use super::http::client::Client;
use super::http::{SinkSetupError, Tuning};
use super::settings::HttpSinkSettings;

/// How long an attempt waits for files at most; then it goes on with what was known before.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an attempt is made with.
#[derive(Debug, Clone)]
pub(super) struct Current {
    /// The connections.
    pub(super) client: Client,
    /// Headers for every request.
    pub(super) headers: HeaderMap,
    /// Whether the header `Authorization` is the token of the file.
    pub(super) has_token: bool,
    /// Why no attempt can be made.
    pub(super) missing: Option<String>,
}

/// The files of one sink.
#[derive(Debug)]
pub(super) struct Files {
    inner: Arc<Inner>,
    next_look: Mutex<Instant>,
    recheck: Duration,
}

#[derive(Debug)]
struct Inner {
    /// Locked while files are read, and never by an asynchronous thread.
    parts: Mutex<Parts>,
    current: RwLock<Arc<Current>>,
}

impl Files {
    /// Reads everything for the first time.
    pub(super) fn read(settings: HttpSinkSettings, tuning: Tuning) -> Result<Self, SinkSetupError> {
        let recheck = tuning.recheck;
        let (parts, current) = Parts::read(settings, tuning)?;
        let inner = Arc::new(Inner { parts: Mutex::new(parts), current: RwLock::new(Arc::new(current)) });
        Ok(Self { inner, next_look: Mutex::new(Instant::now() + recheck), recheck })
    }

    /// What an attempt is to be made with that begins now.
    pub(super) async fn current(&self, deadline: Instant) -> Arc<Current> {
        if self.is_due() {
            self.look(deadline, |inner| {
                // Whoever is still reading does it for all.
                if let Ok(mut parts) = inner.parts.try_lock() {
                    inner.look(&mut parts);
                }
            })
            .await;
        }
        self.inner.current()
    }

    /// The same after a refusal: everything is looked at, however recently that was done.
    pub(super) async fn read_again(&self, deadline: Instant) -> Arc<Current> {
        self.look(deadline, |inner| {
            let mut parts = inner.parts.lock().unwrap_or_else(PoisonError::into_inner);
            inner.look(&mut parts);
        })
        .await;
        self.inner.current()
    }

    /// What was found at the last look.
    pub(super) fn newest(&self) -> Arc<Current> {
        self.inner.current()
    }

    /// What is wrong with files that are not needed.
    pub(super) fn unused(&self) -> Vec<String> {
        self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner).survivable_problems()
    }

    fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut next = self.next_look.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = *next <= now;
        if is_due {
            *next = now + self.recheck;
        }
        is_due
    }

    /// A file system that does not answer keeps a thread, but no attempt.
    async fn look(&self, deadline: Instant, look: impl FnOnce(&Inner) + Send + 'static) {
        let inner = self.inner.clone();
        let looked = tokio::task::spawn_blocking(move || look(&inner));
        drop(timeout_at(deadline.min(Instant::now() + PATIENCE), looked).await);
    }
}

impl Inner {
    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self, parts: &mut Parts) {
        if let Some(newer) = parts.look(&self.current()) {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
        }
    }
}
