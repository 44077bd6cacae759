//! Makes a job: everything that a request says is checked before it is stored.

use std::sync::Arc;

use serde_json::Value;

use super::told;
use crate::jobs::JobId;
use crate::registry::checkpoint_at;
use crate::service::App;
use crate::service::finetune::files::blocking;
use crate::service::finetune::hyperparameters::Method;
use crate::service::finetune::method_input::MethodInput;
use crate::service::finetune::spec::{Found, JobSpec};
use crate::service::finetune::{FileInfo, FineTuningError, JobInfo, NewJobInput};
use crate::store::JobDraft;
use crate::training::config::DEFAULT_MAX_TOKENS;
use crate::training::data::RowKind;
use crate::training::supervised::TextLengths;

/// Bytes of a training file whose texts are encoded to tell how many steps a pass takes.
const MEASURED_BYTES: u64 = 1 << 20;

impl App {
    /// Makes a job that waits for a worker.
    ///
    /// # Errors
    /// Something of it cannot be used, or the store fails.
    pub async fn create_job(&self, input: NewJobInput) -> Result<JobInfo, FineTuningError> {
        let (tuning, store) = self.fine_tuning()?;
        let model = input.model.as_deref().filter(|model| !model.is_empty());
        let policy = match model {
            None | Some("default") => self.default_policy().clone(),
            named => self.policy(named)?.clone(),
        };
        let base = self.policies()[0].id.clone();
        let method = MethodInput::read(&input)?;
        let id = JobId::fresh();
        let training = match &input.training_file {
            Some(file) => self.rows_of(file, "training_file", method.rows()).await?,
            None => {
                let problem = "is missing; upload a file to /admin/v1/files and name its id";
                return Err(FineTuningError::invalid("training_file", problem));
            }
        };
        let validation = match &input.validation_file {
            Some(file) => Some(self.rows_of(file, "validation_file", method.rows()).await?),
            None => None,
        };
        let texts = self.measured(&method, &training).await?;
        let found = Found {
            policy: &policy,
            texts,
            base: &base,
            training,
            validation,
            checkpoint: checkpoint_at(&tuning.data_dir, &policy.dir),
            digits: id.digits(),
        };
        let spec = JobSpec::new(&input, method, &found)?;
        if spec.name == base {
            let problem = format!(
                "is `{base}`, the base model's own name, under which no policy can be promoted"
            );
            return Err(FineTuningError::invalid("suffix", problem));
        }
        self.check_conditioning(&spec)?;
        let draft = JobDraft {
            id: id.to_string(),
            kind: spec.method.clone(),
            spec: serde_json::json!(spec).to_string(),
            training_file: found.training.id,
            validation_file: found.validation.map(|file| file.id),
            total_steps: spec.steps(),
        };
        store
            .add_job(&draft, &told("the job waits for a worker"))
            .await?;
        self.job(id.as_str()).await
    }

    /// How long the texts of the training file are, by the base's own tokenizer.
    async fn measured(
        &self,
        method: &MethodInput,
        training: &FileInfo,
    ) -> Result<Option<TextLengths>, FineTuningError> {
        if method.method != Method::Supervised {
            return Ok(None);
        }
        // what is out of its range is refused with the other hyperparameters
        let most = method
            .hyperparameters
            .get("max_tokens")
            .and_then(Value::as_u64);
        let most = most.map_or(DEFAULT_MAX_TOKENS, |most| most.max(8) as usize);
        let path = self.upload(training).await?;
        let bytes = u64::try_from(training.bytes).unwrap_or(0);
        let encoder = Arc::clone(&self.encoder);
        let measured = blocking(move || {
            TextLengths::measure(&path, &encoder, most, (bytes, MEASURED_BYTES)).map_err(|error| {
                FineTuningError::invalid("training_file", crate::service::chain(&error))
            })
        });
        measured.await.map(Some)
    }

    async fn rows_of(
        &self,
        file: &str,
        param: &str,
        wanted: RowKind,
    ) -> Result<FileInfo, FineTuningError> {
        let info = self.file(file).await.map_err(|error| match error {
            FineTuningError::NoFile(id) => {
                FineTuningError::invalid(param, format!("names `{id}`, which is no file's id"))
            }
            other => other,
        })?;
        if info.kind != wanted.as_str() {
            let problem = format!(
                "must hold {}, and {} holds {}",
                wanted.as_str(),
                info.id,
                info.kind
            );
            return Err(FineTuningError::invalid(param, problem));
        }
        Ok(info)
    }

    /// The weights must be written so that no caller can forge them.
    fn check_conditioning(&self, spec: &JobSpec) -> Result<(), FineTuningError> {
        use crate::training::config::Job;
        let job = spec
            .job(|id: &str| id.into(), None, std::path::Path::new(""))
            .map_err(|error| FineTuningError::invalid("method", error.to_string()))?;
        let (objectives, template) = match &job {
            Job::MoOdpo(job) => (job.objective_set(), Some(&job.conditioning)),
            Job::Dpo(job) => (job.objective_set(), job.conditioning.as_ref()),
            Job::Supervised(_) | Job::RewardModel(_) => return Ok(()),
        };
        let Some(template) = template else {
            return Ok(());
        };
        let param = format!("method.{}.conditioning", spec.method);
        let objectives =
            objectives.map_err(|error| FineTuningError::invalid(&param, error.to_string()))?;
        let Some(span) = template.render(&objectives, &objectives.equal()) else {
            return Ok(());
        };
        self.encoder
            .check_span(&span)
            .map_err(|error| FineTuningError::invalid(&param, crate::service::chain(&error)))
    }
}
