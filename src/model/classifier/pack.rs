//! Sequences end to end: linear layers see all rows at once, attention each sequence by itself.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::kernel::SpanRange;
use crate::model::ModelError;
use crate::types::TokenId;

/// The tokens of several sequences, unpadded.
#[derive(Default)]
pub(super) struct Pack {
    ids: Vec<TokenId>,
    token_types: Vec<u32>,
    spans: Vec<SpanRange>,
}

impl Pack {
    /// Appends one sequence; without types all its tokens are of type 0.
    pub(super) fn push(&mut self, ids: &[TokenId], token_types: Option<&[u32]>) {
        self.spans.push(SpanRange {
            start: self.ids.len(),
            len: ids.len(),
        });
        self.ids.extend_from_slice(ids);
        match token_types {
            Some(types) => self.token_types.extend_from_slice(types),
            None => self.token_types.resize(self.ids.len(), 0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn spans(&self) -> &[SpanRange] {
        &self.spans
    }

    pub(super) fn shared_spans(&self) -> Arc<[SpanRange]> {
        self.spans.as_slice().into()
    }

    /// The sequences' tokens, one slice each.
    pub(super) fn sequences(&self) -> impl Iterator<Item = &[TokenId]> {
        self.spans
            .iter()
            .map(|span| &self.ids[span.start..span.start + span.len])
    }

    /// (tokens,)
    pub(super) fn ids(&self) -> Result<Tensor, ModelError> {
        indices(&self.ids)
    }

    /// (tokens,)
    pub(super) fn token_types(&self) -> Result<Tensor, ModelError> {
        indices(&self.token_types)
    }

    /// Each token's place in its sequence from 0, (tokens,).
    pub(super) fn positions(&self) -> Result<Tensor, ModelError> {
        let positions: Vec<u32> = self
            .spans
            .iter()
            .flat_map(|span| 0..span.len as u32)
            .collect();
        indices(&positions)
    }

    /// The row of each sequence's first token, (sequences,).
    pub(super) fn first_rows(&self) -> Result<Tensor, ModelError> {
        let rows: Vec<u32> = self.spans.iter().map(|span| span.start as u32).collect();
        indices(&rows)
    }

    /// The row of each sequence's last token that is not padding, (sequences,). A sequence of
    /// padding alone has its first.
    pub(super) fn last_rows(&self, padding: Option<TokenId>) -> Result<Tensor, ModelError> {
        let last = |ids: &[TokenId]| match padding {
            Some(id) => ids.iter().rposition(|token| *token != id).unwrap_or(0),
            None => ids.len() - 1,
        };
        let rows: Vec<u32> = self
            .spans
            .iter()
            .zip(self.sequences())
            .map(|(span, ids)| (span.start + last(ids)) as u32)
            .collect();
        indices(&rows)
    }
}

pub(super) fn indices(values: &[u32]) -> Result<Tensor, ModelError> {
    Ok(Tensor::from_slice(values, values.len(), &Device::Cpu)?)
}
