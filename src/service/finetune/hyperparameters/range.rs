//! Which values a hyperparameter takes.

use serde_json::Value;

/// Which values a hyperparameter takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// A whole number.
    Whole {
        /// Least.
        least: u64,
        /// Greatest.
        most: u64,
    },
    /// A number.
    Number {
        /// Least.
        least: f64,
        /// Greatest.
        most: f64,
    },
    /// A number above 0.
    Above {
        /// Greatest.
        most: f64,
    },
    /// True or false.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of words.
    Words,
}

impl Range {
    /// In words, after "must be".
    pub(super) fn words(&self) -> String {
        match self {
            Self::Whole { least, most } => format!("a whole number from {least} to {most}"),
            Self::Number { least, most } => format!("a number from {least} to {most}"),
            Self::Above { most } => format!("a number above 0, at most {most}"),
            Self::Flag => "true or false".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Words => "a list of words, at least one".to_owned(),
        }
    }

    pub(super) fn holds(&self, value: &Value) -> bool {
        let number = value.as_f64();
        match self {
            Self::Whole { least, most } => value
                .as_u64()
                .is_some_and(|n| (*least..=*most).contains(&n)),
            Self::Number { least, most } => number.is_some_and(|n| (*least..=*most).contains(&n)),
            Self::Above { most } => number.is_some_and(|n| n > 0.0 && n <= *most),
            Self::Flag => value.is_boolean(),
            Self::Choice(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Self::Words => value.as_array().is_some_and(|list| {
                !list.is_empty()
                    && list
                        .iter()
                        .all(|word| word.as_str().is_some_and(|w| !w.is_empty()))
            }),
        }
    }
}
