//! The engine's loop: takes requests in, runs one iteration after another, tells what came out.
//!
//! A step that fails as a whole is run again sequence by sequence, so that only the guilty one
//! fails. A fault of the loop itself is the supervisor's.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use rayon::prelude::*;

use crate::types::FinishReason;

use super::faults::guarded;
use super::gate::Gate;
use super::handle::Submission;
use super::places::{Places, Plan};
use super::scheduler::Grant;
use super::sequence::Sequence;
use super::{EngineConfig, EngineError, EngineStats, SampledToken, StepModel};

/// Logits from which on drawing is shared among threads.
const PARALLEL_LOGITS: usize = 1 << 16;

/// A model broke its word to the engine.
#[derive(Debug, thiserror::Error)]
#[error("the model returned {got} logits, expected {expected}")]
struct LogitCount {
    got: usize,
    expected: usize,
}

/// Everything that the engine thread owns between two faults.
pub(super) struct Runner<M: StepModel> {
    model: Arc<M>,
    gate: Arc<Gate>,
    pool: M::Pool,
    places: Places<M::Adapter>,
    /// Of the last step: row after row.
    logits: Vec<f32>,
}

impl<M: StepModel> Runner<M> {
    /// A runner with an empty cache of so many blocks.
    pub(super) fn new(
        model: Arc<M>,
        config: &EngineConfig,
        gate: Arc<Gate>,
        blocks: usize,
    ) -> Self {
        let pool = model.new_pool(blocks);
        if config.kv_tokens.is_some() {
            model.populate(&pool);
        }
        let budget = config.budget(model.efficient_tokens());
        Self {
            pool,
            places: Places::new(config.max_sequences, budget, blocks),
            model,
            gate,
            logits: Vec::new(),
        }
    }

    /// Runs until every handle is gone and every sequence is over. Parks when there is nothing to
    /// do; submissions, readers that made room and everything dropped unpark it. An unpark before
    /// the park is not lost.
    pub(super) fn run(&mut self, inbox: &Receiver<Submission<M::Adapter>>) {
        loop {
            let has_handles = self.receive(inbox);
            let gone = self.places.take_gone();
            if !gone.is_empty() {
                // Before they give up their permits: who sees that they are gone sees their blocks free.
                self.publish(|_| ());
                drop(gone);
            }
            let plan = self.places.plan();
            let resting = matches!(plan, Plan::Rest);
            self.publish(|stats| {
                stats.last_turn = Some(Instant::now());
                stats.resting = resting;
            });
            match plan {
                Plan::Run(grants) => self.iterate(grants),
                Plan::Again => {}
                Plan::Rest if has_handles || !self.places.is_empty() => std::thread::park(),
                Plan::Rest => return,
            }
        }
    }

    /// Tells everyone inside that the engine had a fault. Whatever falls over while it is dropped
    /// is caught, each by itself.
    pub(super) fn abandon(&mut self) {
        for mut sequence in self.places.drain() {
            let _ = guarded(|| {
                sequence.fail(EngineError::Restarted);
                drop(sequence);
                Ok(())
            });
        }
    }

