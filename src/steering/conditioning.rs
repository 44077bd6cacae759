//! How a policy is told the weights: in its prompt, rendered canonically, or in its tensors.

mod kind;
mod pieces;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::pieces::{Piece, pieces};
use super::{ObjectiveSet, TargetRange, TargetRule, WeightError, WeightVector};
use crate::types::{ControlSpan, Placement};

pub use self::kind::ConditioningKind;

/// How a policy is told the weights. Of the kinds that are told in the prompt, the text stands
/// between two special tokens that no caller can write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditioningTemplate {
    /// Which way.
    #[serde(default)]
    pub kind: ConditioningKind,
    /// Special token that opens the span; none of a kind without text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub open: String,
    /// Special token that closes it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub close: String,
    /// Text with a slot for what is told of each objective, once each: `{name}` writes a number,
    /// `{name:word}` writes the word once for each tenth of a weight (with one decimal).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub template: String,
    /// Decimals of what is told, 0 to 4.
    pub decimals: u32,
    /// Where the span stands.
    #[serde(default)]
    pub placement: Placement,
    /// What can be asked of each objective, in their order; none of a kind that is told weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetRange>,
    /// How weights become targets; the kind's own rule where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<TargetRule>,
}

impl ConditioningTemplate {
    /// Checks that everything is there that the kind needs, for each objective once, and nothing
    /// else.
    pub fn validate(&self, objectives: &ObjectiveSet) -> Result<(), WeightError> {
        let wrong = |reason: String| Err(WeightError::Definition(reason));
        if self.decimals > 4 {
            return wrong(format!(
                "conditioning.decimals is {}, expected 0 to 4",
                self.decimals
            ));
        }
        self.check_targets(objectives)?;
        if !self.kind.is_text() {
            let texts = [&self.open, &self.close, &self.template];
            return match texts.iter().all(|text| text.is_empty()) {
                true => Ok(()),
                false => wrong(format!(
                    "conditioning of kind {} is told nothing in the prompt, so it has no open, \
                     close or template",
                    self.kind.as_str()
                )),
            };
        }
        if self.open.is_empty() || self.close.is_empty() || self.open == self.close {
            return wrong("conditioning needs two different special tokens, open and close".into());
        }
        self.check_text(objectives)
    }

