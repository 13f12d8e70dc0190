//! One seed of several processes that share a table of positions, from the beginning of its world to the judge's last word.
//!
//! Each process has a thread, and each of its lives a runtime of its own; they take turns (`turns.rs`).

use std::sync::Arc;
use std::time::Duration;

use crate::life::{Run, Term, end_of, live};
use crate::plan::several::Span;
use crate::plan::{End, Plan, Settings};
use crate::sabotage::Sabotage;
use crate::said;
use crate::world::World;

/// Leaves the others their turns, also if its thread panics.
struct Turn(Arc<World>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.leave();
    }
}

pub fn run_several(plan: Plan, sabotage: Sabotage) -> Run {
    let several = plan.several.as_ref().expect("a plan of several processes");
    let processes = several.processes.clone();
    let first: Vec<_> = processes.iter().map(|spans| spans.first().map(|span| span.up)).collect();
    let worlds = World::of_several(plan.clone(), first);
    std::thread::scope(|scope| {
        for (world, spans) in worlds.iter().zip(&processes).filter(|(_, spans)| !spans.is_empty()) {
            scope.spawn(|| {
                let _turn = Turn(world.clone());
                process(world, sabotage, spans, &plan);
            });
        }
    });
    close(&worlds[0], sabotage, &plan);
    end_of(&worlds[0])
}

/// The lives of one process.
fn process(world: &Arc<World>, sabotage: Sabotage, spans: &[Span], plan: &Plan) {
    let _listening = said::listen(world);
    let mut up = spans[0].up;
    for (number, span) in spans.iter().enumerate() {
        world.away(up, up);
        let mut settings = plan.settings.clone();
        settings.skew = span.skew;
        settings.stop_on_loss &= up < plan.healed;
        let term = Term { at: span.down.max(up), edge: span.edge, end: span.end };
        let ended = live(world, sabotage, &settings, term);
        if world.look(|inner, _| inner.is_exhausted()) {
            return;
        }
        let Some(next) = spans.get(number + 1) else { return };
        // A process that is killed early is restarted as soon. Who lets it read on after a loss does so when all is well.
        let reads_on = plan.settings.stop_on_loss && next.up >= plan.healed;
        let is_early = span.edge.is_some() && !reads_on;
        up = if is_early { ended + (next.up - span.down) } else { ended.max(next.up) };
    }
}

/// Everything that is owed has come, and one more start brings nothing.
fn close(world: &Arc<World>, sabotage: Sabotage, plan: &Plan) {
    let _turn = Turn(world.clone());
    let _listening = said::listen(world);
    let last = world.latest();
    world.away(last, last);
    if world.look(|inner, _| inner.is_exhausted()) {
        return;
    }
    world.look(|inner, now| inner.judge.close(&inner.aws, now));
    world.away(last, last + Duration::from_secs(2));
    let listing = world.look(|inner, _| inner.pages_to_list()).div_ceil(4);
    let at = last + 2 * plan.several.as_ref().map_or(Duration::ZERO, |several| several.lease);
    let at = at + Duration::from_secs(60 + listing as u64);
    let settings = Settings { stop_on_loss: false, ..plan.settings.clone() };
    live(world, sabotage, &settings, Term { at, edge: None, end: End::Stopped });
}
