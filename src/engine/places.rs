//! Who runs, who waits, and who holds which blocks; what each may do next.
//!
//! Knows nothing of the model: what is computed in the blocks is the runner's business.

use std::collections::HashSet;

use super::blocks::Blocks;
use super::scheduler::{Budget, Grant, Need, schedule};
use super::sequence::{Lookup, Sequence};
use super::waiting::Waiting;

/// Every sequence inside the engine.
///
/// Invariant: only the running hold blocks.
pub(super) struct Places<A> {
    pub(super) blocks: Blocks,
    /// In order of age.
    pub(super) running: Vec<Sequence<A>>,
    waiting: Waiting<Sequence<A>>,
    max_sequences: usize,
    budget: Budget,
    /// Sequences admitted so far.
    admitted: u64,
    news: News,
}

/// What happened since somebody last asked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct News {
    pub(super) lookup: Lookup,
    /// Sequences that gave their blocks up.
    pub(super) preemptions: usize,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Plan {
    /// Run these.
    Run(Vec<Grant>),
    /// Look again: blocks have come free.
    Again,
    /// Nothing, before somebody comes, goes, or makes room.
    Rest,
}

impl<A> Places<A> {
    pub(super) fn new(max_sequences: usize, budget: Budget, blocks: usize) -> Self {
        Self {
            blocks: Blocks::new(blocks),
            running: Vec::new(),
            waiting: Waiting::default(),
            max_sequences,
            budget,
            admitted: 0,
            news: News::default(),
        }
    }

    pub(super) fn push(&mut self, sequence: Sequence<A>) {
        self.waiting.push(sequence.caller(), sequence);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Takes everybody out, blocks and all.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Sequence<A>> {
        let running = std::mem::take(&mut self.running);
        running.into_iter().chain(self.waiting.drain())
    }

    /// What happened since the last call.
    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Takes out everyone who finished, failed or went away. Their blocks are free already.
    pub(super) fn take_gone(&mut self) -> Vec<Sequence<A>> {
        self.waiting.retain(|sequence| !sequence.is_over());
        let mut gone: Vec<_> = self.running.extract_if(.., |it| it.is_over()).collect();
        for sequence in &mut gone {
            sequence.release(&mut self.blocks);
        }
        gone
    }

    /// Decides the next iteration: who comes in, who runs, who has to give way.
    pub(super) fn plan(&mut self) -> Plan {
        self.admit();
        let mut grants = self.schedule();
        let preempted = self.reserve(&mut grants);
        if !grants.is_empty() {
            Plan::Run(grants)
        } else if preempted {
            Plan::Again
        } else {
            self.check_idle();
            Plan::Rest
        }
    }

    /// Gives free places to those who wait, as long as there are blocks for all that they and the
    /// running have to compute, and one more for each row to go on.
    fn admit(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let blocks = &self.blocks;
        let mut rows: usize = self.running.iter().map(Sequence::rows).sum();
        let promised = self.running.iter_mut();
        let mut promised: usize = promised
            .map(|it| it.blocks_missing(blocks) + it.rows())
            .sum();
        while let Some(next) = self.waiting.peek(Sequence::has_room) {
            let missing = next.blocks_missing(&self.blocks);
            let fits = rows + next.rows() <= self.max_sequences
                && promised + missing <= self.blocks.available();
            // Alone everybody fits: that was checked when it was submitted.
            if !fits && !self.running.is_empty() {
                break;
            }
            let Some(mut sequence) = self.waiting.pop(Sequence::has_room) else {
                break;
            };
            rows += sequence.rows();
            self.news.lookup.queried += sequence.start(self.admitted);
            self.admitted += 1;
            self.news.lookup.hit += sequence.adopt(&mut self.blocks);
            promised += sequence.blocks_missing(&self.blocks) + sequence.rows();
            let place = self
                .running
                .partition_point(|other| other.age() < sequence.age());
            self.running.insert(place, sequence);
        }
    }

    /// What everybody may do, as far as tokens go.
    fn schedule(&mut self) -> Vec<Grant> {
        let mut claimed = HashSet::new();
        let mut needs: Vec<Need> = Vec::with_capacity(self.running.len());
        for sequence in &mut self.running {
            // Others may have computed it in the meantime.
            self.news.lookup.hit += sequence.adopt(&mut self.blocks);
            needs.push(sequence.need(&mut claimed));
        }
        schedule(&needs, self.budget)
    }

    /// Finds blocks for what was granted, the oldest first. Where there are none, somebody gives
    /// theirs up: the youngest whose reader is behind, else the youngest. True if anybody did.
    fn reserve(&mut self, grants: &mut Vec<Grant>) -> bool {
        let mut preempted = vec![false; self.running.len()];
        let mut order: Vec<Grant> = grants.clone();
        order.sort_unstable_by_key(|grant| grant.sequence);
        for grant in order {
            while !preempted[grant.sequence]
                && !self.running[grant.sequence].reserve(&grant, &mut self.blocks)
            {
                let held = (0..self.running.len()).rev().filter(|&it| !preempted[it]);
                let paused = held.clone().find(|&it| !self.running[it].has_room());
                let Some(victim) = paused.or_else(|| held.clone().next()) else {
                    break;
                };
                preempted[victim] = true;
                self.running[victim].preempt(&mut self.blocks);
            }
        }
        if !preempted.contains(&true) {
            return false;
        }
        self.put_back(&preempted, grants);
        true
    }

    /// Makes those who gave their blocks up wait again, and renumbers the grants of the others.
    fn put_back(&mut self, preempted: &[bool], grants: &mut Vec<Grant>) {
        grants.retain(|grant| !preempted[grant.sequence]);
        for grant in grants.iter_mut() {
            let before = preempted[..grant.sequence].iter();
            grant.sequence -= before.filter(|gone| **gone).count();
        }
        let mut stay = Vec::with_capacity(self.running.len());
        for (sequence, gone) in self.running.drain(..).zip(preempted) {
            match sequence.age() {
                Some(age) if *gone => self.waiting.put_back(age, sequence),
                _ => stay.push(sequence),
            }
        }
        self.running = stay;
        self.news.preemptions += preempted.iter().filter(|gone| **gone).count();
    }

    /// When nothing runs, nobody may hold a block.
    fn check_idle(&self) {
        let used = self.blocks.used();
        let sound = self.blocks.are_conserved() && (used == 0 || !self.running.is_empty());
        debug_assert!(sound, "{used} blocks are held by nobody");
        if !sound {
            tracing::error!(used, "blocks of the cache have leaked");
        }
    }
}
