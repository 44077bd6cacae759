//! Sequences packed end to end for one forward pass: no padding, no mask.

use std::sync::Arc;

use crate::types::TokenId;

use super::ModelError;
use super::lora::LoraAdapter;

/// Tokens of several sequences, one after another.
#[derive(Clone, Default)]
pub struct ForwardBatch {
    /// All tokens.
    pub token_ids: Vec<TokenId>,
    /// Each token's position in its own sequence.
    pub positions: Vec<u32>,
    /// Which rows belong to which sequence.
    pub spans: Vec<Span>,
}

/// The rows of one sequence and the adapter they pass through.
#[derive(Clone)]
pub struct Span {
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
    /// Low-rank adapter; none is the base model.
    pub adapter: Option<Arc<LoraAdapter>>,
}

impl ForwardBatch {
    /// Appends tokens of one sequence, the first of which stands at `first_position`.
    pub fn push(
        &mut self,
        tokens: &[TokenId],
        first_position: usize,
        adapter: Option<Arc<LoraAdapter>>,
    ) {
        let start = self.token_ids.len();
        self.token_ids.extend_from_slice(tokens);
        let first = first_position as u32;
        self.positions.extend(first..first + tokens.len() as u32);
        self.spans.push(Span {
            start,
            len: tokens.len(),
            adapter,
        });
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.token_ids.len()
    }

    /// True without any token.
    pub fn is_empty(&self) -> bool {
        self.token_ids.is_empty()
    }

    /// Refuses what no pass over so many tokens of vocabulary can compute.
    pub(super) fn check(&self, vocabulary: usize) -> Result<(), ModelError> {
        if self.is_empty() {
            let reason = "a forward pass needs at least one token".to_owned();
            return Err(candle_core::Error::Msg(reason).into());
        }
        match self.token_ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(ModelError::Compute(candle_core::Error::Msg(format!(
                "token {id} is outside the vocabulary of {vocabulary}"
            )))),
            None => Ok(()),
        }
    }

    /// Runs of neighbouring spans that share an adapter.
    pub(super) fn segments(&self) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        for span in &self.spans {
            match segments.last_mut() {
                Some(last) if same(&last.adapter, &span.adapter) => last.len += span.len,
                _ => segments.push(Segment {
                    start: span.start,
                    len: span.len,
                    adapter: span.adapter.clone(),
                }),
            }
        }
        segments
    }
}

fn same(a: &Option<Arc<LoraAdapter>>, b: &Option<Arc<LoraAdapter>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// Neighbouring rows that pass through the same adapter.
pub(super) struct Segment {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) adapter: Option<Arc<LoraAdapter>>,
}
