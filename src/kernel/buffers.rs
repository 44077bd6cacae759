//! Buffers that passes with a way back work in, kept from one pass to the next.
//!
//! A fresh buffer costs more than the arithmetic of a narrow layer: the system clears its pages, and
//! the allocator clears it again.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Idle buffers; they live as long as whoever holds the pool.
#[derive(Default)]
pub struct BufferPool {
    idle: Mutex<Vec<Vec<f32>>>,
}

/// Numbers below which a buffer may be much longer than what is asked for.
const SMALL: usize = 1 << 14;

impl BufferPool {
    /// A buffer of `len` numbers, whose contents are unspecified. It comes back when it is dropped.
    pub(super) fn lend(self: &Arc<Self>, len: usize) -> Buffer {
        Buffer {
            numbers: self.take(len),
            len,
            home: Arc::clone(self),
        }
    }

    /// The shortest idle buffer that is long enough, unless it is too long to be wasted.
    fn take(&self, len: usize) -> Vec<f32> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let most = (2 * len).max(SMALL);
        let fits = |buffer: &Vec<f32>| (len..=most).contains(&buffer.len());
        let best = (0..idle.len())
            .filter(|index| fits(&idle[*index]))
            .min_by_key(|index| idle[*index].len());
        if let Some(index) = best {
            return idle.swap_remove(index);
        }
        // Instead of the one that comes closest, so that batches of many sizes do not pile up.
        let nearest = (0..idle.len())
            .filter(|index| idle[*index].len() < len)
            .max_by_key(|index| idle[*index].len());
        if let Some(index) = nearest {
            idle.swap_remove(index);
        }
        drop(idle);
        vec![0.0; len]
    }
}

/// Numbers on loan.
pub(super) struct Buffer {
    /// At least `len` of them.
    numbers: Vec<f32>,
    len: usize,
    home: Arc<BufferPool>,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.numbers);
        let mut idle = self
            .home
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle.push(numbers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(pool: &BufferPool) -> Vec<usize> {
        let mut lengths: Vec<usize> = pool.idle.lock().unwrap().iter().map(Vec::len).collect();
        lengths.sort_unstable();
        lengths
    }

    #[test]
    fn a_buffer_that_came_back_is_lent_again() {
        let pool = Arc::new(BufferPool::default());
        let first = pool.lend(50_000);
        let place = first.as_ptr();
        drop(first);
        let again = pool.lend(49_000);
        assert_eq!((again.as_ptr(), again.len()), (place, 49_000));
        assert_eq!(idle(&pool), [0; 0]);
        drop(again);
        assert_eq!(idle(&pool), [50_000]);
    }

    #[test]
    fn a_long_buffer_is_not_wasted_on_a_short_one() {
        let pool = Arc::new(BufferPool::default());
        drop(pool.lend(500_000));
        drop(pool.lend(100_000));
        assert_eq!(idle(&pool), [100_000, 500_000]);
    }

    #[test]
    fn batches_that_grow_do_not_pile_up() {
        let pool = Arc::new(BufferPool::default());
        for len in [20_000, 30_000, 50_000] {
            let pair = [pool.lend(len), pool.lend(len)];
            drop(pair);
        }
        assert_eq!(idle(&pool), [50_000, 50_000]);
    }
}
