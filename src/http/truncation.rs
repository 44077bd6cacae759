//! The fields that shorten prompts.

use serde::Deserialize;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::service::{Side, TruncationInput};

/// How long a prompt may be.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
pub(super) struct TruncationFields {
    /// Most tokens of each prompt, as `usage.prompt_tokens` counts them; a longer one loses its
    /// oldest text, which `warnings` tell. -1 is what the context holds beside the answer
    /// (`max_tokens`, else its default, at most half of the context). The conditioning is never
    /// shortened. Of a conversation only the messages' texts are, the oldest first, then the
    /// system's, at last the newest, and what the chat template writes around them stays whole; a
    /// plain prompt keeps its beginning-of-sequence token. `echo` tells prompts whole. Default: a prompt that
    /// is too long is refused.
    #[schema(minimum = -1)]
    truncate_prompt_tokens: Option<i64>,
    /// Which end of the prompt is left out. Default: `left`, the oldest text.
    #[schema(value_type = Option<SideField>)]
    truncation_side: Option<SideField>,
}

/// `left` or `right`.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TruncationSide)]
enum SideField {
    Left,
    Right,
}

impl TruncationFields {
    /// The wish, where there is one.
    pub(super) fn read(self) -> Result<Option<TruncationInput>, ApiError> {
        let side = match self.truncation_side {
            None | Some(SideField::Left) => Side::Left,
            Some(SideField::Right) => Side::Right,
        };
        if self.truncate_prompt_tokens.is_none() && self.truncation_side.is_some() {
            let message = "`truncation_side` needs `truncate_prompt_tokens`, the tokens that a \
                           prompt may have";
            return Err(ApiError::invalid("invalid_value", message).with_param("truncation_side"));
        }
        let tokens = self.truncate_prompt_tokens;
        Ok(tokens.map(|tokens| TruncationInput { tokens, side }))
    }
}
