//! Rewards an answer that is one JSON value and nothing else.

use serde::de::IgnoredAny;

use super::per_answer;
use crate::rewards::{Exchange, RewardModel};

pub(super) fn reward(object: bool) -> Box<dyn RewardModel> {
    per_answer("json_valid", move |exchange: &Exchange<'_>| {
        let text = exchange.completion.trim();
        let valid = serde_json::from_str::<IgnoredAny>(text).is_ok();
        f32::from(u8::from(valid && (!object || text.starts_with('{'))))
    })
}
