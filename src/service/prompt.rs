//! Prompts as callers give them, and as the engine takes them.

use std::sync::Arc;

use super::app::App;
use super::asker::Asker;
use super::error::RequestError;
use super::policy::LivePolicy;
use super::truncation;
use crate::text::{OpenPrompt, Opening, PromptEncoder, TextError, Truncation};
use crate::types::{ControlSpan, Message, TokenId};

/// Prompts of more bytes than this together are encoded a few requests at a time: the tokenizer
/// needs some hundred bytes of memory for each token, and seconds for a megabyte.
const LARGE: usize = 64 << 10;

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
    /// How many of the prompt's own tokens were left out.
    pub(super) left_out: usize,
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

    /// Its length, where it is text.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Raw(text) => text.len(),
            Self::Dialogue(messages) => messages.iter().map(|m| m.content.len()).sum(),
            Self::Tokens(_) => 0,
        }
    }

    fn open(&self, encoder: &PromptEncoder, opening: Opening) -> Result<OpenPrompt, TextError> {
        match self {
            Self::Dialogue(messages) => encoder.open_chat(messages, opening),
            Self::Text(text) if encoder.has_chat_template() => {
                encoder.open_chat(&[Message::user(text.clone())], opening)
            }
            Self::Text(text) | Self::Raw(text) => encoder.open_text(text, opening),
            Self::Tokens(ids) => encoder.open_ids(ids.clone(), opening),
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

/// Prompts and everything that is put into them.
pub(super) struct Encoding {
    /// What is to be encoded.
    pub(super) prompts: Vec<PromptInput>,
    /// Each prompt's spans: the caller's weights, and equal ones. All have one placement.
    pub(super) spans: Vec<(Option<ControlSpan>, Option<ControlSpan>)>,
    /// Tokens that there is room for. The first prompt that leaves none is the last one encoded,
    /// under one pair of spans: it is refused, whatever the others are.
    pub(super) most: Option<usize>,
    /// What a prompt loses that has more tokens with its longest span.
    pub(super) truncation: Option<Truncation>,
}

impl App {
    /// Encodes every prompt under every pair of spans, prompt by prompt; see [`Encoding::most`].
    pub(super) async fn encode(
        &self,
        encoding: Encoding,
        policy: &Arc<LivePolicy>,
    ) -> Result<Vec<PromptTokens>, RequestError> {
        let encoder = Arc::clone(&self.encoder);
        let policy = Arc::clone(policy);
        let bytes: usize = encoding.prompts.iter().map(PromptInput::bytes).sum();
        let turn = match bytes > LARGE {
            true => Some(self.large_texts.take(self.queue_patience).await?),
            false => None,
        };
        let asker = Asker::default();
        let wanted = asker.wanted();
        // a long prompt takes long to encode; the event loop must not wait for it
        let encoded = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut encoded = Vec::with_capacity(encoding.prompts.len() * encoding.spans.len());
            for prompt in &encoding.prompts {
                if wanted.is_over() {
                    break;
                }
                prompt.check_ids(&encoder, &policy)?;
                let fits = encoding.encode(prompt, &encoder, &mut encoded);
                if !fits.map_err(|source| cannot_encode(&policy, prompt, source))? {
                    break;
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

impl Encoding {
    /// Encodes one prompt; false where it leaves no room.
    fn encode(
        &self,
        prompt: &PromptInput,
        encoder: &PromptEncoder,
        encoded: &mut Vec<PromptTokens>,
    ) -> Result<bool, TextError> {
        let opened = self.open(prompt, encoder)?;
        for (span, neutral) in &self.spans {
            let under = |span: &ControlSpan| encoder.close(&opened, Some(span));
            let tokens = PromptTokens {
                tokens: encoder.close(&opened, span.as_ref())?,
                neutral: neutral.as_ref().map(under).transpose()?,
                left_out: opened.left_out(),
            };
            let fits = self.most.is_none_or(|most| tokens.longest() < most);
            encoded.push(tokens);
            if !fits {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A prompt's tokens without any span, the same for all of them.
    fn open(&self, prompt: &PromptInput, encoder: &PromptEncoder) -> Result<OpenPrompt, TextError> {
        let spans = self
            .spans
            .iter()
            .flat_map(|(span, neutral)| [span, neutral]);
        let spans: Vec<_> = spans.flatten().collect();
        let mut opening = Opening {
            placement: spans
                .first()
                .map_or_else(Default::default, |span| span.placement),
            most: self.most,
            truncation: None,
        };
        let Some(truncation) = self.truncation else {
            return prompt.open(encoder, opening);
        };
        let mut longest = 0;
        for span in spans {
            longest = longest.max(encoder.span_len(span)?);
        }
        opening.most = None;
        opening.truncation = Some(Truncation {
            most: truncation.most.saturating_sub(longest),
            ..truncation
        });
        prompt.open(encoder, opening).map_err(|error| match error {
            TextError::NothingLeft { frame } => TextError::NothingLeft {
                frame: frame + longest,
            },
            other => other,
        })
    }
}

fn cannot_encode(policy: &LivePolicy, prompt: &PromptInput, source: TextError) -> RequestError {
    if let TextError::TooLong { at_least, most } = source {
        return RequestError::ContextOverflow {
            context: most,
            prompt_tokens: at_least,
            completion: " at the least, and at least 1 of completion".to_owned(),
        };
    }
    if let TextError::NothingLeft { frame } = source {
        let problem = format!(
            "must be at least {}: the conditioning and what stands around the prompt's text take \
             {frame} tokens by themselves",
            frame + 1
        );
        return RequestError::invalid(truncation::FIELD, problem);
    }
    RequestError::Prompt {
        model: policy.id.clone(),
        field: prompt.field(),
        by_caller: !matches!(source, TextError::Tokenizer { .. }),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_prompt_that_is_too_long_is_encoded_under_one_span_alone() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama");
        let encoder = PromptEncoder::load(&folder).unwrap();
        for (most, count, fits) in [(4, 1, false), (400, 3, true)] {
            let encoding = Encoding {
                prompts: Vec::new(),
                spans: vec![(None, None); 3],
                most: Some(most),
                truncation: None,
            };
            let prompt = PromptInput::Raw("One two three four five.".to_owned());
            let mut encoded = Vec::new();
            let found = encoding.encode(&prompt, &encoder, &mut encoded).unwrap();
            assert_eq!((encoded.len(), found), (count, fits), "room for {most}");
        }
    }
}
