//! Prompts as callers give them, and as the engine takes them.

use std::sync::Arc;

use super::app::App;
use super::error::RequestError;
use super::policy::LivePolicy;
use crate::text::{PromptEncoder, TextError};
use crate::types::{ControlSpan, Message, TokenId};

/// What is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptInput {
    /// Plain text; one turn of the user where the checkpoint has a chat template.
    Text(String),
    /// A conversation.
    Dialogue(Vec<Message>),
    /// Text to continue, without any template.
    Raw(String),
    /// Tokens to continue, as they are.
    Tokens(Vec<TokenId>),
}

/// A prompt on its way to the engine.
#[derive(Debug, Clone)]
pub(super) struct PromptTokens {
    /// Conditioning and special tokens included.
    pub(super) tokens: Vec<TokenId>,
    /// The same under equal weights, where guidance needs it.
    pub(super) neutral: Option<Vec<TokenId>>,
}

impl PromptTokens {
    /// Tokens of the longer form.
    pub(super) fn longest(&self) -> usize {
        self.tokens
            .len()
            .max(self.neutral.as_ref().map_or(0, Vec::len))
    }
}

impl PromptInput {
    /// Refuses what holds nothing to answer.
    pub(super) fn check(&self) -> Result<(), RequestError> {
        let problem = match self {
            Self::Text(text) | Self::Raw(text) if text.trim().is_empty() => {
                ("prompt", "must hold some text, got an empty string")
            }
            Self::Tokens(ids) if ids.is_empty() => {
                ("prompt", "must hold at least one token id, got none")
            }
            Self::Dialogue(messages) if messages.is_empty() => {
                ("messages", "must hold at least one message, got none")
            }
            Self::Dialogue(messages) if messages.iter().all(|m| m.content.trim().is_empty()) => {
                ("messages", "must hold some text, got only empty contents")
            }
            _ => return Ok(()),
        };
        Err(RequestError::invalid(problem.0, problem.1))
    }

    /// The field that holds it.
    fn field(&self) -> &'static str {
        match self {
            Self::Dialogue(_) => "messages",
            Self::Text(_) | Self::Raw(_) | Self::Tokens(_) => "prompt",
        }
    }

    fn encode(
        &self,
        encoder: &PromptEncoder,
        span: Option<&ControlSpan>,
    ) -> Result<Vec<TokenId>, TextError> {
        match self {
            Self::Dialogue(messages) => encoder.encode_chat(messages, span),
            Self::Text(text) if encoder.has_chat_template() => {
                encoder.encode_chat(&[Message::user(text.clone())], span)
            }
            Self::Text(text) | Self::Raw(text) => encoder.encode_prompt(text, span),
            Self::Tokens(ids) => encoder.encode_ids(ids.clone(), span),
        }
    }

    /// Token ids could spell what no text can: the fences of the conditioning.
    fn check_ids(&self, encoder: &PromptEncoder, policy: &LivePolicy) -> Result<(), RequestError> {
        let Self::Tokens(ids) = self else {
            return Ok(());
        };
        let tokenizer = encoder.tokenizer();
        let known = tokenizer.vocab_size();
        let fences: Vec<TokenId> = policy
            .manifest
            .iter()
            .flat_map(|manifest| [&manifest.conditioning.open, &manifest.conditioning.close])
            .filter_map(|text| tokenizer.special_id(text))
            .collect();
        for (index, id) in ids.iter().enumerate() {
            let problem = if *id as usize >= known {
                format!("must be below {known}, got {id}")
            } else if fences.contains(id) {
                format!(
                    "is {id}, a token that fences the objective weights; only the server may \
                     write it"
                )
            } else {
                continue;
            };
            return Err(RequestError::invalid(format!("prompt[{index}]"), problem));
        }
        Ok(())
    }
}

impl App {
    /// Encodes every prompt under every pair of spans: the caller's weights, and equal ones.
    /// Prompt by prompt.
    pub(super) async fn encode(
        &self,
        prompts: Vec<PromptInput>,
        spans: Vec<(Option<ControlSpan>, Option<ControlSpan>)>,
        policy: &Arc<LivePolicy>,
    ) -> Result<Vec<PromptTokens>, RequestError> {
        let encoder = Arc::clone(&self.encoder);
        let policy = Arc::clone(policy);
        // a long prompt takes long to encode; the event loop must not wait for it
        let encoded = tokio::task::spawn_blocking(move || {
            let mut encoded = Vec::with_capacity(prompts.len() * spans.len());
            for prompt in &prompts {
                prompt.check_ids(&encoder, &policy)?;
                let under = |span: Option<&ControlSpan>| {
                    let tokens = prompt.encode(&encoder, span);
                    tokens.map_err(|source| cannot_encode(&policy, prompt, source))
                };
                for (span, neutral) in &spans {
                    encoded.push(PromptTokens {
                        tokens: under(span.as_ref())?,
                        neutral: neutral.as_ref().map(|span| under(Some(span))).transpose()?,
                    });
                }
            }
            Ok::<_, RequestError>(encoded)
        });
        match encoded.await {
            Ok(prompts) => prompts,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

fn cannot_encode(policy: &LivePolicy, prompt: &PromptInput, source: TextError) -> RequestError {
    RequestError::Prompt {
        model: policy.id.clone(),
        field: prompt.field(),
        by_caller: !matches!(source, TextError::Tokenizer { .. }),
        source,
    }
}
