//! Objective weights on the wire: how callers write them, and how replies tell what was used.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, ObjectBuilder, OneOfBuilder, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::error::ApiError;
use crate::service::{RawWeights, RequestError, SteeringUsed, WeightsSource};

/// The header that carries weights.
pub(super) const WEIGHTS_HEADER: HeaderName = HeaderName::from_static("x-objective-weights");
const STEERING_HEADER: HeaderName = HeaderName::from_static("x-steering-weights");
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-policy-version");

/// `objective_weights`: by name, or in the checkpoint's order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WeightsField(pub(super) RawWeights);

impl<'de> Deserialize<'de> for WeightsField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WeightsVisitor).map(Self)
    }
}

struct WeightsVisitor;

impl<'de> Visitor<'de> for WeightsVisitor {
    type Value = RawWeights;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of objective names and numbers, or an array of numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawWeights, A::Error> {
        let mut pairs = Vec::new();
        while let Some(name) = entries.next_key::<String>()? {
            let weight = entries
                .next_value()
                .map_err(|error| A::Error::custom(format!("the weight of `{name}`: {error}")))?;
            pairs.push((name, weight));
        }
        Ok(RawWeights::Named(pairs))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawWeights, A::Error> {
        let mut weights = Vec::new();
        while let Some(weight) = items.next_element()? {
            weights.push(weight);
        }
        Ok(RawWeights::Ordered(weights))
    }
}

impl PartialSchema for WeightsField {
    fn schema() -> RefOr<Schema> {
        let number = || ObjectBuilder::new().schema_type(Type::Number);
        OneOfBuilder::new()
            .description(Some(
                "Objective weights: an object `{\"helpfulness\": 0.7, \"harmlessness\": 0.3}`, \
                 where a missing objective counts 0, or an array in the checkpoint's order. \
                 Finite, within the range of each objective, not all zero; normalised to sum 1.",
            ))
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::Object)
                    .additional_properties(Some(AdditionalProperties::<Schema>::RefOr(RefOr::T(
                        number().build().into(),
                    )))),
            )
            .item(ArrayBuilder::new().items(number()))
            .into()
    }
}

impl ToSchema for WeightsField {
    fn name() -> std::borrow::Cow<'static, str> {
        "ObjectiveWeights".into()
    }
}

/// Reads the header's weights.
pub(super) fn header_weights(headers: &HeaderMap) -> Result<Option<RawWeights>, ApiError> {
    let mut values = headers.get_all(WEIGHTS_HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let refuse = |problem: &str| {
        ApiError::from(RequestError::invalid(
            WeightsSource::Header.param(),
            problem,
        ))
    };
    if values.next().is_some() {
        return Err(refuse("stands there twice; send it once"));
    }
    let text = value.to_str().map_err(|_| refuse("must be plain ASCII"))?;
    RawWeights::parse(text)
        .map(Some)
        .map_err(|problem| refuse(&problem))
}

/// Numbers by name, in an order that says something, written with no more digits than they have.
#[derive(Debug, Clone)]
pub(super) struct NamedNumbers(pub(super) Vec<(String, f32)>);

impl Serialize for NamedNumbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, number) in &self.0 {
            map.serialize_entry(name, number)?;
        }
        map.end()
    }
}

/// Names and numbers as they were written, in their order.
#[derive(Debug, Clone)]
pub(super) struct WideWeights(pub(super) Vec<(String, f64)>);

impl Serialize for WideWeights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, weight)| (name, weight)))
    }
}

/// What an answer was steered by.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Steering {
    /// The weights that were asked for, normalised to sum 1.
    #[schema(value_type = std::collections::BTreeMap<String, f32>)]
    weights: NamedNumbers,
    /// What the policy was told of each objective, rounded to the precision it was trained with: the
    /// weights, or of a policy that is told targets what these weights ask for.
    #[schema(value_type = std::collections::BTreeMap<String, f32>)]
    encoded: NamedNumbers,
    /// Who asked: `body`, `header`, `profile`, `model` (the suffix), `metadata`, `user` (a profile),
    /// `key` (its default profile), or `default` (the checkpoint).
    source: &'static str,
    /// The version of the policy that answered.
    policy_version: String,
}

impl From<&SteeringUsed> for Steering {
    fn from(used: &SteeringUsed) -> Self {
        Self {
            weights: NamedNumbers(used.weights.clone()),
            encoded: NamedNumbers(used.encoded.clone()),
            source: used.source.as_str(),
            policy_version: used.policy_version.clone(),
        }
    }
}

/// The headers that tell what an answer was steered by.
pub(super) fn steering_headers(version: &str, used: Option<&SteeringUsed>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // ids and objective names are ASCII, so neither value can be refused
    if let Ok(value) = HeaderValue::from_str(version) {
        headers.insert(VERSION_HEADER, value);
    }
    if let Some(used) = used {
        let pairs: Vec<_> = used
            .weights
            .iter()
            .map(|(name, w)| format!("{name}={w}"))
            .collect();
        if let Ok(value) = HeaderValue::from_str(&pairs.join(",")) {
            headers.insert(STEERING_HEADER, value);
        }
    }
    headers
}
