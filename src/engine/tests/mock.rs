//! A model whose logits are a hash of the whole visible history, so that any mix-up shows; some
//! prompt tokens make it fail, and a valve can hold its steps.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::types::TokenId;

use super::super::{StepError, StepModel, StepSpan};

pub(super) const VOCAB: usize = 40;
pub(super) const CONTEXT: usize = 200;
/// Ids from here on are never generated.
const SPECIAL: usize = 32;
/// A sequence with this token panics when it has `FUSE` tokens.
pub(super) const PANICS: TokenId = 36;
/// A sequence with this token gets NaN when it has `FUSE` tokens.
pub(super) const YIELDS_NAN: TokenId = 37;
/// A sequence with this token is refused when it has `FUSE` tokens.
pub(super) const ERRS: TokenId = 38;
/// A cache with this token panics when dropped, which kills the engine thread.
pub(super) const BOMB: TokenId = 39;
pub(super) const FUSE: usize = 12;

/// One step as the model saw it.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Tokens of each span.
    pub(super) spans: Vec<usize>,
    /// Adapter of each span, 0 for none.
    pub(super) adapters: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Mock {
    pub(super) valve: Option<Valve>,
    pub(super) shapes: Mutex<Vec<Shape>>,
    live_caches: Arc<AtomicUsize>,
}

/// Holds the steps of a model back. A test lets them through one by one.
#[derive(Debug, Default)]
pub(super) struct Valve {
    state: Mutex<ValveState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ValveState {
    arrived: usize,
    allowed: usize,
}

impl Valve {
    /// Lets `steps` more steps through.
    pub(super) fn allow(&self, steps: usize) {
        let mut state = self.state.lock().unwrap();
        state.allowed = state.allowed.saturating_add(steps);
        self.changed.notify_all();
    }

    /// Waits until the `count`th step, from 1, has come to the valve.
    pub(super) fn await_arrival(&self, count: usize) {
        let mut state = self.state.lock().unwrap();
        while state.arrived < count {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.arrived += 1;
        self.changed.notify_all();
        while state.allowed < state.arrived {
            state = self.changed.wait(state).unwrap();
        }
    }
}

impl Mock {
    pub(super) fn held() -> Arc<Self> {
        Arc::new(Self {
            valve: Some(Valve::default()),
            ..Self::default()
        })
    }

    pub(super) fn valve(&self) -> &Valve {
        self.valve.as_ref().unwrap()
    }

    pub(super) fn live_caches(&self) -> usize {
        self.live_caches.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub(super) struct MockCache {
    tokens: Vec<TokenId>,
    live: Arc<AtomicUsize>,
}

impl Drop for MockCache {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.tokens.contains(&BOMB), "bomb");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the mock refuses")]
struct Refusal;

impl StepModel for Mock {
    type Adapter = u64;
    type Cache = MockCache;

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn context_length(&self) -> usize {
        CONTEXT
    }

    fn new_cache(&self) -> MockCache {
        self.live_caches.fetch_add(1, Ordering::SeqCst);
        MockCache {
            tokens: Vec::new(),
            live: Arc::clone(&self.live_caches),
        }
    }

    fn rewind(&self, cache: &mut MockCache, tokens: usize) {
        cache.tokens.truncate(tokens);
    }

    fn step(
        &self,
        spans: &[StepSpan<'_, u64>],
        caches: &mut [&mut MockCache],
    ) -> Result<Vec<f32>, StepError> {
        self.shapes.lock().unwrap().push(Shape {
            spans: spans.iter().map(|span| span.tokens.len()).collect(),
            adapters: spans
                .iter()
                .map(|span| span.adapter.map_or(0, |salt| **salt))
                .collect(),
        });
        if let Some(valve) = &self.valve {
            valve.pass();
        }
        let mut logits = Vec::new();
        for (span, cache) in spans.iter().zip(caches) {
            // A failing sequence comes when others have been appended to already.
            assert_eq!(
                cache.tokens.len(),
                span.first_position,
                "a cache was mixed up"
            );
            cache.tokens.extend_from_slice(span.tokens);
            let lit = |token| cache.tokens.contains(&token) && cache.tokens.len() >= FUSE;
            assert!(!lit(PANICS), "the mock panics");
            if lit(ERRS) {
                return Err(Arc::new(Refusal));
            }
            if span.samples {
                let salt = span.adapter.map_or(0, |salt| **salt);
                logits.extend(row(&cache.tokens, salt, lit(YIELDS_NAN)));
            }
        }
        Ok(logits)
    }
}

fn row(history: &[TokenId], salt: u64, nan: bool) -> impl Iterator<Item = f32> {
    let seed = history
        .iter()
        .fold(salt ^ 0xcbf2_9ce4_8422_2325, |hash, &token| {
            (hash ^ u64::from(token))
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(17)
        });
    (0..VOCAB).map(move |id| {
        if nan {
            return f32::NAN;
        }
        if id >= SPECIAL {
            return f32::NEG_INFINITY;
        }
        let mut bits = seed ^ (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (bits >> 40) as f32 / 2f32.powi(21) - 4.0
    })
}
