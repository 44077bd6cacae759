//! The bodies of the policies' routes.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::service::{
    EvalPrompt, FreshEvaluation, GateBaseline, GateFinding, GateSettings, PolicyStanding, Promoted,
    SweepSettings,
};
use crate::types::Message;

/// A checkpoint that shall answer.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PromotePolicy {
    /// Its id: 64 digits of hexadecimal.
    pub(super) checkpoint: Option<String>,
    /// Or a folder of the server's machine that holds `adapter_config.json`,
    /// `adapter_model.safetensors` and `steering.json`; they are copied.
    pub(super) folder: Option<String>,
    /// The policy's `version`; 0 where it was never changed.
    #[schema(required = true, minimum = 0)]
    pub(super) expected_version: Option<i64>,
    /// Let it answer this share of the requests; promoting it again without `canary` makes it
    /// live, and a rollback ends it.
    #[schema(exclusive_minimum = 0.0, exclusive_maximum = 1.0)]
    pub(super) canary: Option<f64>,
    /// What it must have been measured at.
    pub(super) gate: Option<GateBody>,
    /// Measure it now, beside the live policy, instead of believing its manifest.
    pub(super) evaluation: Option<EvaluationBody>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub(super) rest: Map<String, Value>,
}

/// A checkpoint of a job that shall answer.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PromoteJobCheckpoint {
    /// The policy whose next version it is; without it the job's own, which its
    /// `fine_tuned_model` names.
    pub(super) policy: Option<String>,
    /// The policy's `version`; 0 where it was never changed.
    #[schema(required = true, minimum = 0)]
    expected_version: Option<i64>,
    /// Let it answer this share of the requests; promoting it again without `canary` makes it
    /// live, and a rollback ends it.
    #[schema(exclusive_minimum = 0.0, exclusive_maximum = 1.0)]
    canary: Option<f64>,
    /// What it must have been measured at.
    gate: Option<GateBody>,
    /// Measure it now, beside the live policy, instead of believing its manifest.
    evaluation: Option<EvaluationBody>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// Bounds of the evaluation gate.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GateBody {
    /// Least Spearman correlation of each objective's weight with its reward; 0.8 by default.
    /// `null` lets a checkpoint through whether it was measured or not.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f64>)]
    min_spearman: Option<Option<f64>>,
    /// How far its mean inner product may lie below the live policy's; 0 by default.
    max_score_loss: Option<f64>,
    /// Most KL to the reference, in nats a sequence; no cap by default.
    max_kl: Option<f64>,
    /// What its mean inner product is held against: `live`, the default, or `nothing`.
    baseline: Option<BaselineWord>,
}

/// A field that was sent, be it as `null`; without `given` a `null` would be as if it was not.
fn given<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(field).map(Some)
}

/// What a score is held against.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BaselineWord {
    Live,
    Nothing,
}

/// A fresh evaluation.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EvaluationBody {
    /// Prompts that took no part in training, at most 512.
    #[schema(max_items = 512)]
    prompts: Vec<String>,
    /// Points per edge of the weight grid; 11 by default.
    #[schema(minimum = 2, maximum = 21)]
    grid: Option<usize>,
    /// Most tokens of an answer; 128 by default.
    max_tokens: Option<usize>,
    /// Sampling temperature; 0.7 by default.
    temperature: Option<f32>,
    /// Fixes every answer; 0 by default.
    seed: Option<u64>,
}

/// Which policy shall go back.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct RollBackPolicy {
    /// The policy's id; the default model's without it.
    pub(super) policy: Option<String>,
    /// The policy's `version`.
    #[schema(required = true, minimum = 0)]
    pub(super) expected_version: Option<i64>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub(super) rest: Map<String, Value>,
}

/// Which version of a policy shall be removed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveQuery {
    /// The policy's `version`.
    #[param(required = true, minimum = 0)]
    pub(super) expected_version: Option<i64>,
}

/// A policy that was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PolicyRemoved {
    /// Its id.
    id: String,
    /// Always `policy.deleted`.
    #[schema(example = "policy.deleted")]
    object: &'static str,
    /// Always true.
    deleted: bool,
    /// `expected_version` of a promotion that brings it back.
    version: i64,
}

impl PolicyRemoved {
    pub(super) fn of(id: String, version: i64) -> Self {
        Self {
            id,
            object: "policy.deleted",
            deleted: true,
            version,
        }
    }
}

/// All policies.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PolicyList {
    /// Always `list`.
    #[schema(example = "list")]
    pub(super) object: &'static str,
    /// The policies.
    pub(super) data: Vec<PolicyBody>,
}

