//! Who holds which block of the cache, and what the blocks that nobody holds still contain.
//!
//! Invariant: every block is free, or kept under a key with nobody holding it, or held by one or
//! more tables. A block has a key only once all its tokens are computed, and is never written
//! after that.

use std::collections::{BTreeMap, HashMap};

use crate::model::BlockId;

use super::chain::ChainKey;

/// The blocks of one pool.
#[derive(Debug)]
pub(super) struct Blocks {
    all: Vec<Block>,
    /// Last in, first out: what was used last is in the processor's caches.
    free: Vec<BlockId>,
    by_key: HashMap<ChainKey, BlockId>,
    /// Kept blocks by when they were let go, the longest ago first.
    kept: BTreeMap<u64, BlockId>,
    held: usize,
    clock: u64,
}

#[derive(Debug, Clone, Default)]
struct Block {
    holders: usize,
    key: Option<ChainKey>,
    /// Its place in `kept` while nobody holds it.
    let_go: u64,
}

/// What a key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: the block would have to be computed.
    Nothing,
    /// A block that nobody holds: to hold it takes it from what is available.
    Kept,
    /// A block that some table holds already.
    Held,
}

impl Blocks {
    pub(super) fn new(total: usize) -> Self {
        Self {
            all: vec![Block::default(); total],
            free: (0..total as BlockId).rev().collect(),
            by_key: HashMap::new(),
            kept: BTreeMap::new(),
            held: 0,
            clock: 0,
        }
    }

    pub(super) fn total(&self) -> usize {
        self.all.len()
    }

    /// Blocks that some table holds.
    pub(super) fn used(&self) -> usize {
        self.held
    }

    /// Blocks that nobody holds, but that have content.
    pub(super) fn cached(&self) -> usize {
        self.kept.len()
    }

    /// Blocks that can be taken.
    pub(super) fn available(&self) -> usize {
        self.free.len() + self.kept.len()
    }

    /// A block to write to: a free one, else the one that was let go longest ago.
    pub(super) fn take(&mut self) -> Option<BlockId> {
        let id = self.free.pop().or_else(|| self.evict())?;
        self.all[id as usize].holders = 1;
        self.held += 1;
        Some(id)
    }

    fn evict(&mut self) -> Option<BlockId> {
        let (_, id) = self.kept.pop_first()?;
        if let Some(key) = self.all[id as usize].key.take() {
            self.by_key.remove(&key);
        }
        Some(id)
    }

    /// What lies under a key.
    pub(super) fn look(&self, key: &ChainKey) -> Found {
        match self.by_key.get(key) {
            None => Found::Nothing,
            Some(&id) if self.all[id as usize].holders == 0 => Found::Kept,
            Some(_) => Found::Held,
        }
    }

    /// Holds the block under a key, if there is one.
    pub(super) fn share(&mut self, key: &ChainKey) -> Option<BlockId> {
        let id = *self.by_key.get(key)?;
        let block = &mut self.all[id as usize];
        if block.holders == 0 {
            self.kept.remove(&block.let_go);
            self.held += 1;
        }
        block.holders += 1;
        Some(id)
    }

    /// Makes the content of a block known, now that it is complete. Where another block has the
    /// same content, this one stays its holder's own.
    pub(super) fn publish(&mut self, id: BlockId, key: ChainKey) {
        let block = &mut self.all[id as usize];
        if block.key.is_none() && !self.by_key.contains_key(&key) {
            block.key = Some(key);
            self.by_key.insert(key, id);
        }
    }

    /// Lets go of a table's blocks, the last first: the start of a prompt is asked for more often
    /// than what follows it.
    pub(super) fn release(&mut self, table: &mut Vec<BlockId>) {
        while let Some(id) = table.pop() {
            let block = &mut self.all[id as usize];
            block.holders -= 1;
            if block.holders > 0 {
                continue;
            }
            self.held -= 1;
            if block.key.is_some() {
                self.clock += 1;
                block.let_go = self.clock;
                self.kept.insert(self.clock, id);
            } else {
                self.free.push(id);
            }
        }
    }

    /// Whether one table alone holds a block without a key: only then may it be written.
    pub(super) fn is_writable(&self, id: BlockId) -> bool {
        let block = &self.all[id as usize];
        block.holders == 1 && block.key.is_none()
    }

    /// Whether free, kept and held blocks are all the blocks there are.
    pub(super) fn are_conserved(&self) -> bool {
        self.free.len() + self.kept.len() + self.held == self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u64) -> ChainKey {
        ChainKey::root(number, 0)
    }

    #[test]
    fn the_block_let_go_longest_ago_goes_first() {
        let mut blocks = Blocks::new(3);
        for number in 0..3 {
            let id = blocks.take().unwrap();
            blocks.publish(id, key(number));
            blocks.release(&mut vec![id]);
        }
        // Used again: now the youngest.
        let id = blocks.share(&key(0)).unwrap();
        blocks.release(&mut vec![id]);
        assert_eq!((blocks.cached(), blocks.available()), (3, 3));
        let mut table = vec![blocks.take().unwrap(), blocks.take().unwrap()];
        assert_eq!(blocks.look(&key(0)), Found::Kept);
        assert_eq!(blocks.look(&key(1)), Found::Nothing);
        assert_eq!(blocks.look(&key(2)), Found::Nothing);
        blocks.release(&mut table);
        assert_eq!(blocks.used(), 0);
    }

    #[test]
    fn a_shared_block_is_let_go_by_its_last_holder() {
        let mut blocks = Blocks::new(2);
        let id = blocks.take().unwrap();
        assert!(blocks.is_writable(id));
        blocks.publish(id, key(7));
        assert!(!blocks.is_writable(id), "others may read it from now on");
        assert_eq!(blocks.share(&key(7)), Some(id));
        blocks.release(&mut vec![id]);
        assert_eq!(blocks.look(&key(7)), Found::Held);
        blocks.release(&mut vec![id]);
        assert_eq!(blocks.look(&key(7)), Found::Kept);
    }

    #[test]
    fn equal_content_has_one_block_under_its_key() {
        let mut blocks = Blocks::new(2);
        let (first, second) = (blocks.take().unwrap(), blocks.take().unwrap());
        blocks.publish(first, key(1));
        blocks.publish(second, key(1));
        blocks.release(&mut vec![first, second]);
        assert_eq!((blocks.cached(), blocks.available()), (1, 2));
        assert_eq!(blocks.share(&key(1)), Some(first));
    }

    proptest! {
        #[test]
        fn blocks_are_conserved(steps in prop::collection::vec((0u8..4, 0u64..6), 0..300)) {
            let mut blocks = Blocks::new(5);
            let mut tables: Vec<Vec<BlockId>> = vec![Vec::new(); 3];
            for (step, number) in steps {
                let table = &mut tables[number as usize % 3];
                match step {
                    0 => table.extend(blocks.take()),
                    1 => table.extend(blocks.share(&key(number))),
                    2 => {
                        if let Some(&id) = table.last() {
                            blocks.publish(id, key(number));
                        }
                    }
                    _ => blocks.release(table),
                }
                prop_assert!(blocks.are_conserved());
                let mut distinct: Vec<_> = tables.iter().flatten().copied().collect();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), blocks.used());
                prop_assert_eq!(blocks.used() + blocks.available(), blocks.total());
            }
            for table in &mut tables {
                blocks.release(table);
            }
            prop_assert_eq!((blocks.used(), blocks.available()), (0, 5));
        }
    }
}
