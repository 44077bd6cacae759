//! Whole prompts as token ids: conversation, control span, generation marker.

use std::path::Path;
use std::sync::Arc;

use super::shield::Shield;
use super::truncation::Truncation;
use super::{ChatTemplate, TextError, Tokenizer};
use crate::types::{ControlSpan, Message, Placement, Role, TokenId};

/// A checkpoint's tokenizer and chat template, joined.
pub struct PromptEncoder {
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
}

/// A prompt's tokens, and where a control span goes among them: a prompt is encoded once, however
/// many spans it is answered under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPrompt {
    ids: Vec<TokenId>,
    at: usize,
    left_out: usize,
}

impl OpenPrompt {
    /// Its tokens, without any span.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// How many tokens of it were left out.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The same, as what is left of so many tokens.
    pub(super) fn without(self, whole: usize) -> Self {
        Self {
            left_out: whole.saturating_sub(self.ids.len()),
            ..self
        }
    }
}

/// What a prompt is encoded for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening {
    /// Where its span will go; any where it will have none.
    pub placement: Placement,
    /// Refused, before it is encoded, where its length alone says that it has so many tokens.
    pub most: Option<usize>,
    /// Shortened where it has more tokens.
    pub truncation: Option<Truncation>,
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
            Some(_) => self.render(&[Message::user("a")], true, None)?,
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
        let opened = self.open_chat(messages, opening(span))?;
        self.close(&opened, span)
    }

    /// A conversation and the marker that asks for an answer, for any spans.
    ///
    /// # Errors
    /// It cannot be rendered or encoded, or is too long.
    pub fn open_chat(
        &self,
        messages: &[Message],
        mut opening: Opening,
    ) -> Result<OpenPrompt, TextError> {
        if let Some(truncation) = opening.truncation.take() {
            return self.open_truncated_chat(messages, opening, truncation);
        }
        let ids = self.render(messages, true, opening.most)?;
        let at = match opening.placement {
            Placement::PromptStart => self.after_bos(&ids),
            Placement::PromptEnd => {
                let without = self.render(messages, false, opening.most)?;
                self.stable_len(&without, &ids).unwrap_or(ids.len())
            }
        };
        Ok(OpenPrompt {
            ids,
            at,
            left_out: 0,
        })
    }

    /// A plain text prompt, without any template, for any spans.
    ///
    /// # Errors
    /// It cannot be encoded, or is too long.
    pub fn open_text(&self, prompt: &str, opening: Opening) -> Result<OpenPrompt, TextError> {
        if let Some(most) = opening.most {
            self.tokenizer.check_length(prompt, most)?;
        }
        let ids = self.tokenizer.encode_with_bos(prompt)?;
        self.open_ids(ids, opening)
    }

    /// Token ids as they are, for any spans.
    ///
    /// # Errors
    /// Nothing of them would be left.
    pub fn open_ids(&self, ids: Vec<TokenId>, opening: Opening) -> Result<OpenPrompt, TextError> {
        let whole = ids.len();
        let ids = match opening.truncation {
            Some(truncation) => self.truncated(ids, truncation)?,
            None => ids,
        };
        let at = match opening.placement {
            Placement::PromptStart => self.after_bos(&ids),
            Placement::PromptEnd => ids.len(),
        };
        let left_out = 0;
        Ok(OpenPrompt { ids, at, left_out }.without(whole))
    }

    /// An opened prompt with a span at its place, or with none.
    ///
    /// # Errors
    /// The prompt or the span's own text spells one of its fences.
    pub fn close(
        &self,
        opened: &OpenPrompt,
        span: Option<&ControlSpan>,
    ) -> Result<Vec<TokenId>, TextError> {
        match span {
            None => Ok(opened.ids.clone()),
            Some(span) => self.insert(opened.ids.clone(), opened.at, span),
        }
    }

    /// Tokens of a span, its fences included.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn span_len(&self, span: &ControlSpan) -> Result<usize, TextError> {
        Ok(self.tokenizer.encode_plain(&span.body)?.len() + 2)
    }

    /// A whole dialogue, and for each token whether the assistant wrote it (its end tokens
    /// included): what supervised training learns from.
    pub fn encode_dialogue(
        &self,
        messages: &[Message],
        span: Option<&ControlSpan>,
    ) -> Result<(Vec<TokenId>, Vec<bool>), TextError> {
        self.encode_turns(messages, |_| true, span)
    }

    /// A whole dialogue, and for each token whether it is of an assistant's turn that is `wanted`,
    /// by its place.
    pub fn encode_turns(
        &self,
        messages: &[Message],
        wanted: impl Fn(usize) -> bool,
        span: Option<&ControlSpan>,
    ) -> Result<(Vec<TokenId>, Vec<bool>), TextError> {
        let whole = self.render(messages, false, None)?;
        let mut mask = vec![false; whole.len()];
        for (turn, message) in messages.iter().enumerate() {
            if message.role != Role::Assistant || !wanted(turn) {
                continue;
            }
            let before = self.render(&messages[..turn], true, None)?;
            let after = self.render(&messages[..=turn], false, None)?;
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
                self.render(&messages[..first.unwrap_or(messages.len())], false, None)?
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
        self.close(&self.open_text(prompt, opening(span))?, span)
    }

    fn render(
        &self,
        messages: &[Message],
        marker: bool,
        most: Option<usize>,
    ) -> Result<Vec<TokenId>, TextError> {
        let template = self.template.as_ref().ok_or(TextError::NoChatTemplate)?;
        if messages.is_empty() {
            return Err(TextError::NoMessages);
        }
        let mut shield = Shield::default();
        let covered = shield.cover(messages, &self.tokenizer);
        let rendered = template.render(&covered, marker)?;
        // what the template left of it, because many drop blanks or whole turns
        if let Some(most) = most {
            self.tokenizer.check_length(&rendered, most)?;
        }
        shield.encode(&rendered, &self.tokenizer)
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

    pub(super) fn after_bos(&self, ids: &[TokenId]) -> usize {
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

/// For one span, at any length.
fn opening(span: Option<&ControlSpan>) -> Opening {
    Opening {
        placement: span.map_or_else(Placement::default, |span| span.placement),
        most: None,
        truncation: None,
    }
}
