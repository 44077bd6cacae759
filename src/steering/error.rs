//! What can be wrong with weights, templates and manifests.

use std::path::PathBuf;

/// Weights that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// A name that the policy does not know.
    #[error("objective `{name}` is unknown; this policy can be steered by {known}")]
    UnknownObjective {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A weight outside its objective's range, or not a finite number.
    #[error("weight of `{name}` is {value:?}, expected {expected}")]
    OutOfRange {
        /// The objective.
        name: String,
        /// What was given.
        value: f64,
        /// What is allowed.
        expected: String,
    },
    /// A list of the wrong length.
    #[error("weights name {found} objectives, checkpoint has {expected} ({known})")]
    WrongLength {
        /// Weights given.
        found: usize,
        /// Objectives there are.
        expected: usize,
        /// Their names.
        known: String,
    },
    /// Nothing to normalise.
    #[error("weights are all zero, expected at least one of {known} above zero")]
    AllZero {
        /// The objectives' names.
        known: String,
    },
    /// The same name twice.
    #[error("objective `{name}` is given twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Text that is no list of weights.
    #[error("`{text}` is no weight list, expected for example helpfulness=0.7,harmlessness=0.3")]
    Syntax {
        /// The text.
        text: String,
    },
    /// Objectives or a template that contradict themselves.
    #[error("{0}")]
    Definition(String),
}

impl WeightError {
    /// The stable code of the HTTP contract.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownObjective { .. } => "unknown_objective",
            Self::OutOfRange { .. } => "objective_weight_out_of_range",
            _ => "invalid_value",
        }
    }

    /// The objective at fault, where it is one.
    pub fn objective(&self) -> Option<&str> {
        match self {
            Self::UnknownObjective { name, .. }
            | Self::OutOfRange { name, .. }
            | Self::Duplicate { name } => Some(name),
            _ => None,
        }
    }
}

/// A `steering.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file cannot be read or written.
    #[error("cannot access {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file does not say what a manifest says.
    #[error("{} is not valid: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        reason: String,
    },
}
