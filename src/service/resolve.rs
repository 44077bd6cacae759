//! Which weights one request gets: body, header, profile, model suffix, metadata, user, key,
//! checkpoint's defaults, in that order.
//!
//! The first five are explicit: two that disagree are an error. `user` and the key's default
//! profile only fill in. Past this file no unchecked weight exists, nor one that the caller's key
//! forbids.

use super::access::Access;
use super::app::App;
use super::error::RequestError;
use super::offer::{RawWeights, WeightsOffers, WeightsSource};
use super::selector::Suffix;
use crate::steering::{ObjectiveSet, WeightError, WeightVector};

/// How far two sources may lie apart, per objective, and still say the same.
const AGREEMENT: f32 = 1e-6;

/// Weights that a request brings, strongest first, with the profiles it names looked up.
pub(super) type Gathered = Vec<(WeightsSource, RawWeights)>;

/// Weights of one request, on the simplex.
#[derive(Debug, Clone)]
pub(super) struct ResolvedWeights {
    /// In the objectives' order.
    pub(super) vector: WeightVector,
    /// Who asked for them.
    pub(super) source: WeightsSource,
}

impl App {
    /// Everything explicit that a request says of weights.
    ///
    /// # Errors
    /// It names a profile that does not exist, or profiles cannot be read.
    pub(super) async fn explicit_weights(
        &self,
        offers: &WeightsOffers,
        suffix: Option<Suffix>,
    ) -> Result<Gathered, RequestError> {
        let mut gathered = Vec::new();
        let stated = [
            (WeightsSource::Body, &offers.body),
            (WeightsSource::Header, &offers.header),
        ];
        for (source, raw) in stated {
            gathered.extend(raw.clone().map(|raw| (source, raw)));
        }
        if let Some(name) = &offers.profile {
            let raw = self.weights_of(name, WeightsSource::Profile).await?;
            gathered.push((WeightsSource::Profile, raw));
        }
        match suffix {
            None => {}
            Some(Suffix::Weights(raw)) => gathered.push((WeightsSource::Model, raw)),
            Some(Suffix::Profile(name)) => {
                let raw = self.weights_of(&name, WeightsSource::Model).await?;
                gathered.push((WeightsSource::Model, raw));
            }
        }
        let metadata = offers.metadata.clone();
        gathered.extend(metadata.map(|raw| (WeightsSource::Metadata, raw)));
        Ok(gathered)
    }

    /// What fills in where nothing is explicit: the profile of `user`, else the key's.
    ///
    /// # Errors
    /// The key's default profile does not exist, or profiles cannot be read.
    pub(super) async fn implied_weights(
        &self,
        user: Option<&str>,
        access: &Access,
    ) -> Result<Option<(WeightsSource, RawWeights)>, RequestError> {
        if let Some(user) = user
            && let Some(raw) = self.find_weights(user).await?
        {
            return Ok(Some((WeightsSource::User, raw)));
        }
        let Some(name) = &access.default_profile else {
            return Ok(None);
        };
        // other weights than the key's owner set would be a silent surprise
        let raw = self.weights_of(name, WeightsSource::Key).await?;
        Ok(Some((WeightsSource::Key, raw)))
    }

    async fn weights_of(
        &self,
        name: &str,
        from: WeightsSource,
    ) -> Result<RawWeights, RequestError> {
        let found = self.find_weights(name).await?;
        found.ok_or_else(|| RequestError::ProfileNotFound {
            name: super::app::clipped(name),
            from: Some(from),
        })
    }
}

/// Checks all weights, refuses two that disagree, and takes the strongest; without any, the
/// checkpoint's defaults.
///
/// # Errors
/// Weights that the objectives or the caller's key refuse, or a conflict.
pub(super) fn resolve(
    objectives: &ObjectiveSet,
    gathered: &Gathered,
    access: &Access,
) -> Result<ResolvedWeights, RequestError> {
    let mut winner: Option<ResolvedWeights> = None;
    for (source, raw) in gathered {
        let source = *source;
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
    let resolved = winner.unwrap_or_else(|| ResolvedWeights {
        vector: objectives.defaults(),
        source: WeightsSource::Default,
    });
    access.check_weights(objectives, &resolved.vector)?;
    Ok(resolved)
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