    fn check_text(&self, objectives: &ObjectiveSet) -> Result<(), WeightError> {
        let wrong = |reason: String| Err(WeightError::Definition(reason));
        let pieces = pieces(&self.template);
        for objective in objectives.iter() {
            let named = pieces.iter().filter(|piece| piece.names(&objective.name));
            if named.count() != 1 {
                let name = &objective.name;
                return wrong(format!(
                    "conditioning.template must hold `{{{name}}}` or `{{{name}:word}}` exactly once"
                ));
            }
        }
        let known = objectives.names();
        for piece in &pieces {
            match piece {
                Piece::Text(text) if text.contains(['{', '}']) => {
                    return wrong("conditioning.template has an unpaired brace".into());
                }
                Piece::Words(..) if self.kind != ConditioningKind::WeightsText => {
                    return wrong(format!(
                        "conditioning.template counts words, which tell weights only, not the \
                         targets of kind {}",
                        self.kind.as_str()
                    ));
                }
                Piece::Words(_, word) if word.trim().is_empty() || self.decimals > 1 => {
                    return wrong(
                        "conditioning.template writes a weight in words: expected a word behind \
                         the colon, and decimals of 0 or 1, as there is one word for each unit"
                            .into(),
                    );
                }
                Piece::Number(name) | Piece::Words(name, _)
                    if !objectives.iter().any(|objective| objective.name == *name) =>
                {
                    return wrong(format!(
                        "conditioning.template holds a slot that is none of {known}"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_targets(&self, objectives: &ObjectiveSet) -> Result<(), WeightError> {
        let kind = self.kind.as_str();
        let wrong = |reason: String| Err(WeightError::Definition(reason));
        if self.kind.default_rule().is_none() {
            return match self.targets.is_empty() && self.rule.is_none() {
                true => Ok(()),
                false => wrong(format!(
                    "conditioning of kind {kind} is told weights, so it has no targets and no rule"
                )),
            };
        }
        let (found, expected) = (self.targets.len(), objectives.len());
        if found != expected {
            return wrong(format!(
                "conditioning.targets has {found} ranges, expected {expected}, one for each of {}",
                objectives.names()
            ));
        }
        if self.kind.is_whole() && self.decimals != 0 {
            return wrong(format!(
                "conditioning.decimals is {}, expected 0, as {kind} are whole numbers",
                self.decimals
            ));
        }
        for (objective, range) in objectives.iter().zip(&self.targets) {
            let whole = range.low.fract() == 0.0 && range.high.fract() == 0.0;
            let falls = range.low > range.high && !self.kind.may_fall();
            if !range.is_sound(self.decimals) || falls || (self.kind.is_whole() && !whole) {
                return wrong(format!(
                    "conditioning.targets of `{}` is {} to {}, expected {}",
                    objective.name,
                    range.low,
                    range.high,
                    self.kind.describe_range()
                ));
            }
        }
        Ok(())
    }

    /// How weights become targets; `None` of a kind that is told weights.
    pub fn target_rule(&self) -> Option<TargetRule> {
        let own = self.kind.default_rule()?;
        Some(self.rule.unwrap_or(own))
    }

    /// What the policy is told of each objective, in whole units of the last decimal.
    fn units(&self, weights: &WeightVector) -> Vec<i64> {
        match self.target_rule() {
            Some(rule) => rule.targets(&self.targets, self.decimals, weights),
            None => weights
                .units(self.decimals)
                .into_iter()
                .map(i64::from)
                .collect(),
        }
    }

    /// What the policy is told of each objective, in their order: weights, or targets, rounded.
    pub fn told(&self, weights: &WeightVector) -> Vec<f32> {
        let scale = f64::from(10u32.pow(self.decimals));
        let units = self.units(weights).into_iter();
        units.map(|unit| (unit as f64 / scale) as f32).collect()
    }

    /// The weights that training counts with: rounded as they are told, so that a policy is judged
    /// by what it heard. Targets are another scale, beside which weights stay as they are.
    pub fn heard(&self, weights: &WeightVector) -> WeightVector {
        match self.target_rule() {
            Some(_) => weights.clone(),
            None => weights.rounded(self.decimals),
        }
    }

    /// The span that tells these weights; equal after rounding is equal text. `None` of a kind that
    /// is told nothing in the prompt.
    pub fn render(&self, objectives: &ObjectiveSet, weights: &WeightVector) -> Option<ControlSpan> {
        self.kind
            .is_text()
            .then(|| self.write(objectives, &self.units(weights)))
    }

    /// The span that asks for these values of the objectives, in their order, each as near as its
    /// range comes; what an answer that has them is trained under. `None` of a kind that is told
    /// weights.
    pub fn render_targets(&self, objectives: &ObjectiveSet, values: &[f32]) -> Option<ControlSpan> {
        self.target_rule()?;
        let ranges = values.iter().zip(&self.targets);
        let units: Vec<i64> = ranges
            .map(|(value, range)| range.nearest(*value, self.decimals))
            .collect();
        Some(self.write(objectives, &units))
    }

    /// The spans of all weights that are written differently; where these are very many, of those on
    /// the finest coarser grid, all weight on one objective included. Of a kind that is told targets,
    /// of weights in twentieths.
    pub fn spans(&self, objectives: &ObjectiveSet) -> Vec<ControlSpan> {
        let units = match self.target_rule() {
            Some(_) => TARGET_EDGE,
            None => 10u32.pow(self.decimals),
        };
        let few = |edge: &u32| grid_points(*edge, objectives.len()) <= MOST_SPANS;
        let mut edges = (1..=units).rev().filter(|edge| units.is_multiple_of(*edge));
        let edge = edges.find(few).unwrap_or(1);
        let render = |parts: Vec<u32>| {
            let shares = parts
                .into_iter()
                .map(|part| f64::from(part) / f64::from(edge));
            self.render(objectives, &WeightVector::on_simplex(shares))
        };
        sums(edge, objectives.len())
            .into_iter()
            .filter_map(render)
            .collect()
    }

    fn write(&self, objectives: &ObjectiveSet, units: &[i64]) -> ControlSpan {
        let decimals = self.decimals as usize;
        let scale = f64::from(10u32.pow(self.decimals));
        let units_of = |name: &str| objectives.index(name).map_or(0, |place| units[place]);
        let body = pieces(&self.template).into_iter().map(|piece| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Number(name) => format!("{:.decimals$}", units_of(name) as f64 / scale),
            Piece::Words(name, word) => {
                let count = usize::try_from(units_of(name)).unwrap_or(0);
                vec![word; count].join(" ")
            }
        });
        ControlSpan {
            open: self.open.clone(),
            body: body.collect(),
            close: self.close.clone(),
            placement: self.placement,
        }
    }
}

/// Most spans that are written out.
const MOST_SPANS: f64 = 20_000.0;
/// Parts of the weights under which spans of targets are looked at.
const TARGET_EDGE: u32 = 20;

/// How many `sums` there are.
fn grid_points(edge: u32, objectives: usize) -> f64 {
    (1..objectives).fold(1.0, |points, k| {
        points * (f64::from(edge) + k as f64) / k as f64
    })
}

/// Every way to write `total` as an ordered sum of `count` whole numbers.
fn sums(total: u32, count: usize) -> Vec<Vec<u32>> {
    if count <= 1 {
        return vec![vec![total]; count];
    }
    let with_first = |first: u32| {
        let rest = sums(total - first, count - 1).into_iter();
        rest.map(move |rest| [vec![first], rest].concat())
    };
    (0..=total).flat_map(with_first).collect()
}
