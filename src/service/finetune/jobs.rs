//! Jobs as those who ask see them: made, listed, watched, paused, resumed, cancelled.

use serde_json::{Map, Value};

use super::method_input::MethodInput;
use super::spec::{Found, JobSpec};
use super::{FileInfo, FineTuningError, NewJobInput};
use crate::jobs::{JobId, JobStatus, JobTrouble, now_ms};
use crate::registry::{CheckpointId, JobContent};
use crate::service::App;
use crate::service::app::clipped;
use crate::service::keys::now;
use crate::service::promotion::CheckpointSource;
use crate::store::{
    CheckpointRow, EventDraft, EventRow, JobDraft, JobRow, JobTurn, StoreError, Turned,
};
use crate::training::data::RowKind;

/// Jobs that are read at once where some are looked for.
const LOOKED_THROUGH: u32 = 500;

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobInfo {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: JobStatus,
    /// What its worker is asked to do and has not done yet: `pause` or `cancel`.
    pub asked: Option<String>,
    /// The model it starts from.
    pub model: String,
    /// The name of what it made.
    pub fine_tuned_model: Option<String>,
    /// The folder of what it made, below the data folder.
    pub folder: Option<String>,
    /// What kind of job.
    pub method: String,
    /// All hyperparameters in effect.
    pub hyperparameters: Map<String, Value>,
    /// The method's part of the request beside them.
    pub rest: Map<String, Value>,
    /// Part of the name of what it makes.
    pub suffix: Option<String>,
    /// Fixes every random choice.
    pub seed: u64,
    /// The owner's notes.
    pub metadata: Map<String, Value>,
    /// The file it works on.
    pub training_file: String,
    /// The file it measures itself on.
    pub validation_file: Option<String>,
    /// Steps done.
    pub step: i64,
    /// Steps to do.
    pub total_steps: i64,
    /// Tokens trained on.
    pub trained_tokens: i64,
    /// How often it was taken up.
    pub attempt: i64,
    /// Why it paused or failed.
    pub error: Option<JobTrouble>,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970.
    pub started_at: Option<i64>,
    /// Seconds since 1970.
    pub finished_at: Option<i64>,
    /// Seconds since 1970; a guess from the pace so far.
    pub estimated_finish: Option<i64>,
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub struct EventInfo {
    /// Its place among the job's events, from 1.
    pub seq: i64,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// `message` or `metrics`.
    pub kind: String,
    /// A sentence.
    pub message: String,
    /// Numbers.
    pub data: Value,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// A checkpoint of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointInfo {
    /// After which step.
    pub step: i64,
    /// Its name.
    pub name: String,
    /// The name of what its job makes.
    pub model: String,
    /// Where it lies, below the data folder.
    pub folder: String,
    /// Numbers at that step.
    pub metrics: Value,
    /// The id of what its files hold; `None` where it is no policy.
    pub content: Option<String>,
    /// Seconds since 1970.
    pub created_at: i64,
}

impl App {
    /// Makes a job that waits for a worker.
    ///
    /// # Errors
    /// Something of it cannot be used, or the store fails.
    pub async fn create_job(&self, input: NewJobInput) -> Result<JobInfo, FineTuningError> {
        let (_, store) = self.fine_tuning()?;
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
        let found = Found {
            policy: &policy,
            base: &base,
            training,
            validation,
            digits: id.digits(),
        };
        let spec = JobSpec::new(&input, method, &found)?;
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
            .job(|id: &str| id.into(), std::path::Path::new(""))
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
        let span = template.render(&objectives, &objectives.equal());
        self.encoder
            .check_span(&span)
            .map_err(|error| FineTuningError::invalid(&param, crate::service::chain(&error)))
    }

    /// The job of an id.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn job(&self, id: &str) -> Result<JobInfo, FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let row = match JobId::parse(id) {
            Some(id) => store.job(id.as_str()).await?,
            None => None,
        };
        let row = row.ok_or_else(|| FineTuningError::NoJob(clipped(id)))?;
        Ok(JobInfo::of(&row)?)
    }

    /// Up to `limit` jobs, newest first, behind the job `after`; only those whose metadata have all
    /// these entries. And whether there are more.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn jobs(
        &self,
        after: Option<&str>,
        limit: u32,
        metadata: &[(String, String)],
    ) -> Result<(Vec<JobInfo>, bool), FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let wanted = limit as usize;
        let has = |job: &JobInfo| {
            let entry = |name: &String| job.metadata.get(name).and_then(Value::as_str);
            metadata
                .iter()
                .all(|(name, value)| entry(name) == Some(value.as_str()))
        };
        // metadata lie inside of documents, which the databases read differently, so they are
        // looked through here
        let at_once = if metadata.is_empty() {
            limit + 1
        } else {
            LOOKED_THROUGH
        };
        let mut after = after.map(str::to_owned);
        let mut found = Vec::new();
        loop {
            let rows = store.jobs(after.as_deref(), at_once).await?;
            let is_last = rows.len() < at_once as usize;
            after = rows.last().map(|row| row.id.clone());
            let jobs = rows
                .iter()
                .map(JobInfo::of)
                .collect::<Result<Vec<_>, _>>()?;
            found.extend(jobs.into_iter().filter(|job| has(job)));
            if is_last || found.len() > wanted {
                let more = found.len() > wanted;
                found.truncate(wanted);
                return Ok((found, more));
            }
        }
    }

    /// Cancels, pauses or resumes a job. One that runs is asked, and follows within a step. What
    /// is the case already is no error.
    ///
    /// # Errors
    /// There is no such job, or its state does not allow it.
    pub async fn turn_job(&self, id: &str, turn: JobTurn) -> Result<JobInfo, FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let job = self.job(id).await?;
        let (verb, sentence) = match turn {
            JobTurn::Cancel => ("be cancelled", "the job is asked to end for good"),
            JobTurn::Pause => ("be paused", "the job is asked to save and wait"),
            JobTurn::Resume => ("be resumed", "the job is asked to go on"),
        };
        let turned = store
            .turn_job(&job.id, turn, now_ms(), &told(sentence))
            .await?;
        if turned == Turned::NoJob {
            return Err(FineTuningError::NoJob(clipped(id)));
        }
        let after = self.job(id).await?;
        let Turned::Not(state) = turned else {
            return Ok(after);
        };
        let asked = after.asked.as_deref();
        let holds = match turn {
            JobTurn::Cancel => after.status == JobStatus::Cancelled || asked == Some("cancel"),
            JobTurn::Pause => after.status == JobStatus::Paused || asked == Some("pause"),
            JobTurn::Resume => {
                after.status == JobStatus::Queued
                    || (after.status == JobStatus::Running && asked.is_none())
            }
        };
        match holds {
            true => Ok(after),
            false => Err(FineTuningError::State {
                job: job.id,
                state: match asked {
                    Some(asked) => format!("{state} and asked to {asked}"),
                    None => state,
                },
                verb,
            }),
        }
    }

    /// Up to `limit` events of a job, newest first, behind the event of place `after`; and
    /// whether there are more.
    ///
    /// # Errors
    /// There is no such job, or they cannot be read.
    pub async fn job_events(
        &self,
        id: &str,
        after: Option<i64>,
        limit: u32,
    ) -> Result<(Vec<EventInfo>, bool), FineTuningError> {
        let job = self.job(id).await?;
        let (_, store) = self.fine_tuning()?;
        let mut rows = store.events_before(&job.id, after, limit + 1).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Ok((rows.into_iter().map(EventInfo::of).collect(), more))
    }

    /// Up to `limit` events of a job in the order in which they happened, those after the place
    /// `after`; and whether the job is over and these are its last.
    ///
    /// # Errors
    /// There is no such job, or they cannot be read.
    pub async fn next_job_events(
        &self,
        id: &str,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<EventInfo>, bool), FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        // the job first: events that come after it was read are asked for again
        let job = self.job(id).await?;
        let rows = store.events_after(&job.id, after, limit).await?;
        let last = job.status.is_final() && rows.len() < limit as usize;
        Ok((rows.into_iter().map(EventInfo::of).collect(), last))
    }

    /// Up to `limit` checkpoints of a job, newest first, of steps before `after`; and whether
    /// there are more.
    ///
    /// # Errors
    /// There is no such job, or they cannot be read.
    pub async fn job_checkpoints(
        &self,
        id: &str,
        after: Option<i64>,
        limit: u32,
    ) -> Result<(Vec<CheckpointInfo>, bool), FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let row = match JobId::parse(id) {
            Some(id) => store.job(id.as_str()).await?,
            None => None,
        };
        let row = row.ok_or_else(|| FineTuningError::NoJob(clipped(id)))?;
        let name = spec_of(&row)?.name;
        let mut rows = store.checkpoints(&row.id, after, limit + 1).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let infos = rows.into_iter().map(|row| CheckpointInfo::of(row, &name));
        Ok((infos.collect(), more))
    }

    /// A job's checkpoint of a step, and where a promotion finds it.
    ///
    /// # Errors
    /// There is no such job or checkpoint, or it cannot be read.
    pub async fn job_checkpoint(
        &self,
        job: &str,
        step: i64,
    ) -> Result<Option<(CheckpointInfo, CheckpointSource)>, FineTuningError> {
        let (tuning, _) = self.fine_tuning()?;
        // the first of those before the next step
        let (found, _) = self.job_checkpoints(job, step.checked_add(1), 1).await?;
        let found = found.into_iter().find(|found| found.step == step);
        Ok(found.map(|found| {
            let id = found.content.as_deref().map(CheckpointId::parse);
            let source = CheckpointSource::Folder {
                path: tuning.data_dir.join(&found.folder),
                origin: format!("{job}, step {step}"),
                content: id.and_then(Result::ok).map(|id| JobContent {
                    job: job.to_owned(),
                    id,
                }),
            };
            (found, source)
        }))
    }
}

