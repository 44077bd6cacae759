//! A model whose logits are a hash of the whole visible history, so that any mix-up shows; some
//! prompt tokens make it fail, and a valve can hold its steps.

use std::sync::{Arc, Condvar, Mutex};

use crate::model::{BLOCK_TOKENS, BlockId};
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
/// The adapter whose parameters may change.
pub(super) const UNNAMED: u64 = 99;
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
    /// Holds back the making of pools.
    pub(super) pools: Option<Valve>,
    pub(super) shapes: Mutex<Vec<Shape>>,
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
    failing: usize,
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

    /// Panics at each of the next `passes` passes.
    pub(super) fn fail(&self, passes: usize) {
        self.state.lock().unwrap().failing = passes;
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.arrived += 1;
        self.changed.notify_all();
        while state.allowed < state.arrived {
            state = self.changed.wait(state).unwrap();
        }
        if state.failing > 0 {
            state.failing -= 1;
            drop(state);
            panic!("the valve fails");
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

    /// Tokens computed so far.
    pub(super) fn computed(&self) -> usize {
        let shapes = self.shapes.lock().unwrap();
        shapes.iter().flat_map(|shape| &shape.spans).sum()
    }
}

/// What each slot holds: a token, and the adapter that computed it.
#[derive(Debug)]
pub(super) struct MockPool(Vec<Option<(TokenId, u64)>>);

impl MockPool {
    fn slot(&mut self, blocks: &[BlockId], position: usize) -> &mut Option<(TokenId, u64)> {
        let block = blocks[position / BLOCK_TOKENS] as usize;
        &mut self.0[block * BLOCK_TOKENS + position % BLOCK_TOKENS]
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the mock refuses")]
struct Refusal;

impl StepModel for Mock {
    type Adapter = u64;
    type Pool = MockPool;

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn context_length(&self) -> usize {
        CONTEXT
    }

    fn token_bytes(&self) -> usize {
        8
    }

    fn new_pool(&self, blocks: usize) -> MockPool {
        if let Some(valve) = &self.pools {
            valve.pass();
        }
        MockPool(vec![None; blocks * BLOCK_TOKENS])
    }

    fn identity(&self, adapter: Option<&Arc<u64>>) -> Option<u64> {
        let salt = adapter.map_or(0, |salt| **salt);
        (salt != UNNAMED).then_some(salt)
    }

    fn step(
        &self,
        spans: &[StepSpan<'_, u64>],
        pool: &mut MockPool,
        logits: &mut Vec<f32>,
    ) -> Result<(), StepError> {
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
        logits.clear();
        for span in spans {
            let salt = span.adapter.map_or(0, |salt| **salt);
            for (position, &token) in (span.first_position..).zip(span.tokens) {
                *pool.slot(span.blocks, position) = Some((token, salt));
            }
            let history: Vec<TokenId> = (0..span.first_position + span.tokens.len())
                .map(|position| {
                    let held = *pool.slot(span.blocks, position);
                    let (token, by) = held.expect("nothing was computed here");
                    assert_eq!(by, salt, "another adapter's block");
                    token
                })
                .collect();
            // A failing sequence comes when others have been written already.
            let lit = |token| history.contains(&token) && history.len() >= FUSE;
            assert!(!lit(PANICS), "the mock panics");
            if lit(ERRS) {
                return Err(Arc::new(Refusal));
            }
            if span.samples {
                logits.extend(row(&history, salt, lit(YIELDS_NAN)));
            }
        }
        Ok(())
    }
}

/// The logits after a history.
pub(super) fn row(history: &[TokenId], salt: u64, nan: bool) -> impl Iterator<Item = f32> {
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
