//! Text to tokens and back, for callers who want to look.

use std::sync::Arc;

use super::access::Access;
use super::app::App;
use super::error::RequestError;
use super::generation::Steered;
use super::offer::{RawWeights, WeightsOffers};
use super::prompt::{Encoding, PromptInput};
use super::sampling::SamplingInput;
use super::truncation::{self, TruncationInput};
use crate::text::Tokenizer;
use crate::types::TokenId;

/// What is to be tokenised.
#[derive(Debug, Clone)]
pub struct TokenizeInput {
    /// The request's `model`, suffix and all.
    pub model: Option<String>,
    /// The text or conversation.
    pub prompt: PromptInput,
    /// Weights of the body.
    pub body_weights: Option<RawWeights>,
    /// The body's `profile`.
    pub profile: Option<String>,
    /// Weights of the header.
    pub header_weights: Option<RawWeights>,
    /// How the prompt is shortened.
    pub truncation: Option<TruncationInput>,
}

/// A prompt as its tokens.
pub struct Tokenized {
    /// Whose tokens they are, and the conditioning among them.
    pub steered: Steered,
    /// Their ids.
    pub ids: Vec<TokenId>,
    /// What each of them spells.
    pub texts: Vec<String>,
    /// What was left out of the prompt, in words.
    pub remarks: Vec<String>,
}

/// Says what single tokens spell.
#[derive(Debug, Clone)]
pub struct Speller(Arc<Tokenizer>);

impl Speller {
    /// A token's text; of part of a character the replacement character.
    pub fn text(&self, id: TokenId) -> String {
        self.0.token_text(id)
    }

    /// A token's bytes: it may be part of a character.
    pub fn bytes(&self, id: TokenId) -> Vec<u8> {
        self.0.token_bytes(id)
    }
}

impl App {
    /// Says what this model's tokens spell.
    pub fn speller(&self) -> Speller {
        Speller(Arc::clone(self.encoder.tokenizer()))
    }

    /// Tokens of a prompt, with the conditioning where the request names weights.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub async fn tokenize(&self, input: TokenizeInput) -> Result<Tokenized, RequestError> {
        let offers = WeightsOffers {
            body: input.body_weights,
            header: input.header_weights,
            profile: input.profile,
            metadata: None,
            user: None,
        };
        // nothing is answered under these weights, so what a key fills in or forbids is no matter
        let mut steered = self
            .steer(input.model.as_deref(), &offers, &Access::open())
            .await?;
        let named = steered.steering.as_ref().map(|used| used.source);
        if named == Some(super::WeightsSource::Default) {
            (steered.span, steered.steering) = (None, None);
        }
        let truncation = self.truncation(input.truncation, &SamplingInput::default())?;
        let encoding = Encoding {
            prompts: vec![input.prompt],
            spans: vec![(steered.span.clone(), None)],
            // nothing is answered, so any length can be looked at
            most: None,
            truncation,
        };
        let encoded = self.encode(encoding, &steered.policy).await?;
        let (ids, left_out) = encoded
            .into_iter()
            .next()
            .map_or_else(Default::default, |prompt| (prompt.tokens, prompt.left_out));
        let tokenizer = Arc::clone(self.encoder.tokenizer());
        let spelled = tokio::task::spawn_blocking(move || {
            let texts = ids.iter().map(|id| tokenizer.token_text(*id)).collect();
            (ids, texts)
        });
        let (ids, texts) = spelled
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        Ok(Tokenized {
            steered,
            ids,
            texts,
            remarks: truncation::told(&[left_out]).collect(),
        })
    }

    /// The text of tokens; special tokens are part of it unless they are to be skipped.
    ///
    /// # Errors
    /// An id that is no token.
    pub async fn detokenize(
        &self,
        ids: Vec<TokenId>,
        skip_specials: bool,
    ) -> Result<String, RequestError> {
        let tokenizer = Arc::clone(self.encoder.tokenizer());
        let known = tokenizer.vocab_size();
        if let Some(index) = ids.iter().position(|id| *id as usize >= known) {
            let problem = format!("must be below {known}, got {}", ids[index]);
            return Err(RequestError::invalid(format!("tokens[{index}]"), problem));
        }
        let decoded = tokio::task::spawn_blocking(move || match skip_specials {
            true => tokenizer.decode(&ids),
            false => tokenizer.decode_with_specials(&ids),
        });
        Ok(decoded
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
    }
}
