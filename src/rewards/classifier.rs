//! Rewards by a reward model: the logit that a sequence classifier gives to prompt and answer.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tokenizers::{EncodeInput, TruncationDirection, TruncationParams, TruncationStrategy};

use super::remote::Transcript;
use super::{Exchange, RewardError, RewardModel};
use crate::model::classifier::SequenceClassifier;
use crate::text::PromptEncoder;
use crate::types::{Message, TokenId};

/// How prompt and answer become what the classifier reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassifierInput {
    /// `dialogue` for a decoder with a chat template, else `pair`.
    #[default]
    Auto,
    /// The whole dialogue by the checkpoint's own chat template.
    Dialogue,
    /// The tokenizer's pair of texts: the prompt's turns, one a line, and the answer.
    Pair,
    /// The tokenizer's pair of texts, the prompt written as the HH transcripts are:
    /// `\n\nHuman: …\n\nAssistant:`.
    HhPair,
    /// One text: the prompt's turns and the answer, joined by a space.
    Joined,
}

/// The encoder behind a resolved input.
enum Encoder {
    Dialogue(Box<PromptEncoder>),
    Texts {
        tokenizer: Box<tokenizers::Tokenizer>,
        input: ClassifierInput,
    },
}

/// A sequence-classification checkpoint as a reward.
pub struct ClassifierReward {
    name: String,
    classifier: SequenceClassifier,
    label: usize,
    encoder: Encoder,
}

impl ClassifierReward {
    /// Loads a checkpoint folder; the reward is the logit of `label`.
    pub fn load(dir: &Path, label: usize, input: ClassifierInput) -> Result<Self, RewardError> {
        let folder = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy();
        let name = format!("classifier {folder}");
        let classifier = SequenceClassifier::load(dir)?;
        let labels = classifier.num_labels();
        if label >= labels {
            let reason = format!("label {label} asked for, the checkpoint has {labels} (from 0)");
            return Err(RewardError::setting(name, reason));
        }
        let encoder = match input {
            ClassifierInput::Dialogue => dialogue(dir, &name)?,
            ClassifierInput::Auto if classifier.expects_dialogue() => dialogue(dir, &name)?,
            ClassifierInput::Auto => texts(dir, &classifier, ClassifierInput::Pair)?,
            other => texts(dir, &classifier, other)?,
        };
        Ok(Self {
            name,
            classifier,
            label,
            encoder,
        })
    }

    fn encode(&self, exchange: &Exchange<'_>) -> Result<(Vec<TokenId>, Vec<u32>), RewardError> {
        match &self.encoder {
            Encoder::Dialogue(encoder) => {
                let turns = exchange.prompt.iter().cloned();
                let turns: Vec<Message> = turns
                    .chain([Message::assistant(exchange.completion)])
                    .collect();
                let (mut ids, _) = encoder.encode_dialogue(&turns, None)?;
                // a conversation too long loses its start: the answer stands at the end
                let limit = self.classifier.max_tokens().unwrap_or(usize::MAX);
                ids.drain(..ids.len().saturating_sub(limit));
                Ok((ids, Vec::new()))
            }
            Encoder::Texts { tokenizer, input } => {
                let transcript = match input {
                    ClassifierInput::HhPair => Transcript::Hh,
                    _ => Transcript::Plain,
                };
                let text = transcript.of_prompt(exchange.prompt);
                let answer = exchange.completion;
                let both: EncodeInput<'_> = match input {
                    ClassifierInput::Joined => format!("{text} {answer}").into(),
                    _ => (text, answer).into(),
                };
                let encoding =
                    tokenizer
                        .encode(both, true)
                        .map_err(|error| RewardError::Tokenize {
                            reward: self.name.clone(),
                            reason: error.to_string(),
                        })?;
                Ok((
                    encoding.get_ids().to_vec(),
                    encoding.get_type_ids().to_vec(),
                ))
            }
        }
    }
}

impl RewardModel for ClassifierReward {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, exchanges: &[Exchange<'_>]) -> Result<Vec<f32>, RewardError> {
        let encoded: Result<Vec<_>, RewardError> = exchanges
            .iter()
            .map(|exchange| self.encode(exchange))
            .collect();
        let (ids, types): (Vec<_>, Vec<_>) = encoded?.into_iter().unzip();
        let types = self
            .classifier
            .uses_token_types()
            .then_some(types.as_slice());
        let logits = self.classifier.logits(&ids, types)?;
        Ok(logits.into_iter().map(|row| row[self.label]).collect())
    }
}

fn dialogue(dir: &Path, name: &str) -> Result<Encoder, RewardError> {
    let encoder = PromptEncoder::load(dir)?;
    if encoder.has_chat_template() {
        return Ok(Encoder::Dialogue(Box::new(encoder)));
    }
    let reason = "the checkpoint has no chat template; expected one, or `input` to be `pair`, \
                  `hh_pair` or `joined`";
    Err(RewardError::setting(name, reason))
}

fn texts(
    dir: &Path,
    classifier: &SequenceClassifier,
    input: ClassifierInput,
) -> Result<Encoder, RewardError> {
    let path = dir.join("tokenizer.json");
    let fail = |error: tokenizers::Error| {
        let reason = error.to_string();
        RewardError::setting(path.display().to_string(), reason)
    };
    let mut tokenizer = tokenizers::Tokenizer::from_file(&path).map_err(fail)?;
    // text of a policy must not become the classifier's own markers
    tokenizer.set_encode_special_tokens(true);
    tokenizer.with_padding(None);
    let truncation = classifier.max_tokens().map(|max_length| TruncationParams {
        max_length,
        strategy: TruncationStrategy::LongestFirst,
        direction: TruncationDirection::Left,
        stride: 0,
    });
    tokenizer.with_truncation(truncation).map_err(fail)?;
    Ok(Encoder::Texts {
        tokenizer: Box::new(tokenizer),
        input,
    })
}
