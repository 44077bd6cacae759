//! A conversation as one text, for services that know no turns.

use serde::{Deserialize, Serialize};

use crate::rewards::Exchange;
use crate::types::{Message, Role};

/// How turns are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transcript {
    /// The turns' texts, one a line.
    #[default]
    Plain,
    /// As in the HH data: `\n\nHuman: …\n\nAssistant:`.
    Hh,
}

/// An exchange as texts.
pub(super) struct Texts {
    /// Everything before the answer.
    pub(super) prompt: String,
    /// The answer.
    pub(super) answer: String,
}

impl Texts {
    pub(super) fn of(exchange: &Exchange<'_>, transcript: Transcript) -> Self {
        Self {
            prompt: transcript.of_prompt(exchange.prompt),
            answer: exchange.completion.to_owned(),
        }
    }

    /// Both as one text.
    pub(super) fn whole(&self) -> String {
        format!("{} {}", self.prompt, self.answer)
    }
}

impl Transcript {
    /// The turns before an answer.
    pub(crate) fn of_prompt(self, prompt: &[Message]) -> String {
        match self {
            Self::Plain => {
                let turns: Vec<&str> = prompt.iter().map(|m| m.content.as_str()).collect();
                turns.join("\n")
            }
            Self::Hh => {
                let turn = |message: &Message| match message.role {
                    Role::Assistant => format!("\n\nAssistant: {}", message.content),
                    _ => format!("\n\nHuman: {}", message.content),
                };
                let turns: String = prompt.iter().map(turn).collect();
                format!("{turns}\n\nAssistant:")
            }
        }
    }
}
