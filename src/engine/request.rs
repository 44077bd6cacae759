//! What the engine is asked for: one completion, with everything that it depends on.

use std::sync::Arc;

use crate::model::LoraAdapter;
use crate::types::{SamplingParams, TokenConstraint, TokenId};

/// One completion to generate. `A` is the model's kind of adapter.
#[derive(Debug)]
pub struct GenerationRequest<A = LoraAdapter> {
    /// The prompt's tokens, conditioning and special tokens included.
    pub prompt: Vec<TokenId>,
    /// The adapter of this request's rows; `None` is the base model.
    pub adapter: Option<Arc<A>>,
    /// How tokens are drawn and when the completion ends.
    pub sampling: SamplingParams,
    /// Who asks: those who wait are served in turn, one request of each caller. 0 is nobody in
    /// particular; all such requests take turns as one caller.
    pub caller: u64,
    /// Requests share cached prompts only where their salts are equal; 0 is common to all.
    pub cache_salt: u64,
    /// A second prompt to move away from.
    pub guidance: Option<Guidance>,
    /// What may be generated, beyond the sampling's own bounds.
    pub constraint: Option<Box<dyn TokenConstraint>>,
}

/// A second row of the same sequence: its logits are what the first row's are compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Guidance {
    /// The neutral prompt; the completion's tokens follow it as they follow the request's own.
    pub prompt: Vec<TokenId>,
    /// Logits become `l + (scale - 1) * (l - l_neutral)`: 1 changes nothing.
    pub scale: f32,
}

impl<A> GenerationRequest<A> {
    /// A request of nobody in particular to the base model.
    pub fn new(prompt: Vec<TokenId>, sampling: SamplingParams) -> Self {
        Self {
            prompt,
            adapter: None,
            sampling,
            caller: 0,
            cache_salt: 0,
            guidance: None,
            constraint: None,
        }
    }
}

impl<A> Clone for GenerationRequest<A> {
    fn clone(&self) -> Self {
        let constraint = self.constraint.as_ref();
        Self {
            prompt: self.prompt.clone(),
            adapter: self.adapter.clone(),
            sampling: self.sampling.clone(),
            caller: self.caller,
            cache_salt: self.cache_salt,
            guidance: self.guidance.clone(),
            constraint: constraint.map(|constraint| constraint.boxed_clone()),
        }
    }
}
