//! The engine thread: takes requests in, runs one iteration after another, tells what came out.
//!
//! A step that fails as a whole is run again sequence by sequence, so that only the guilty one
//! fails. The thread itself ends only when every handle is gone and every sequence is over.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use rayon::prelude::*;

use crate::types::FinishReason;

use super::gate::Gate;
use super::handle::Submission;
use super::sampler::{self, Draw};
use super::scheduler::{Grant, schedule};
use super::sequence::Sequence;
use super::{EngineConfig, EngineError, SampledToken, StepModel};

/// Logits from which on drawing is shared among threads.
const PARALLEL_LOGITS: usize = 1 << 16;

/// A model broke its word to the engine.
#[derive(Debug, thiserror::Error)]
#[error("the model returned {got} logits, expected {expected}")]
struct LogitCount {
    got: usize,
    expected: usize,
}

/// Everything the engine thread owns.
pub(super) struct Runner<M: StepModel> {
    model: Arc<M>,
    config: EngineConfig,
    inbox: Receiver<Submission<M::Adapter>>,
    gate: Arc<Gate>,
    waiting: VecDeque<Submission<M::Adapter>>,
    /// In order of arrival.
    running: Vec<Sequence<M>>,
}

impl<M: StepModel> Runner<M> {
    pub(super) fn new(
        model: Arc<M>,
        config: EngineConfig,
        inbox: Receiver<Submission<M::Adapter>>,
        gate: Arc<Gate>,
    ) -> Self {
        Self {
            model,
            config,
            inbox,
            gate,
            waiting: VecDeque::new(),
            running: Vec::new(),
        }
    }

    /// The thread's whole life. It parks when there is nothing to do; submissions, readers that
    /// made room and everything dropped unpark it. An unpark before the park is not lost.
    pub(super) fn run(mut self) {
        loop {
            let has_handles = self.receive();
            self.drop_the_gone();
            self.admit();
            let needs: Vec<_> = self.running.iter().map(Sequence::need).collect();
            let grants = schedule(&needs, self.config.max_batch_tokens);
            if !grants.is_empty() {
                self.iterate(grants);
            } else if has_handles || !self.running.is_empty() {
                std::thread::park();
            } else {
                return;
            }
        }
    }

