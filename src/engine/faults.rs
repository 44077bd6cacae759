//! What happens when something panics: in a step, an error of its sequences; in the loop itself, a
//! new loop.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::handle::Submission;
use super::runner::Runner;
use super::{EngineConfig, EngineError, StepModel};

/// A loop that lived as long as this has recovered from what came before.
const RECOVERED: Duration = Duration::from_secs(30);
/// Waits between one fault and the next start; doubles from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

/// Runs foreign code; a panic in it becomes an error of the sequences it ran for.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    // Sound to go on after: what the code may have left half done belongs to its own sequences.
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(EngineError::Panicked(panic_message(panic.as_ref()))))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_string())
}

/// The engine thread: one loop after another, each with a cache of its own, until the last one
/// ends by itself.
pub(super) struct Supervisor<M: StepModel> {
    pub(super) model: Arc<M>,
    pub(super) config: EngineConfig,
    pub(super) blocks: usize,
    pub(super) inbox: Receiver<Submission<M::Adapter>>,
    pub(super) gate: Arc<Gate>,
    /// Whether a loop runs; false from a fault until the next loop is ready.
    pub(super) alive: Arc<AtomicBool>,
}

impl<M: StepModel> Supervisor<M> {
    /// The thread's whole life.
    pub(super) fn supervise(self) {
        let mut backoff = BACKOFF.0;
        loop {
            let started = Instant::now();
            let Err(fault) = self.run_once() else {
                return;
            };
            self.gate.publish(|stats| {
                stats.restarts += 1;
                (stats.running, stats.blocks_used, stats.blocks_cached) = (0, 0, 0);
            });
            if started.elapsed() > RECOVERED {
                backoff = BACKOFF.0;
            }
            tracing::error!(%fault, ?backoff, "the engine's loop had a fault and is built anew");
            std::thread::sleep(backoff);
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Builds a loop and runs it to its end, or to its fault: then everyone inside is told.
    fn run_once(&self) -> Result<(), EngineError> {
        let built = guarded(|| {
            let (model, config) = (Arc::clone(&self.model), self.config.clone());
            Ok(Runner::new(
                model,
                &config,
                Arc::clone(&self.gate),
                self.blocks,
            ))
        });
        self.alive.store(built.is_ok(), Ordering::Release);
        let mut runner = built?;
        let outcome = guarded(|| {
            runner.run(&self.inbox);
            Ok(())
        });
        if outcome.is_err() {
            self.alive.store(false, Ordering::Release);
            runner.abandon();
        }
        outcome.and(guarded(|| {
            drop(runner);
            Ok(())
        }))
    }
}
