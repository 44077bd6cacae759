//! Rewards an answer in which a pattern is found.

use regex::Regex;

use super::per_answer;
use crate::rewards::{Exchange, RewardError, RewardModel};

pub(super) fn reward(
    pattern: &str,
    found: f32,
    absent: f32,
) -> Result<Box<dyn RewardModel>, RewardError> {
    for (name, value) in [("found", found), ("absent", absent)] {
        if !value.is_finite() {
            let reason = format!("`{name}` is {value}, expected a finite number");
            return Err(RewardError::setting("regex", reason));
        }
    }
    let regex = Regex::new(pattern).map_err(|source| RewardError::Pattern {
        reward: "regex",
        pattern: pattern.to_owned(),
        source: Box::new(source),
    })?;
    Ok(per_answer("regex", move |exchange: &Exchange<'_>| {
        if regex.is_match(exchange.completion) {
            found
        } else {
            absent
        }
    }))
}
