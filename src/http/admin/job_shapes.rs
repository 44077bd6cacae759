//! Jobs as JSON: what a request may say, and what is told of a job.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::method_schema::MethodSchema;
use crate::http::error::ApiError;
use crate::http::fields::refuse_rest;
use crate::service::{JobInfo, NewJobInput};

/// What a new job shall be.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct CreateJob {
    /// The model to start from: the base, or a policy over it, whose adapter is trained on.
    model: Option<String>,
    /// Id of the file that it works on: prompts for `mo_odpo`, texts for `supervised`, pairs for
    /// `dpo` and `reward_model`.
    #[schema(required = true)]
    training_file: Option<String>,
    /// Id of the file that it measures itself on; required for `reward_model`, and nothing for
    /// `mo_odpo`.
    validation_file: Option<String>,
    /// What is trained, and how; `supervised` where it is left out.
    #[schema(value_type = Option<MethodSchema>)]
    method: Option<Value>,
    /// Hyperparameters of `supervised`, where OpenAI's first version had them; not beside `method`.
    #[schema(value_type = Option<Object>)]
    hyperparameters: Option<Map<String, Value>>,
    /// The name of the policy that it makes; 1 to 64 characters.
    #[schema(max_length = 64)]
    suffix: Option<String>,
    /// Fixes every random choice; the job's own where it is left out.
    seed: Option<u64>,
    /// Up to 16 notes.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    metadata: Option<Map<String, Value>>,
    /// Not supported; may be an empty list.
    #[schema(value_type = Option<Vec<Object>>)]
    integrations: Option<Value>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

impl CreateJob {
    pub(super) fn read(self) -> Result<NewJobInput, ApiError> {
        refuse_rest(&self.rest)?;
        if self.integrations.is_some_and(|value| value != json!([])) {
            let message = "`integrations` is not supported by this server; leave it out";
            let error = ApiError::invalid("unsupported_parameter", message);
            return Err(error.with_param("integrations"));
        }
        Ok(NewJobInput {
            model: self.model,
            training_file: self.training_file,
            validation_file: self.validation_file,
            method: self.method,
            hyperparameters: self.hyperparameters,
            suffix: self.suffix,
            seed: self.seed,
            metadata: self.metadata,
        })
    }
}

/// A training job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FineTuningJob)]
pub(super) struct JobBody {
    /// Its id.
    #[schema(example = "ftjob-0193")]
    pub(super) id: String,
    /// Always `fine_tuning.job`.
    #[schema(example = "fine_tuning.job")]
    object: &'static str,
    /// Seconds since 1970.
    created_at: i64,
    /// Seconds since 1970; null while it is not over.
    finished_at: Option<i64>,
    /// Seconds since 1970, a guess from the pace so far.
    estimated_finish: Option<i64>,
    /// The model it starts from.
    model: String,
    /// The name of the policy that it made.
    fine_tuned_model: Option<String>,
    /// Always empty: there are no organisations.
    organization_id: &'static str,
    /// `queued`, `running`, `paused`, `succeeded`, `failed` or `cancelled`.
    status: &'static str,
    /// What its worker is asked to do and has not done yet: `pause` or `cancel`.
    asked: Option<String>,
    /// Why it paused or failed.
    error: Option<JobErrorBody>,
    /// All hyperparameters in effect.
    #[schema(value_type = Object)]
    hyperparameters: Map<String, Value>,
    /// The method with all its hyperparameters.
    #[schema(value_type = Object)]
    method: Value,
    /// The name that was asked for.
    suffix: Option<String>,
    /// Fixes every random choice.
    seed: u64,
    /// Tokens trained on, where the method counts them.
    trained_tokens: i64,
    /// Id of the file that it works on.
    training_file: String,
    /// Id of the file that it measures itself on.
    validation_file: Option<String>,
    /// Ids of the files that tell of it, once it succeeded: its steps' numbers, as CSV.
    result_files: Vec<String>,
    /// The folder of what it made, below the worker's data folder.
    folder: Option<String>,
    /// Always empty.
    integrations: Vec<String>,
    /// The owner's notes.
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    /// Steps done.
    step: i64,
    /// Steps to do.
    total_steps: i64,
    /// How often a worker took it up.
    attempt: i64,
}

/// Why a job paused or failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FineTuningJobError)]
pub(super) struct JobErrorBody {
    /// A stable word, for example `no_space`.
    code: String,
    /// What happened and what to do.
    message: String,
    /// The setting at fault, where there is one.
    param: Option<String>,
}

impl From<JobInfo> for JobBody {
    fn from(job: JobInfo) -> Self {
        let mut part = Map::new();
        let all = Value::Object(job.hyperparameters.clone());
        part.insert("hyperparameters".to_owned(), all);
        part.extend(job.rest);
        Self {
            object: "fine_tuning.job",
            created_at: job.created_at,
            finished_at: job.finished_at,
            estimated_finish: job.estimated_finish,
            model: job.model,
            fine_tuned_model: job.fine_tuned_model,
            organization_id: "",
            status: job.status.as_str(),
            asked: job.asked,
            error: job.error.map(|error| JobErrorBody {
                code: error.code,
                message: error.message,
                param: error.param,
            }),
            hyperparameters: job.hyperparameters,
            method: json!({"type": job.method, job.method.as_str(): part}),
            suffix: job.suffix,
            seed: job.seed,
            trained_tokens: job.trained_tokens,
            training_file: job.training_file,
            validation_file: job.validation_file,
            result_files: job.result_files,
            folder: job.folder,
            integrations: Vec::new(),
            metadata: job.metadata,
            step: job.step,
            total_steps: job.total_steps,
            attempt: job.attempt,
            id: job.id,
        }
    }
}
