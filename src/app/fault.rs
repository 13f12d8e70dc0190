//! A task ended although nobody asked it to.

use std::io;

use tokio::task::JoinError;

use crate::delivery::dispatcher::DispatcherFault;

/// A task ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Events are not delivered any more.
    #[error("the dispatcher has ended: {0}")]
    Dispatcher(#[source] DispatcherFault),
    /// Probes are not answered any more.
    #[error("probes and metrics are not served any more: {0}")]
    Admin(#[source] io::Error),
    /// Any other end.
    #[error("the task {0} has ended unexpectedly")]
    Ended(&'static str),
    /// It panicked, where a panic does not end the process at once.
    #[error("the task {0} has failed: {1}")]
    Failed(&'static str, #[source] JoinError),
}

impl Fault {
    /// Of a task that never ends by itself.
    pub(super) fn unasked(task: &'static str, ended: Result<(), JoinError>) -> Self {
        match ended {
            Ok(()) => Self::Ended(task),
            Err(failed) => Self::Failed(task, failed),
        }
    }
}
