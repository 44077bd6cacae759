//! What the product does, without a transport: resolves weights, encodes prompts, streams answers.
//!
//! [`App`] is the one place where model, text, steering and engine meet. A request enters as a
//! [`GenerationInput`] and leaves as [`Answers`]; past `resolve` no unchecked weight exists.

mod access;
mod adapters;
mod answer;
mod answers;
mod app;
mod asker;
mod base;
mod comparisons;
mod error;
mod finetune;
mod first_token;
mod folder;
mod generation;
mod inspect;
mod keys;
mod lifecycle;
mod limits;
mod live;
mod meters;
mod offer;
mod policy;
mod profiles;
mod promotion;
mod prompt;
mod readiness;
mod remarks;
mod resolve;
mod sampling;
mod scoring;
mod selector;
mod structured;
mod sweep;
mod tokens;
mod truncation;
mod turns;
mod under_way;
mod watched;
mod weights;

pub use crate::eval::sweep::{EvalPrompt, SweepSettings};
pub use crate::jobs::{JobStatus, JobTrouble};
pub use crate::model::{Device, Dtype, UnknownDtype};
pub use crate::registry::RegistryError;
pub use crate::store::JobTurn;
pub use crate::text::{GrammarSource, Side};
pub use access::{Access, AccessError, OpenToAll, Scope, WeightRange, may_listen};
pub use adapters::PolicyAdapter;
pub use answer::{AnswerEvent, AnswerToken};
pub use answers::{Answers, WholeAnswer};
pub use app::{App, ServiceSettings};
pub use comparisons::{Belief, ComparedAnswers, Learned, MAX_CANDIDATES, RawRewards};
pub use error::{LoadError, RequestError, chain};
pub use finetune::{
    CheckpointInfo, EventInfo, FileContent, FileInfo, FileIntake, FileOrder, FineTuning,
    FineTuningError, Hyperparameter, JobInfo, MAX_FILE_BYTES, MAX_LINE_BYTES, Method, NewJobInput,
    Range, TrainingWork, hyperparameters,
};
pub use folder::{MANIFEST_FILE, ModelFolder, PolicyFolder};
pub use generation::{GenerationInput, MAX_ANSWERS, MAX_GUIDANCE, MAX_N, Steered, SteeringUsed};
pub use inspect::Inspection;
pub use keys::{ApiKey, ApiSecret, NewKey, create_key, list_keys, revoke_key};
pub use lifecycle::{Lifecycle, Phase};
pub use limits::Standing;
pub use offer::{RawWeights, WeightsOffers, WeightsSource};
pub use policy::LivePolicy;
pub use profiles::{MAX_PAGE, Profile, ProfileInput};
pub use promotion::{
    CanaryStanding, CheckpointSource, CheckpointStanding, FreshEvaluation, GateBaseline,
    GateFinding, GateSettings, PolicyStanding, Promoted, Promotion, PromotionError,
};
pub use prompt::PromptInput;
pub use readiness::Unready;
pub use sampling::{MAX_STOP_BYTES, MAX_STOP_STRINGS, MAX_TOP_LOGPROBS, SamplingInput};
pub use selector::{DEFAULT_MODEL, Selector, Suffix};
pub use sweep::{MAX_POINTS, Sweep, SweepInput, SweepPoints, Swept, SweptAnswer};
pub use tokens::{Speller, TokenizeInput, Tokenized};
pub use truncation::TruncationInput;
pub use watched::run_watched;
