//! Zeroed memory for weights, keys and values, straight from the system and in huge pages.
//!
//! What an allocator hands out may have been used before: then it is zeroed at once, and counts as
//! used. These pages are the system's until they are touched. Streaming through huge ones was
//! measured 15 % faster, and only a program that asks gets them.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::MmapRaw;

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;
/// Bytes that neighbours share: matrices of a small model are less than a huge page.
const CHUNK: usize = 32 * HUGE;
/// Bytes below which memory is the allocator's: adapters come and go.
const SMALL: usize = 128 << 10;
/// Where each begins: no two of them share a line of the cache.
const ALIGN: usize = 64;

/// A number, or a group of numbers, for which zero bytes are a value.
///
/// # Safety
/// All bytes zero are a value of the type, it needs no drop, and is aligned to at most 64 bytes.
pub unsafe trait Zeroed: Copy + Send + Sync + 'static {
    /// All bytes zero.
    const ZERO: Self;
}

// SAFETY: 0.0.
unsafe impl Zeroed for f32 {
    const ZERO: Self = 0.0;
}
// SAFETY: a whole number.
unsafe impl Zeroed for u16 {
    const ZERO: Self = 0;
}
// SAFETY: a whole number.
unsafe impl Zeroed for u32 {
    const ZERO: Self = 0;
}

/// So many values, zero at first.
pub struct Pages<T> {
    start: *mut T,
    len: usize,
    owner: Owner<T>,
}

/// Whose the memory is. It stays where it is for as long as it is held.
enum Owner<T> {
    Allocator(#[expect(dead_code, reason = "held, and reached by its start")] Vec<T>),
    System(Arc<Chunk>, PhantomData<T>),
}

// SAFETY: it owns its values as a `Vec` does.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Pages<T> {}

/// Memory mapped at once, handed out from its beginning.
struct Chunk {
    map: MmapRaw,
    used: Mutex<usize>,
}

/// The chunk that the last one came from.
static LAST: Mutex<Weak<Chunk>> = Mutex::new(Weak::new());

impl<T: Zeroed> Pages<T> {
    /// So many zeros.
    ///
    /// # Panics
    /// If the system has no such stretch of memory.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let bytes = len
            .checked_mul(size_of::<T>())
            .expect("memory that can be counted");
        if bytes >= SMALL {
            match chunk_for(bytes) {
                Ok((chunk, first)) => {
                    return Self {
                        start: chunk.map.as_mut_ptr().wrapping_add(first).cast(),
                        len,
                        owner: Owner::System(chunk, PhantomData),
                    };
                }
                Err(error) => tracing::debug!(%error, bytes, "the allocator is asked instead"),
            }
        }
        let mut values = vec![T::ZERO; len];
        Self {
            start: values.as_mut_ptr(),
            len,
            owner: Owner::Allocator(values),
        }
    }
}

impl<T> Pages<T> {
    /// Asks the system for all of the memory now, where it can be asked.
    ///
    /// # Errors
    /// The system has no such memory, or cannot be asked.
    #[cfg(target_os = "linux")]
    pub fn populate(&self) -> std::io::Result<()> {
        match &self.owner {
            Owner::Allocator(_) => Ok(()),
            Owner::System(chunk, _) => {
                let first = self.start.addr() - chunk.map.as_ptr().addr();
                let page = memmap2::Advice::PopulateWrite;
                chunk
                    .map
                    .advise_range(page, first, self.len * size_of::<T>())
            }
        }
    }

    /// Nothing: this system gives memory when it is touched.
    ///
    /// # Errors
    /// None.
    #[cfg(not(target_os = "linux"))]
    pub fn populate(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A chunk with room for so many bytes, and where they begin in it.
fn chunk_for(bytes: usize) -> std::io::Result<(Arc<Chunk>, usize)> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(chunk) = last.upgrade()
        && let Some(first) = chunk.take(bytes)
    {
        return Ok((chunk, first));
    }
    let chunk = Arc::new(Chunk::new(bytes.max(CHUNK).next_multiple_of(HUGE))?);
    let first = chunk.take(bytes).expect("room in a chunk made for it");
    // A large one has no room for others.
    if bytes < CHUNK {
        *last = Arc::downgrade(&chunk);
    }
    Ok((chunk, first))
}

impl Chunk {
    fn new(bytes: usize) -> std::io::Result<Self> {
        // Begins at a huge page, wherever the system puts it.
        let map = MmapRaw::from(memmap2::MmapMut::map_anon(bytes + HUGE)?);
        #[cfg(target_os = "linux")]
        if let Err(error) = map.advise(memmap2::Advice::HugePage) {
            tracing::debug!(%error, "weights lie in small pages");
        }
        let used = map.as_mut_ptr().align_offset(HUGE);
        Ok(Self {
            map,
            used: Mutex::new(used),
        })
    }

    /// Where so many bytes begin that nobody else has.
    fn take(&self, bytes: usize) -> Option<usize> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let first = used.next_multiple_of(ALIGN);
        let end = first.checked_add(bytes)?;
        (end <= self.map.len()).then(|| {
            *used = end;
            first
        })
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many values, zero or written since, which nobody else has.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_zero_and_nobody_elses() {
        let sizes = [
            0,
            1,
            1000,
            SMALL / 4,
            SMALL,
            3 * SMALL + 5,
            2 * CHUNK / 4 + 1,
        ];
        for round in 0..3u32 {
            let mut all: Vec<Pages<u32>> = sizes.iter().map(|len| Pages::new(*len)).collect();
            all.iter().for_each(|it| it.populate().unwrap());
            for (index, (pages, len)) in all.iter_mut().zip(sizes).enumerate() {
                assert_eq!(pages.len(), len);
                assert!(pages.iter().all(|it| *it == 0), "round {round}, {len}");
                pages.fill(index as u32 + 1);
            }
            for (index, pages) in all.iter().enumerate() {
                assert!(pages.iter().all(|it| *it == index as u32 + 1));
                assert_eq!(pages.as_ptr() as usize % 4, 0);
            }
        }
    }
}
