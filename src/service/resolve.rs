//! Which weights one request gets: body, header, model suffix, checkpoint's defaults, in that order.
//!
//! Past this file no unchecked weight exists.

use super::error::RequestError;
use super::offer::{RawWeights, WeightsOffers, WeightsSource};
use crate::steering::{ObjectiveSet, WeightError, WeightVector};

/// How far two sources may lie apart, per objective, and still say the same.
const AGREEMENT: f32 = 1e-6;

/// Weights of one request, on the simplex.
#[derive(Debug, Clone)]
pub(super) struct ResolvedWeights {
    /// In the objectives' order.
    pub(super) vector: WeightVector,
    /// Who asked for them.
    pub(super) source: WeightsSource,
}

/// Checks every offer, refuses two that disagree, and takes the strongest.
///
/// # Errors
/// Weights that the objectives refuse, or a conflict.
pub(super) fn resolve(
    objectives: &ObjectiveSet,
    offers: &WeightsOffers,
) -> Result<ResolvedWeights, RequestError> {
    let mut winner: Option<ResolvedWeights> = None;
    for (source, raw) in offers.explicit() {
        let vector = on_simplex(objectives, raw).map_err(|error| RequestError::Weights {
            from: source,
            source: error,
        })?;
        match &winner {
            None => winner = Some(ResolvedWeights { vector, source }),
            Some(first) if agree(&first.vector, &vector) => {}
            Some(first) => {
                return Err(RequestError::ObjectiveConflict {
                    first: first.source,
                    first_weights: describe(objectives, &first.vector),
                    second: source,
                    second_weights: describe(objectives, &vector),
                });
            }
        }
    }
    Ok(winner.unwrap_or_else(|| ResolvedWeights {
        vector: objectives.defaults(),
        source: WeightsSource::Default,
    }))
}

fn on_simplex(objectives: &ObjectiveSet, raw: &RawWeights) -> Result<WeightVector, WeightError> {
    match raw {
        RawWeights::Named(pairs) => objectives.from_named(pairs),
        RawWeights::Ordered(values) => objectives.from_ordered(values),
    }
}

fn agree(a: &WeightVector, b: &WeightVector) -> bool {
    a.as_slice()
        .iter()
        .zip(b.as_slice())
        .all(|(a, b)| (a - b).abs() <= AGREEMENT)
}

/// `helpfulness=0.7,harmlessness=0.3`, the form that headers and suffixes take.
pub(super) fn describe(objectives: &ObjectiveSet, weights: &WeightVector) -> String {
    let pairs = objectives.iter().zip(weights.as_slice());
    pairs
        .map(|(objective, weight)| format!("{}={weight}", objective.name))
        .collect::<Vec<_>>()
        .join(",")
}
