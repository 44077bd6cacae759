//! Rewards an answer's length.

use serde::{Deserialize, Serialize};

use super::{per_answer, words::words};
use crate::rewards::{Exchange, RewardError, RewardModel};

/// What a length counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// The policy's tokens.
    Tokens,
    /// Words.
    Words,
    /// Characters.
    Characters,
}

/// Which lengths are good.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthGoal {
    /// The shorter the better.
    Shorter,
    /// The longer the better.
    Longer,
    /// The nearer to this length the better.
    Near(f32),
}

pub(super) fn reward(
    unit: LengthUnit,
    goal: LengthGoal,
    scale: f32,
) -> Result<Box<dyn RewardModel>, RewardError> {
    if !(scale.is_finite() && scale > 0.0) {
        let reason = format!("`scale` is {scale}, expected a number above 0");
        return Err(RewardError::setting("length", reason));
    }
    if let LengthGoal::Near(target) = goal
        && !(target.is_finite() && target >= 0.0)
    {
        let reason = format!("`near` is {target}, expected a length of 0 or more");
        return Err(RewardError::setting("length", reason));
    }
    Ok(per_answer("length", move |exchange: &Exchange<'_>| {
        let length = match unit {
            LengthUnit::Tokens => exchange.completion_tokens,
            LengthUnit::Words => words(exchange.completion).len(),
            LengthUnit::Characters => exchange.completion.chars().count(),
        } as f32;
        match goal {
            LengthGoal::Shorter => -length / scale,
            LengthGoal::Longer => length / scale,
            LengthGoal::Near(target) => -(length - target).abs() / scale,
        }
    }))
}
