//! What is traded off, how much of each, and how the policy is told.

mod conditioning;
mod draw;
mod error;
mod manifest;
mod objective;
mod posterior;
mod prior;
mod targets;
mod weights;

pub use conditioning::{ConditioningKind, ConditioningTemplate};
pub use draw::WeightDraw;
pub use error::{ManifestError, WeightError};
pub use manifest::{BaseRef, NormalizerStats, SteeringManifest};
pub use objective::{Objective, ObjectiveSet};
pub use posterior::{Question, WeightPosterior};
pub use prior::WeightPrior;
pub use targets::{TargetRange, TargetRule};
pub use weights::{WeightVector, parse_pairs};
