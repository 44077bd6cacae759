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
    /// Text with a slot for each objective's weight, once each: `{name}` writes it as a number,
    /// `{name:word}` writes the word once for each tenth (with one decimal).
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

    /// The span that tells these weights; equal after rounding is equal text.
    pub fn render(&self, objectives: &ObjectiveSet, weights: &WeightVector) -> ControlSpan {
        self.write(objectives, &weights.units(self.decimals))
    }

    /// The spans of all weights that are written differently; where these are very many, of those on
    /// the finest coarser grid, all weight on one objective included.
    pub fn spans(&self, objectives: &ObjectiveSet) -> Vec<ControlSpan> {
        let units = 10u32.pow(self.decimals);
        let edges = (1..=units).rev().filter(|edge| units.is_multiple_of(*edge));
        let few = |edge: &u32| grid_points(*edge, objectives.len()) <= MOST_SPANS;
        let edge = edges.into_iter().find(few).unwrap_or(1);
        let write = |mut parts: Vec<u32>| {
            parts.iter_mut().for_each(|part| *part *= units / edge);
            self.write(objectives, &parts)
        };
        sums(edge, objectives.len())
            .into_iter()
            .map(write)
            .collect()
    }

    /// `units` are whole ones of the last decimal.
    fn write(&self, objectives: &ObjectiveSet, units: &[u32]) -> ControlSpan {
        let decimals = self.decimals as usize;
        let scale = f64::from(10u32.pow(self.decimals));
        let units_of = |name: &str| {
            let place = objectives.iter().position(|o| o.name == name);
            place.map_or(0, |place| units[place])
        };
        let body = pieces(&self.template).into_iter().map(|piece| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Number(name) => format!("{:.decimals$}", f64::from(units_of(name)) / scale),
            Piece::Words(name, word) => vec![word; units_of(name) as usize].join(" "),
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

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Piece<'a> {
    /// Written as it stands.
    Text(&'a str),
    /// `{name}`: the weight as a number.
    Number(&'a str),
    /// `{name:word}`: the word once for each unit of the last decimal. A model need not learn
    /// which number belongs to which objective: how often a word stands there says it all.
    Words(&'a str, &'a str),
}

impl Piece<'_> {
    fn names(&self, objective: &str) -> bool {
        matches!(self, Piece::Number(name) | Piece::Words(name, _) if *name == objective)
    }
}

fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, (slot, after))) = rest
        .split_once('{')
        .and_then(|(text, slot)| Some((text, slot.split_once('}')?)))
    {
        pieces.push(Piece::Text(text));
        pieces.push(match slot.split_once(':') {
            Some((name, word)) => Piece::Words(name, word),
            None => Piece::Number(slot),
        });
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::Objective;

    fn objectives() -> ObjectiveSet {
        let objective = |name: &str| Objective {
            name: name.to_owned(),
            description: String::new(),
            default_weight: 1.0,
            min_weight: 0.0,
            max_weight: None,
        };
        ObjectiveSet::new(["brevity", "detail"].map(objective).to_vec()).unwrap()
    }

    fn template(text: &str, decimals: u32) -> ConditioningTemplate {
        ConditioningTemplate {
            kind: ConditioningKind::WeightsText,
            open: "<w>".into(),
            close: "</w>".into(),
            template: text.into(),
            decimals,
            placement: Placement::PromptEnd,
        }
    }

    #[test]
    fn all_spans_are_those_of_all_weights() {
        let objectives = objectives();
        let bodies = |text: &str, decimals: u32| -> Vec<String> {
            let spans = template(text, decimals).spans(&objectives);
            spans.into_iter().map(|span| span.body).collect()
        };
        let words = bodies("{brevity:a} {detail:b c}", 0);
        assert_eq!(words, [" b c", "a "]);
        let tenths = bodies("{brevity} {detail}", 1);
        assert_eq!(tenths.len(), 11);
        for tenth in 0..=10 {
            let weights = [f64::from(tenth), f64::from(10 - tenth)];
            let weights = objectives.from_ordered(&weights).unwrap();
            let span = template("{brevity} {detail}", 1).render(&objectives, &weights);
            assert!(tenths.contains(&span.body), "{}", span.body);
        }
        // 1001 would be, and 20,000 are allowed; of three objectives 501,501
        assert_eq!(bodies("{brevity} {detail}", 3).len(), 1001);
        assert_eq!(grid_points(1000, 3), 501_501.0);
    }

    #[test]
    fn weights_are_written_as_numbers_or_counted_in_words() {
        let objectives = objectives();
        let weights = objectives.from_ordered(&[0.31, 0.69]).unwrap();
        for (text, body) in [
            (
                "brevity {brevity}, detail {detail}",
                "brevity 0.3, detail 0.7",
            ),
            (
                "{detail:long} {brevity:short}",
                "long long long long long long long short short short",
            ),
            ("{brevity}{detail:x}", "0.3x x x x x x x"),
        ] {
            let template = template(text, 1);
            template.validate(&objectives).unwrap();
            assert_eq!(template.render(&objectives, &weights).body, body);
        }
    }

    #[test]
    fn a_template_that_does_not_fit_is_refused() {
        for (text, decimals, said) in [
            ("{brevity}", 1, "`{detail}`"),
            ("{brevity} {detail} {brevity:b}", 1, "exactly once"),
            ("{brevity} {detail} {mood}", 1, "none of"),
            ("{bre{detail}vity} {brevity}", 1, "`{detail}`"),
            ("{brevity} {detail} }", 1, "unpaired"),
            ("{brevity: } {detail}", 1, "behind the colon"),
            ("{brevity:b} {detail:d}", 2, "decimals of 0 or 1"),
        ] {
            let error = template(text, decimals)
                .validate(&objectives())
                .unwrap_err();
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
    }
}
