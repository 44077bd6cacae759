//! Objective weights as callers offer them, before they meet a policy's objectives.

use std::fmt;

/// Weights as written by a caller: nothing is checked yet but their form.
#[derive(Debug, Clone, PartialEq)]
pub enum RawWeights {
    /// By objective name; a name that is missing counts 0.
    Named(Vec<(String, f64)>),
    /// In the checkpoint's order of objectives.
    Ordered(Vec<f64>),
}

impl RawWeights {
    /// Reads `helpfulness=0.7,harmlessness=0.3`.
    ///
    /// # Errors
    /// A sentence on what is not a `NAME=NUMBER` pair.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pairs: Vec<(String, f64)> = Vec::new();
        for part in text.split(',') {
            let wrong = || {
                format!(
                    "has `{}` where a NAME=NUMBER pair was expected, as in \
                     helpfulness=0.7,harmlessness=0.3",
                    part.trim()
                )
            };
            let (name, number) = part.split_once('=').ok_or_else(wrong)?;
            let name = name.trim();
            let number = number.trim().parse::<f64>().map_err(|_| wrong())?;
            if name.is_empty() {
                return Err(wrong());
            }
            if pairs.iter().any(|(seen, _)| seen == name) {
                return Err(format!(
                    "names `{name}` twice; each objective takes one weight"
                ));
            }
            pairs.push((name.to_owned(), number));
        }
        Ok(Self::Named(pairs))
    }
}

/// Where the weights of a request came from, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightsSource {
    /// The body's `objective_weights`.
    Body,
    /// The header `x-objective-weights`.
    Header,
    /// A suffix of the model's name, `MODEL@NAME=NUMBER,...`.
    Model,
    /// The checkpoint's manifest; no caller asked.
    Default,
}

impl WeightsSource {
    /// The word that replies carry in `steering.source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Header => "header",
            Self::Model => "model",
            Self::Default => "default",
        }
    }

    /// The request's field that is at fault when these weights are.
    pub fn param(self) -> &'static str {
        match self {
            Self::Body | Self::Default => "objective_weights",
            Self::Header => "x-objective-weights",
            Self::Model => "model",
        }
    }
}

impl fmt::Display for WeightsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Body => "the field `objective_weights`",
            Self::Header => "the header `x-objective-weights`",
            Self::Model => "the suffix of `model`",
            Self::Default => "the checkpoint's defaults",
        })
    }
}

/// Every explicit offer of one request.
#[derive(Debug, Clone, Default)]
pub struct WeightsOffers {
    /// From the body.
    pub body: Option<RawWeights>,
    /// From the header.
    pub header: Option<RawWeights>,
    /// From the model's suffix.
    pub model: Option<RawWeights>,
}

impl WeightsOffers {
    /// The offers that were made, strongest first.
    pub fn explicit(&self) -> impl Iterator<Item = (WeightsSource, &RawWeights)> {
        [
            (WeightsSource::Body, &self.body),
            (WeightsSource::Header, &self.header),
            (WeightsSource::Model, &self.model),
        ]
        .into_iter()
        .filter_map(|(source, offer)| offer.as_ref().map(|raw| (source, raw)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_in_their_order() {
        let expected = vec![
            ("helpfulness".to_owned(), 0.7),
            ("harmlessness".to_owned(), 0.3),
        ];
        assert_eq!(
            RawWeights::parse("helpfulness=0.7, harmlessness = 0.3"),
            Ok(RawWeights::Named(expected))
        );
    }

    #[test]
    fn what_is_no_pair_is_quoted() {
        for (text, part) in [
            ("0.7,0.3", "`0.7`"),
            ("a=b", "`a=b`"),
            ("", "``"),
            ("a=1,,", "``"),
        ] {
            let error = RawWeights::parse(text).expect_err("no pair");
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(
            RawWeights::parse("a=1,a=2")
                .expect_err("twice")
                .contains("twice")
        );
    }
}