    /// Takes in what was submitted. False once every handle is gone.
    fn receive(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(submission) => self.waiting.push_back(submission),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Frees the place and the cache of everyone who finished, failed or went away.
    fn drop_the_gone(&mut self) {
        self.waiting
            .retain(|submission| !submission.events.is_closed());
        self.running.retain(|sequence| !sequence.is_over());
        self.publish_running();
    }

    /// Gives free places to those who wait, in order of arrival.
    fn admit(&mut self) {
        while self.running.len() < self.config.max_sequences {
            let Some(submission) = self.waiting.pop_front() else {
                break;
            };
            let mut sequence = Sequence::new(submission, self.model.new_cache());
            if sequence.sampling().max_tokens == 0 {
                sequence.finish(FinishReason::Length);
            } else {
                self.running.push(sequence);
            }
        }
        self.publish_running();
    }

    fn publish_running(&self) {
        self.gate
            .publish(|stats| stats.running = self.running.len());
    }

    /// One forward pass, and what follows from it.
    fn iterate(&mut self, mut grants: Vec<Grant>) {
        self.gather_adapters(&mut grants);
        match self.step(&grants) {
            Ok(logits) => self.absorb(&grants, &logits),
            Err(error) if grants.len() == 1 => self.fail(grants[0].sequence, error),
            Err(error) => {
                tracing::warn!(%error, sequences = grants.len(), "a batch failed, retrying alone");
                for grant in grants {
                    match self.step_alone(grant) {
                        Ok(logits) => self.absorb(&[grant], &logits),
                        Err(error) => self.fail(grant.sequence, error),
                    }
                }
            }
        }
    }

    /// Orders grants so that rows of one adapter are neighbours; otherwise the order stays.
    fn gather_adapters(&self, grants: &mut [Grant]) {
        let mut seen: Vec<Option<*const M::Adapter>> = Vec::new();
        let mut ranks = vec![0; self.running.len()];
        for grant in grants.iter() {
            let adapter = self.running[grant.sequence].adapter().map(Arc::as_ptr);
            ranks[grant.sequence] = seen
                .iter()
                .position(|&other| other == adapter)
                .unwrap_or_else(|| {
                    seen.push(adapter);
                    seen.len() - 1
                });
        }
        grants.sort_by_key(|grant| ranks[grant.sequence]);
    }

    /// Runs the granted tokens. Returns the logits of the sequences that can draw, in order.
    fn step(&mut self, grants: &[Grant]) -> Result<Vec<f32>, EngineError> {
        let mut work: Vec<_> = self.running.iter_mut().map(Some).collect();
        let (mut spans, mut caches) = (Vec::new(), Vec::new());
        for grant in grants {
            let sequence = work[grant.sequence]
                .take()
                .expect("a sequence is granted once");
            let (span, cache) = sequence.span(grant.tokens);
            spans.push(span);
            caches.push(cache);
        }
        let expected = spans.iter().filter(|span| span.samples).count() * self.model.vocab_size();
        let outcome = guarded(|| {
            self.model
                .step(&spans, &mut caches)
                .map_err(EngineError::Step)
        });
        self.gate.publish(|stats| {
            stats.iterations += 1;
            stats.last_iteration = Some(Instant::now());
        });
        let logits = outcome?;
        if logits.len() != expected {
            let error = LogitCount {
                got: logits.len(),
                expected,
            };
            return Err(EngineError::Step(Arc::new(error)));
        }
        Ok(logits)
    }

    /// Runs one sequence of a failed batch again, from the cache it had before.
    fn step_alone(&mut self, grant: Grant) -> Result<Vec<f32>, EngineError> {
        let sequence = &mut self.running[grant.sequence];
        guarded(|| {
            sequence.rewind(&self.model);
            Ok(())
        })?;
        self.step(&[grant])
    }

    /// Draws a token for every sequence whose history is all cached.
    fn absorb(&mut self, grants: &[Grant], logits: &[f32]) {
        let drawing: Vec<usize> = grants
            .iter()
            .filter(|grant| self.running[grant.sequence].advance(grant.tokens))
            .map(|grant| grant.sequence)
            .collect();
        let rows = logits.chunks_exact(self.model.vocab_size());
        let draws: Vec<Draw<'_>> = drawing
            .iter()
            .zip(rows)
            .map(|(&index, logits)| {
                let sequence = &self.running[index];
                Draw {
                    logits,
                    sampling: sequence.sampling(),
                    index: sequence.generated(),
                }
            })
            .collect();
        let drawn: Vec<_> = if draws.len() > 1 && logits.len() >= PARALLEL_LOGITS {
            draws.par_iter().map(draw).collect()
        } else {
            draws.iter().map(draw).collect()
        };
        let generated = drawn.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        if generated > 0 {
            // Before the tokens are told: who has heard of one finds it counted.
            self.gate.publish(|stats| {
                stats.tokens_generated += generated;
                stats.last_token = Some(Instant::now());
            });
        }
        for (&index, outcome) in drawing.iter().zip(drawn) {
            match outcome {
                Ok(token) => self.running[index].accept(token),
                Err(error) => self.fail(index, error),
            }
        }
    }

    fn fail(&mut self, sequence: usize, error: EngineError) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a sequence failed"
        );
        self.running[sequence].fail(error);
    }
}

fn draw(draw: &Draw<'_>) -> Result<SampledToken, EngineError> {
    guarded(|| sampler::sample(draw).map_err(EngineError::Sample))
}

/// Runs foreign arithmetic; a panic in it becomes an error of the sequences it ran for.
fn guarded<T>(run: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    // Sound to go on after: caches are rewound before they are used again.
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(EngineError::Panicked(panic_message(panic.as_ref()))))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_string())
}