    /// Takes in what was submitted. False once every handle is gone.
    fn receive(&mut self, inbox: &Receiver<Submission<M::Adapter>>) -> bool {
        loop {
            let submission = match inbox.try_recv() {
                Ok(submission) => submission,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            let identity = self.model.identity(submission.request.adapter.as_ref());
            let mut sequence = Sequence::new(submission, identity, self.model.vocab_size());
            if sequence.wants_nothing() {
                sequence.finish(FinishReason::Length);
            } else {
                self.places.push(sequence);
            }
        }
    }

    /// One forward pass, and what follows from it.
    fn iterate(&mut self, mut grants: Vec<Grant>) {
        self.gather_adapters(&mut grants);
        match self.step(&grants) {
            Ok(()) => self.absorb(&grants),
            Err(error) if self.model.is_lost() => lost(&error),
            Err(error) if grants.len() == 1 => self.fail(grants[0].sequence, error),
            Err(error) => {
                tracing::warn!(%error, sequences = grants.len(), "a batch failed, retrying alone");
                for grant in grants {
                    // Nothing to undo: a step writes its own tokens' places, and nothing else.
                    match self.step(&[grant]) {
                        Ok(()) => self.absorb(&[grant]),
                        Err(error) if self.model.is_lost() => lost(&error),
                        Err(error) => self.fail(grant.sequence, error),
                    }
                }
            }
        }
    }

    /// Orders grants so that rows of one adapter are neighbours; otherwise the order stays.
    fn gather_adapters(&self, grants: &mut [Grant]) {
        let mut seen: Vec<Option<*const M::Adapter>> = Vec::new();
        let mut ranks = vec![0; self.places.running.len()];
        for grant in grants.iter() {
            let adapter = self.places.running[grant.sequence]
                .adapter()
                .map(Arc::as_ptr);
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

    /// Runs the granted tokens. Then there are the logits of the rows that can draw, in order.
    fn step(&mut self, grants: &[Grant]) -> Result<(), EngineError> {
        let running = &self.places.running;
        let spans: Vec<_> = grants
            .iter()
            .flat_map(|grant| running[grant.sequence].spans(grant))
            .collect();
        let expected = spans.iter().filter(|span| span.samples).count() * self.model.vocab_size();
        let tokens: usize = spans.iter().map(|span| span.tokens.len()).sum();
        self.gate.meters.iteration_tokens.observe(tokens as f64);
        let (model, pool, logits) = (&self.model, &mut self.pool, &mut self.logits);
        let outcome = guarded(|| model.step(&spans, pool, logits).map_err(EngineError::Step));
        self.publish(|stats| {
            stats.iterations += 1;
            stats.last_iteration = Some(Instant::now());
        });
        outcome?;
        if self.logits.len() != expected {
            let error = LogitCount {
                got: self.logits.len(),
                expected,
            };
            return Err(EngineError::Step(Arc::new(error)));
        }
        Ok(())
    }

    /// Takes note of what was computed, and draws a token for every sequence that can.
    fn absorb(&mut self, grants: &[Grant]) {
        let mut drawing = Vec::new();
        for grant in grants {
            let sequence = &mut self.places.running[grant.sequence];
            if sequence.draws_after(grant) {
                drawing.push(grant.sequence);
            }
            sequence.advance(grant, &mut self.places.blocks);
        }
        let drawn = self.draw(&drawing);
        let generated = drawn.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        if generated > 0 {
            // Before the tokens are told: who has heard of one finds it counted.
            self.gate.publish(|stats| {
                stats.tokens_generated += generated;
                stats.last_token = Some(Instant::now());
            });
        }
        for (index, outcome) in drawing.into_iter().zip(drawn) {
            match outcome {
                Ok(token) => {
                    if let Some(reason) = self.places.running[index].accept(token) {
                        self.finish(index, reason);
                    }
                }
                Err(error) => self.fail(index, error),
            }
        }
    }

    /// Draws for these sequences, whose rows' logits come in the same order.
    fn draw(&mut self, drawing: &[usize]) -> Vec<Result<SampledToken, EngineError>> {
        let logits = self.logits.as_mut_slice();
        let parallel = drawing.len() > 1 && logits.len() >= PARALLEL_LOGITS;
        let vocab_size = self.model.vocab_size();
        let mut running: Vec<_> = self.places.running.iter_mut().map(Some).collect();
        let mut rest = logits;
        let draws = drawing.iter().filter_map(|&index| {
            let sequence = running[index].take()?;
            let (own, others) =
                std::mem::take(&mut rest).split_at_mut(sequence.rows() * vocab_size);
            rest = others;
            Some((sequence, own))
        });
        let mut draws: Vec<_> = draws.collect();
        if parallel {
            draws.par_iter_mut().map(draw).collect()
        } else {
            draws.iter_mut().map(draw).collect()
        }
    }

    /// Ends a completion. Its blocks are free before that is told.
    fn finish(&mut self, sequence: usize, reason: FinishReason) {
        self.places.running[sequence].release(&mut self.places.blocks);
        self.publish(|_| ());
        self.places.running[sequence].finish(reason);
    }

    fn fail(&mut self, sequence: usize, error: EngineError) {
        self.places.running[sequence].span().in_scope(|| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "a sequence failed");
        });
        self.places.running[sequence].release(&mut self.places.blocks);
        self.publish(|_| ());
        self.places.running[sequence].fail(error);
    }

    fn publish(&mut self, change: impl FnOnce(&mut EngineStats)) {
        let news = self.places.take_news();
        self.gate.publish(|stats| {
            stats.prefix_queries_tokens += news.lookup.queried as u64;
            stats.prefix_hits_tokens += news.lookup.hit as u64;
            stats.preemptions += news.preemptions as u64;
            stats.running = self.places.running.len();
            stats.blocks_used = self.places.blocks.used();
            stats.blocks_cached = self.places.blocks.cached();
            stats.blocks_total = self.places.blocks.total();
            change(stats);
        });
    }
}

/// Ends the loop: the model computes nothing any more, and only a new pool mends it.
fn lost(error: &EngineError) -> ! {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    panic!("the device is lost ({reason})")
}

/// Draws for one sequence from the logits of its rows.
fn draw<A>(
    (sequence, logits): &mut (&mut Sequence<A>, &mut [f32]),
) -> Result<SampledToken, EngineError> {
    guarded(|| sequence.draw(logits))
}