/// How a policy stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policy)]
pub(super) struct PolicyBody {
    /// Its id, as requests name it in `model`.
    id: String,
    /// Always `policy`.
    #[schema(example = "policy")]
    object: &'static str,
    /// How often it was changed; `expected_version` of the next change.
    version: i64,
    /// The version that answers, as replies carry it.
    policy_version: String,
    /// The checkpoint that answers; `null` is what the model's folder holds.
    checkpoint: Option<String>,
    /// Whether a rollback has somewhere to go.
    can_roll_back: bool,
    /// The checkpoint that a rollback would make live; `null` is what the model's folder holds.
    rollback_checkpoint: Option<String>,
    /// A checkpoint that answers a share of the requests: `checkpoint`, `policy_version`, `share`.
    #[schema(value_type = Option<Object>)]
    canary: Option<Value>,
    /// Why something else answers than was promoted.
    problem: Option<String>,
    /// When it was changed last, in seconds since 1970.
    updated_at: Option<i64>,
    /// Its checkpoints, newest first.
    #[schema(value_type = Vec<Object>)]
    checkpoints: Vec<Value>,
    /// Its latest changes, latest first.
    #[schema(value_type = Vec<Object>)]
    history: Vec<Value>,
}

/// A promotion that was made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Promoted)]
pub(super) struct PromotedBody {
    #[serde(flatten)]
    policy: PolicyBody,
    /// What the gate found: `check`, `objective`, `measured`, `bound`, `passed`, `message`.
    #[schema(value_type = Vec<Object>)]
    gate: Vec<Value>,
}

impl From<PromoteJobCheckpoint> for PromotePolicy {
    fn from(body: PromoteJobCheckpoint) -> Self {
        Self {
            checkpoint: None,
            folder: None,
            expected_version: body.expected_version,
            canary: body.canary,
            gate: body.gate,
            evaluation: body.evaluation,
            rest: body.rest,
        }
    }
}

impl From<GateBody> for GateSettings {
    fn from(body: GateBody) -> Self {
        let default = Self::default();
        Self {
            min_spearman: body.min_spearman.unwrap_or(default.min_spearman),
            max_score_loss: body.max_score_loss.unwrap_or(default.max_score_loss),
            max_kl: body.max_kl,
            baseline: match body.baseline {
                Some(BaselineWord::Nothing) => GateBaseline::Nothing,
                _ => GateBaseline::Live,
            },
        }
    }
}

impl From<EvaluationBody> for FreshEvaluation {
    fn from(body: EvaluationBody) -> Self {
        let default = SweepSettings::default();
        let prompt = |(place, text): (usize, String)| EvalPrompt {
            id: place.to_string(),
            prompt: vec![Message::user(text)],
            record: Value::Null,
        };
        Self {
            prompts: body.prompts.into_iter().enumerate().map(prompt).collect(),
            grid: body.grid.unwrap_or(11),
            sampling: SweepSettings {
                max_tokens: body.max_tokens.unwrap_or(default.max_tokens),
                temperature: body.temperature.unwrap_or(default.temperature),
                seed: body.seed.unwrap_or(default.seed),
                ..default
            },
        }
    }
}

impl From<PolicyStanding> for PolicyBody {
    fn from(standing: PolicyStanding) -> Self {
        let canary = standing.canary.map(|canary| {
            json!({
                "checkpoint": canary.checkpoint,
                "policy_version": canary.policy_version,
                "share": canary.share,
            })
        });
        let checkpoints = standing.checkpoints.into_iter().map(|checkpoint| {
            json!({
                "id": checkpoint.id,
                "stage": checkpoint.stage,
                "origin": checkpoint.origin,
                "evaluation": checkpoint.evaluation,
                "bytes": checkpoint.bytes,
                "created_at": checkpoint.created_at,
            })
        });
        let history = standing.history.into_iter().map(|change| {
            json!({
                "version": change.version,
                "action": change.action,
                "checkpoint": change.live,
                "replaced": change.replaced,
                "at": change.at,
            })
        });
        Self {
            id: standing.id,
            object: "policy",
            version: standing.version,
            policy_version: standing.policy_version,
            checkpoint: standing.checkpoint,
            can_roll_back: standing.before.is_some() || canary.is_some(),
            rollback_checkpoint: standing.before.flatten(),
            canary,
            problem: standing.problem,
            updated_at: standing.updated_at,
            checkpoints: checkpoints.collect(),
            history: history.collect(),
        }
    }
}

impl From<Promoted> for PromotedBody {
    fn from(promoted: Promoted) -> Self {
        let finding = |finding: GateFinding| {
            json!({
                "check": finding.check,
                "objective": finding.objective,
                "measured": finding.measured,
                "bound": finding.bound,
                "passed": finding.passed,
                "message": finding.says,
            })
        };
        Self {
            policy: promoted.standing.into(),
            gate: promoted.findings.into_iter().map(finding).collect(),
        }
    }
}
