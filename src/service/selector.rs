//! Reads the request's `model`: an id, `default`, or either with weights or a profile behind an `@`.

use super::error::RequestError;
use super::offer::RawWeights;

/// The name that stands for the default policy; no model can be called so.
pub const DEFAULT_MODEL: &str = "default";

/// A `model` field taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// The model's id; `None` is the default policy.
    pub id: Option<String>,
    /// What stands behind the `@`.
    pub suffix: Option<Suffix>,
}

/// What may stand behind a model's id.
#[derive(Debug, Clone, PartialEq)]
pub enum Suffix {
    /// `NAME=NUMBER,...`.
    Weights(RawWeights),
    /// A profile's name.
    Profile(String),
}

impl Selector {
    /// Takes `model` apart. Ids hold no `@`, so the first one starts the suffix.
    ///
    /// # Errors
    /// There is nothing before or behind the `@`, or what has a `=` is no list of weights.
    pub fn parse(model: Option<&str>) -> Result<Self, RequestError> {
        let (id, suffix) = match model.map(|text| text.split_once('@').unwrap_or((text, ""))) {
            Some((id, suffix)) => (id, suffix),
            None => ("", ""),
        };
        let has_suffix = model.is_some_and(|text| text.contains('@'));
        let id = (!id.is_empty() && id != DEFAULT_MODEL).then(|| id.to_owned());
        if model == Some("") || (has_suffix && suffix.is_empty()) {
            let problem = "must be a model id, `default`, or one of these followed by \
                           @NAME=NUMBER,... or @PROFILE; leave it out for the default model";
            return Err(RequestError::invalid("model", problem));
        }
        let suffix = match suffix {
            "" => None,
            pairs if pairs.contains('=') => {
                let weights = RawWeights::parse(pairs).map_err(|problem| {
                    RequestError::invalid("model", format!("has a suffix that {problem}"))
                })?;
                Some(Suffix::Weights(weights))
            }
            name => Some(Suffix::Profile(name.to_owned())),
        };
        Ok(Self { id, suffix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_carry_weights_or_a_profile() {
        let named = |pairs: &[(&str, f64)]| {
            Some(Suffix::Weights(RawWeights::Named(
                pairs.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect(),
            )))
        };
        for (model, id, suffix) in [
            (None, None, None),
            (Some("default"), None, None),
            (Some("facts"), Some("facts"), None),
            (
                Some("facts@brevity=1"),
                Some("facts"),
                named(&[("brevity", 1.0)]),
            ),
            (Some("@a=0.5,b=0.5"), None, named(&[("a", 0.5), ("b", 0.5)])),
            (Some("default@a=2"), None, named(&[("a", 2.0)])),
            (
                Some("facts@cautious"),
                Some("facts"),
                Some(Suffix::Profile("cautious".to_owned())),
            ),
        ] {
            let expected = Selector {
                id: id.map(str::to_owned),
                suffix,
            };
            assert_eq!(
                Selector::parse(model).expect("sound"),
                expected,
                "{model:?}"
            );
        }
    }

    #[test]
    fn other_suffixes_are_refused() {
        for model in ["", "facts@", "facts@a=x", "facts@a=1,"] {
            let refused = Selector::parse(Some(model));
            assert!(
                matches!(refused, Err(RequestError::Invalid { .. })),
                "{model}"
            );
        }
    }
}
