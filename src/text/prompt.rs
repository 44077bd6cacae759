//! Whole prompts as token ids: conversation, control span, generation marker.

use std::path::Path;
use std::sync::Arc;

use super::shield::Shield;
use super::{ChatTemplate, TextError, Tokenizer};
use crate::types::{ControlSpan, Message, Placement, Role, TokenId};

/// A checkpoint's tokenizer and chat template, joined.
pub struct PromptEncoder {
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
}

impl PromptEncoder {
    /// Reads a model folder.
    pub fn load(dir: &Path) -> Result<Self, TextError> {
        let tokenizer = Tokenizer::load(dir)?;
        let template = ChatTemplate::load(dir, &tokenizer)?;
        Ok(Self::of_parts(tokenizer, template))
    }

    /// Joins what was read elsewhere.
    pub(super) fn of_parts(tokenizer: Tokenizer, template: Option<ChatTemplate>) -> Self {
        Self {
            tokenizer: Arc::new(tokenizer),
            template,
        }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Whether conversations can be encoded.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Checks that caller text cannot write the span's fences.
    pub fn check_span(&self, span: &ControlSpan) -> Result<(), TextError> {
        let probe = match &self.template {
            Some(_) => self.render(&[Message::user("a")], true)?,
            None => Vec::new(),
        };
        for text in [&span.open, &span.close] {
            if probe.contains(&self.fence(text)?) {
                return Err(TextError::FenceInTemplate(text.clone()));
            }
        }
        Ok(())
    }

    fn fence(&self, text: &str) -> Result<TokenId, TextError> {
        self.tokenizer
            .special_id(text)
            .filter(|_| !self.tokenizer.stands_for_unknown(text))
            .ok_or_else(|| TextError::SpanToken(text.to_owned()))
    }

    /// A conversation and the marker that asks for an answer.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        span: Option<&ControlSpan>,
    ) -> Result<Vec<TokenId>, TextError> {
        let prompt = self.render(messages, true)?;
        let Some(span) = span else { return Ok(prompt) };
        let at = match span.placement {
            Placement::PromptStart => self.after_bos(&prompt),
            Placement::PromptEnd => {
                let without = self.render(messages, false)?;
                self.stable_len(&without, &prompt).unwrap_or(prompt.len())
            }
        };
        self.insert(prompt, at, span)
    }

    /// A whole dialogue, and for each token whether the assistant wrote it (its end tokens
    /// included): what supervised training learns from.
    pub fn encode_dialogue(
        &self,
        messages: &[Message],
        span: Option<&ControlSpan>,
    ) -> Result<(Vec<TokenId>, Vec<bool>), TextError> {
        let whole = self.render(messages, false)?;
        let mut mask = vec![false; whole.len()];
        for (turn, message) in messages.iter().enumerate() {
            if message.role != Role::Assistant {
                continue;
            }
            let before = self.render(&messages[..turn], true)?;
            let after = self.render(&messages[..=turn], false)?;
            let start = Some(before.len()).filter(|_| whole.starts_with(&before));
            let end = self.stable_len(&after, &whole);
            match (start, end) {
                (Some(start), Some(end)) if start <= end => mask[start..end].fill(true),
                _ => return Err(TextError::NotPrefixStable(turn)),
            }
        }
        let Some(span) = span else {
            return Ok((whole, mask));
        };
        let at = match span.placement {
            Placement::PromptStart => self.after_bos(&whole),
            // before the first answer's marker: where a prompt of that length would have it
            Placement::PromptEnd => {
                let first = messages.iter().position(|m| m.role == Role::Assistant);
                self.render(&messages[..first.unwrap_or(messages.len())], false)?
                    .len()
            }
        };
        let with_span = self.insert(whole, at, span)?;
        let added = with_span.len() - mask.len();
        mask.splice(at..at, std::iter::repeat_n(false, added));
        Ok((with_span, mask))
    }

    /// A plain text prompt, without any template.
    pub fn encode_prompt(
        &self,
        prompt: &str,
        span: Option<&ControlSpan>,
    ) -> Result<Vec<TokenId>, TextError> {
        self.encode_ids(self.tokenizer.encode_with_bos(prompt)?, span)
    }

    /// Token ids as they are, and the span among them.
    pub fn encode_ids(
        &self,
        ids: Vec<TokenId>,
        span: Option<&ControlSpan>,
    ) -> Result<Vec<TokenId>, TextError> {
        let Some(span) = span else { return Ok(ids) };
        let at = match span.placement {
            Placement::PromptStart => self.after_bos(&ids),
            Placement::PromptEnd => ids.len(),
        };
        self.insert(ids, at, span)
    }

    fn render(&self, messages: &[Message], marker: bool) -> Result<Vec<TokenId>, TextError> {
        let template = self.template.as_ref().ok_or(TextError::NoChatTemplate)?;
        if messages.is_empty() {
            return Err(TextError::NoMessages);
        }
        let mut shield = Shield::default();
        let covered = shield.cover(messages, &self.tokenizer);
        shield.encode(&template.render(&covered, marker)?, &self.tokenizer)
    }

    /// How much of `part` the longer rendering begins with, where they differ at most in special
    /// tokens that the template puts at the very end (Phi-3's does).
    fn stable_len(&self, part: &[TokenId], whole: &[TokenId]) -> Option<usize> {
        let shared = part.iter().zip(whole).take_while(|(a, b)| a == b).count();
        let left = &part[shared..];
        left.iter()
            .all(|id| self.tokenizer.is_special(*id))
            .then_some(shared)
    }

    fn after_bos(&self, ids: &[TokenId]) -> usize {
        usize::from(
            ids.first()
                .is_some_and(|first| Some(*first) == self.tokenizer.bos_id()),
        )
    }

    fn insert(
        &self,
        mut ids: Vec<TokenId>,
        at: usize,
        span: &ControlSpan,
    ) -> Result<Vec<TokenId>, TextError> {
        let fences = [self.fence(&span.open)?, self.fence(&span.close)?];
        let body = self.tokenizer.encode_plain(&span.body)?;
        // No fence may come from anywhere else, however a text got past the shield.
        for (fence, text) in fences.iter().zip([&span.open, &span.close]) {
            if ids.contains(fence) || body.contains(fence) {
                return Err(TextError::ForgedSpan(text.clone()));
            }
        }
        let control = [&fences[..1], &body, &fences[1..]].concat();
        ids.splice(at..at, control);
        Ok(ids)
    }
}
