//! What the process says: its operational events become lines of the world's story.

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Once};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::world::World;

thread_local! {
    static WORLD: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// While it lives, what is said on this thread goes to one world.
pub struct Listening;

/// Begins to listen for a world.
pub fn listen(world: &Arc<World>) -> Listening {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Story);
        tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
    });
    WORLD.set(Some(world.clone()));
    Listening
}

impl Drop for Listening {
    fn drop(&mut self) {
        WORLD.set(None);
    }
}

struct Story;

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
    table: String,
}

impl<S: Subscriber> Layer<S> for Story {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("dynamodb_streams_adapter")
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let world = WORLD.with_borrow(Clone::clone);
        let Some(world) = world else { return };
        let mut line = Line::default();
        event.record(&mut line);
        world.tell(format!("{} {}{}", event.metadata().level(), line.message, line.fields));
        if line.message.starts_with("reading stays stopped") {
            world.look(|inner, _| inner.has_loaded(|table| line.table == format!("{table:?}")));
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "table" {
            self.table = format!("{value:?}");
        }
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("a string takes everything");
    }
}
