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
    /// The profile that the body's `profile` names.
    Profile,
    /// A suffix of the model's name, `MODEL@NAME=NUMBER,...` or `MODEL@PROFILE`.
    Model,
    /// The body's `metadata.objectives`, where nothing but OpenAI's own fields can be sent.
    Metadata,
    /// The profile that OpenAI's `user` names.
    User,
    /// The API key's default profile.
    Key,
    /// The checkpoint's manifest; no caller asked.
    Default,
}

impl WeightsSource {
    /// The word that replies carry in `steering.source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Header => "header",
            Self::Profile => "profile",
            Self::Model => "model",
            Self::Metadata => "metadata",
            Self::User => "user",
            Self::Key => "key",
            Self::Default => "default",
        }
    }

    /// The request's field that is at fault when these weights are.
    pub fn param(self) -> &'static str {
        match self {
            Self::Body | Self::Default => "objective_weights",
            Self::Header => "x-objective-weights",
            Self::Profile => "profile",
            Self::Model => "model",
            Self::Metadata => "metadata.objectives",
            Self::User => "user",
            Self::Key => "authorization",
        }
    }
}

impl fmt::Display for WeightsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Body => "the field `objective_weights`",
            Self::Header => "the header `x-objective-weights`",
            Self::Profile => "the profile in `profile`",
            Self::Model => "the suffix of `model`",
            Self::Metadata => "the field `metadata.objectives`",
            Self::User => "the profile of `user`",
            Self::Key => "the default profile of the API key",
            Self::Default => "the checkpoint's defaults",
        })
    }
}

/// What a request says of weights, beside its `model`.
#[derive(Debug, Clone, Default)]
pub struct WeightsOffers {
    /// From the body.
    pub body: Option<RawWeights>,
    /// From the header.
    pub header: Option<RawWeights>,
    /// The body's `profile`.
    pub profile: Option<String>,
    /// From the body's metadata.
    pub metadata: Option<RawWeights>,
    /// OpenAI's `user`: no wish of its own, but where it names a profile, better than nothing.
    pub user: Option<String>,
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