fn told(sentence: &str) -> EventDraft {
    EventDraft {
        level: "info",
        kind: "message",
        message: sentence.to_owned(),
        data: None,
        at: now(),
    }
}

fn spec_of(row: &JobRow) -> Result<JobSpec, StoreError> {
    serde_json::from_str(&row.spec)
        .map_err(|_| StoreError::Row(format!("the settings of the job {}", row.id)))
}

impl JobInfo {
    fn of(row: &JobRow) -> Result<Self, StoreError> {
        let wrong = |what: &str| StoreError::Row(format!("{what} of the job {}", row.id));
        let spec = spec_of(row)?;
        let status = JobStatus::parse(&row.state).ok_or_else(|| wrong("the state"))?;
        let error = row.error.as_deref().map(serde_json::from_str).transpose();
        let result: Value = match &row.result {
            Some(result) => serde_json::from_str(result).map_err(|_| wrong("the result"))?,
            None => Value::Null,
        };
        let text = |name: &str| result[name].as_str().map(str::to_owned);
        let running = status == JobStatus::Running;
        Ok(Self {
            id: row.id.clone(),
            status,
            asked: (running && row.wanted != "run").then(|| row.wanted.clone()),
            model: spec.model,
            fine_tuned_model: text("fine_tuned_model"),
            folder: text("folder"),
            method: spec.method,
            hyperparameters: spec.hyperparameters,
            rest: spec.rest,
            suffix: spec.suffix,
            seed: spec.seed,
            metadata: spec.metadata,
            training_file: row.training_file.clone(),
            validation_file: row.validation_file.clone(),
            step: row.step,
            total_steps: row.total_steps,
            trained_tokens: row.trained_tokens,
            attempt: row.attempt,
            error: error.map_err(|_| wrong("the error"))?,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            estimated_finish: if running { estimate(row) } else { None },
        })
    }
}

/// When a running job will be done, if it goes on as it did since it was first taken up.
fn estimate(row: &JobRow) -> Option<i64> {
    let (started, done) = (row.started_at?, row.step);
    let spent = row.updated_at - started;
    (done > 0).then(|| row.updated_at + spent * (row.total_steps - done) / done)
}

impl EventInfo {
    fn of(row: EventRow) -> Self {
        let data = row.data.as_deref().map(serde_json::from_str);
        Self {
            seq: row.seq,
            level: row.level,
            kind: row.kind,
            message: row.message,
            // what this program wrote is JSON
            data: data.and_then(Result::ok).unwrap_or_default(),
            created_at: row.created_at,
        }
    }
}

impl CheckpointInfo {
    fn of(row: CheckpointRow, name: &str) -> Self {
        Self {
            name: format!("{name}:step-{}", row.step),
            model: name.to_owned(),
            step: row.step,
            folder: row.folder,
            content: row.content,
            metrics: serde_json::from_str(&row.metrics).unwrap_or_default(),
            created_at: row.created_at,
        }
    }
}
