//! How a policy is told the weights: a template, rendered canonically.

use serde::{Deserialize, Serialize};

use super::{ObjectiveSet, WeightError, WeightVector};
use crate::types::{ControlSpan, Placement};

/// The ways of telling a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditioningKind {
    /// The weights as numbers in the prompt (MO-ODPO, arXiv 2503.00295).
    #[default]
    WeightsText,
}

/// The text that tells the weights, between two special tokens that no caller can write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditioningTemplate {
    /// Which way.
    #[serde(default)]
    pub kind: ConditioningKind,
    /// Special token that opens the span.
    pub open: String,
    /// Special token that closes it.
    pub close: String,
    /// Text with `{name}` for each objective's weight, once each.
    pub template: String,
    /// Decimals of the weights, 0 to 4.
    pub decimals: u32,
    /// Where the span stands.
    #[serde(default)]
    pub placement: Placement,
}

impl ConditioningTemplate {
    /// Checks that the template names each objective once and nothing else.
    pub fn validate(&self, objectives: &ObjectiveSet) -> Result<(), WeightError> {
        let wrong = |reason: String| Err(WeightError::Definition(reason));
        if self.open.is_empty() || self.close.is_empty() || self.open == self.close {
            return wrong("conditioning needs two different special tokens, open and close".into());
        }
        if self.decimals > 4 {
            return wrong(format!(
                "conditioning.decimals is {}, expected 0 to 4",
                self.decimals
            ));
        }
        for objective in objectives.iter() {
            let slot = format!("{{{}}}", objective.name);
            if self.template.matches(&slot).count() != 1 {
                return wrong(format!(
                    "conditioning.template must hold `{slot}` exactly once"
                ));
            }
        }
        // Each of them was seen once, so as many braces as objectives leaves room for no other.
        let braces = |brace: char| self.template.matches(brace).count() != objectives.len();
        if braces('{') || braces('}') {
            let known = objectives.names();
            return wrong(format!(
                "conditioning.template holds a slot that is none of {known}"
            ));
        }
        Ok(())
    }

    /// The span that tells these weights; equal after rounding is equal text.
    pub fn render(&self, objectives: &ObjectiveSet, weights: &WeightVector) -> ControlSpan {
        let decimals = self.decimals as usize;
        let scale = f64::from(10u32.pow(self.decimals));
        let mut body = self.template.clone();
        for (objective, units) in objectives.iter().zip(weights.units(self.decimals)) {
            let number = format!("{:.decimals$}", f64::from(units) / scale);
            body = body.replace(&format!("{{{}}}", objective.name), &number);
        }
        let (open, close) = (self.open.clone(), self.close.clone());
        ControlSpan {
            open,
            body,
            close,
            placement: self.placement,
        }
    }
}
