//! One token, decoded to find out whether a model answers at all: its files may be whole and its
//! numbers none.

use std::sync::Arc;

use super::app::App;
use super::error::LoadError;
use super::policy::LivePolicy;
use crate::engine::{EngineHandle, GenerationRequest, complete_all};
use crate::model::LoraAdapter;
use crate::text::PromptEncoder;
use crate::types::SamplingParams;

/// One token after the shortest prompt there is.
pub(super) fn first_token(
    encoder: &PromptEncoder,
    adapter: Option<&Arc<LoraAdapter>>,
) -> GenerationRequest {
    let first = encoder.tokenizer().bos_id().unwrap_or(0);
    let sampling = SamplingParams {
        temperature: 0.0,
        max_tokens: 1,
        ..Default::default()
    };
    GenerationRequest {
        adapter: adapter.cloned(),
        ..GenerationRequest::new(vec![first], sampling)
    }
}

/// Decodes one token of a policy. Blocks.
///
/// # Errors
/// The engine cannot.
pub(super) fn check_answers(
    engine: &EngineHandle<LoraAdapter>,
    encoder: &PromptEncoder,
    policy: &LivePolicy,
) -> Result<(), LoadError> {
    let adapter = policy.adapter.under(&policy.told_by_default());
    let adapter = adapter.map_err(|source| LoadError::Model {
        dir: policy.dir.clone(),
        source,
    })?;
    let request = first_token(encoder, adapter.as_ref());
    match complete_all(engine, vec![request]) {
        Ok(_) => Ok(()),
        Err(source) => Err(LoadError::NoToken {
            policy: policy.id.clone(),
            source,
        }),
    }
}

impl App {
    /// Decodes one token of every policy. Blocks: not for use inside an async runtime.
    ///
    /// # Errors
    /// The first policy that cannot answer, and why.
    pub fn check_answers(&self) -> Result<(), LoadError> {
        let policies = self.policies();
        let mut policies = policies.iter();
        policies.try_for_each(|policy| check_answers(&self.engine, &self.encoder, policy))
    }
}
