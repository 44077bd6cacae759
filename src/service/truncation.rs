//! How long a request lets its prompt be, and what is said of a prompt that was longer.

use super::app::App;
use super::error::RequestError;
use super::sampling::SamplingInput;
use crate::text::{Side, Truncation};

/// The field that asks for it.
pub(super) const FIELD: &str = "truncate_prompt_tokens";

/// How a request wants its prompts shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TruncationInput {
    /// Tokens that each prompt may have, the conditioning included; -1 for what the context holds
    /// beside the answer.
    pub tokens: i64,
    /// At which end it loses text.
    pub side: Side,
}

impl App {
    /// A request's wish in tokens, conditioning included.
    ///
    /// # Errors
    /// No prompt can have so many tokens.
    pub(super) fn truncation(
        &self,
        asked: Option<TruncationInput>,
        sampling: &SamplingInput,
    ) -> Result<Option<Truncation>, RequestError> {
        let Some(TruncationInput { tokens, side }) = asked else {
            return Ok(None);
        };
        let context = self.context_length();
        let highest = context.saturating_sub(1);
        let most = match usize::try_from(tokens) {
            Err(_) if tokens == -1 => beside_answer(context, sampling, self.defaults.max_tokens),
            Ok(tokens) if (1..=highest).contains(&tokens) => tokens,
            _ => {
                let problem = format!(
                    "must be between 1 and {highest}, or -1 for what the context holds beside the \
                     answer, got {tokens}"
                );
                return Err(RequestError::invalid(FIELD, problem));
            }
        };
        Ok(Some(Truncation { most, side }))
    }
}

/// Tokens of a context that an answer leaves: one of a stated length, or of the default length, of
/// which half the context must do.
fn beside_answer(context: usize, sampling: &SamplingInput, default: usize) -> usize {
    let answer = match sampling.max_tokens {
        Some(stated) => usize::try_from(stated).unwrap_or(usize::MAX),
        None => default.min(context / 2),
    };
    context.saturating_sub(answer).max(1)
}

/// Says of each prompt how much of it was left out, if any was.
pub(super) fn told(left_out: &[usize]) -> impl Iterator<Item = String> {
    let several = left_out.len() > 1;
    let cut = left_out.iter().enumerate().filter(|(_, cut)| **cut > 0);
    cut.map(move |(index, cut)| match several {
        true => format!("`{FIELD}` left out {cut} tokens of `prompt[{index}]`"),
        false => format!("`{FIELD}` left out {cut} tokens of the prompt"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_its_room() {
        let asked = |max_tokens| SamplingInput {
            max_tokens,
            ..SamplingInput::default()
        };
        for (max_tokens, expected) in [
            (Some(100), 412),
            (Some(512), 1),
            (Some(u64::MAX), 1),
            (None, 256),
        ] {
            assert_eq!(beside_answer(512, &asked(max_tokens), 400), expected);
        }
        assert_eq!(beside_answer(512, &asked(None), 40), 472);
    }

    #[test]
    fn prompts_that_lost_something_are_named() {
        let said = |left_out: &[usize]| told(left_out).collect::<Vec<_>>();
        assert!(said(&[0, 0]).is_empty());
        assert_eq!(
            said(&[7]),
            ["`truncate_prompt_tokens` left out 7 tokens of the prompt"]
        );
        assert_eq!(
            said(&[0, 7]),
            ["`truncate_prompt_tokens` left out 7 tokens of `prompt[1]`"]
        );
    }
}
