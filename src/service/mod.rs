//! What the product does, without a transport: resolves weights, encodes prompts, streams answers.
//!
//! [`App`] is the one place where model, text, steering and engine meet. A request enters as a
//! [`GenerationInput`] and leaves as an [`Answer`]; past `resolve` no unchecked weight exists.

mod answer;
mod app;
mod error;
mod folder;
mod generation;
mod inspect;
mod lifecycle;
mod offer;
mod policy;
mod readiness;
mod resolve;
mod sampling;
mod selector;

pub use answer::{Answer, AnswerEvent, AnswerToken, WholeAnswer};
pub use app::{App, ServiceSettings};
pub use error::{LoadError, RequestError, chain};
pub use folder::{MANIFEST_FILE, ModelFolder, PolicyFolder};
pub use generation::{GenerationInput, PromptInput, Steered, SteeringUsed};
pub use inspect::Inspection;
pub use lifecycle::{Lifecycle, Phase};
pub use offer::{RawWeights, WeightsOffers, WeightsSource};
pub use policy::LivePolicy;
pub use readiness::Unready;
pub use sampling::{MAX_STOP_BYTES, MAX_STOP_STRINGS, MAX_TOP_LOGPROBS, SamplingInput};
pub use selector::{DEFAULT_MODEL, Selector};
