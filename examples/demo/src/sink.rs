//! The receiver of events: a web server that prints what arrives, and fails when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::screen::Screen;
use crate::story::Story;

/// How the sink behaves at the moment.
#[derive(Default)]
pub struct Moods {
    failing: AtomicBool,
    /// The order whose events are refused; 0 for none.
    poisoned: AtomicU64,
    newest: AtomicU64,
    requests: AtomicU64,
}

impl Moods {
    pub fn behave(&self) -> &'static str {
        self.failing.store(false, Ordering::Relaxed);
        self.poisoned.store(0, Ordering::Relaxed);
        "the sink behaves again"
    }

    pub fn fail_now_and_then(&self) -> &'static str {
        self.failing.store(true, Ordering::Relaxed);
        "the sink fails: every third request gets a 503, or no answer for a second"
    }

    pub fn poison_one_order(&self) -> &'static str {
        self.poisoned.store(self.newest.load(Ordering::Relaxed), Ordering::Relaxed);
        "the sink refuses the newest order's events; the other orders go on"
    }

    async fn trouble(&self, order: u64) -> Option<StatusCode> {
        self.newest.fetch_max(order, Ordering::Relaxed);
        if self.poisoned.load(Ordering::Relaxed) == order {
            return Some(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        if !self.failing.load(Ordering::Relaxed) || !request.is_multiple_of(3) {
            return None;
        }
        if request.is_multiple_of(2) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Some(StatusCode::SERVICE_UNAVAILABLE)
    }
}

pub async fn serve(listener: TcpListener, story: Arc<Story>, screen: Arc<Screen>, moods: Arc<Moods>) {
    let receive = move |body: Bytes| {
        let (story, screen, moods) = (story.clone(), screen.clone(), moods.clone());
        async move { receive(&body, &story, &screen, &moods).await }
    };
    let _ = axum::serve(listener, Router::new().route("/", post(receive))).await;
}

async fn receive(body: &[u8], story: &Story, screen: &Screen, moods: &Moods) -> StatusCode {
    let Some(event) = serde_json::from_slice(body).ok().as_ref().and_then(read) else { return StatusCode::BAD_REQUEST };
    if let Some(status) = moods.trouble(event.order).await {
        return status;
    }
    let first = story.arrived(event.order, event.change, event.delay);
    screen.event(&event.words(first));
    StatusCode::ACCEPTED
}

struct Event {
    order: u64,
    change: u64,
    from: Option<String>,
    to: Option<String>,
    operation: String,
    delay: Duration,
}

/// The event's data is the record as AWS Lambda would get it.
fn read(data: &Value) -> Option<Event> {
    let change = &data["dynamodb"];
    let number = |image: &str, name: &str| change[image][name]["N"].as_str()?.parse::<u64>().ok();
    let state = |image: &str| change[image]["state"]["S"].as_str().map(str::to_owned);
    let written = number("NewImage", "writtenAt").map(Duration::from_millis);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Event {
        order: change["Keys"]["orderId"]["S"].as_str()?.parse().ok()?,
        change: number("NewImage", "change").or_else(|| Some(number("OldImage", "change")? + 1))?,
        from: state("OldImage"),
        to: state("NewImage"),
        operation: data["eventName"].as_str()?.to_owned(),
        delay: written.map_or(Duration::ZERO, |written| now.saturating_sub(written)),
    })
}

impl Event {
    fn words(&self, first: bool) -> String {
        let story = match (&self.from, &self.to) {
            (None, Some(to)) => format!("new: {to}"),
            (Some(from), Some(to)) => format!("{from} -> {to}"),
            (Some(from), None) => format!("{from} -> cancelled"),
            (None, None) => "?".to_owned(),
        };
        let again = if first { "" } else { "   (again, recognised by its id)" };
        let delay = match self.to {
            Some(_) => format!("{:.1} s after the write", self.delay.as_secs_f64()),
            None => String::new(),
        };
        format!("  order {}   {story:<22} {:<7} {delay}{again}", self.order, self.operation)
    }
}
