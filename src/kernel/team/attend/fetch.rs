//! Keys and values are asked of memory before their turn comes.
//!
//! One head's keys of a block are 2 KiB or so that lie by themselves, and so are its values. The processor looks
//! ahead only within each of them, so that a row which decodes would wait for memory once for each.

use super::look_back::Tile;
use super::number::CacheNumber;

/// Blocks between the one that has its turn and the one that is asked for.
const AHEAD: usize = 8;

impl<T: CacheNumber> Tile<'_, T> {
    /// Asks for what is read first.
    pub(super) fn fetch_first(&self) {
        (0..AHEAD).for_each(|turn| self.fetch(turn));
    }

    /// Asks for what is read some turns after this one. Turns are counted over the keys of all blocks and then over
    /// their values, in the order in which they are read.
    pub(super) fn fetch_after(&self, turn: usize) {
        self.fetch(turn + AHEAD);
    }

    fn fetch(&self, turn: usize) {
        // The tiles of neighbouring rows read the same blocks: those are in the cache already.
        if self.placed.0.len() > 1 {
            return;
        }
        let blocks = self.blocks();
        if turn < blocks.len() {
            fetch(self.block(blocks.start + turn).0);
        } else if turn < 2 * blocks.len() {
            fetch(self.block(blocks.start + turn - blocks.len()).1);
        }
    }
}

/// Asks for these numbers to be brought into the second-level cache.
#[cfg(target_arch = "x86_64")]
fn fetch<T>(numbers: &[T]) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

    let line = 64 / size_of::<T>();
    for first in numbers.iter().step_by(line) {
        // SAFETY: every processor of this kind has it, and it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(first).cast()) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn fetch<T>(_: &[T]) {}
