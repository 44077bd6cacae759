//! What people ask of a job that is there: to end, to wait, to go on.

use super::told;
use crate::jobs::{JobStatus, now_ms};
use crate::service::App;
use crate::service::app::clipped;
use crate::service::finetune::{FineTuningError, JobInfo};
use crate::store::{JobTurn, Turned};

impl App {
    /// Cancels, pauses or resumes a job. One that runs is asked, and follows within a step. What
    /// is the case already is no error.
    ///
    /// # Errors
    /// There is no such job, or its state does not allow it.
    pub async fn turn_job(&self, id: &str, turn: JobTurn) -> Result<JobInfo, FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let job = self.job(id).await?;
        let sentence = match turn {
            JobTurn::Cancel => "the job is asked to end for good",
            JobTurn::Pause => "the job is asked to save and wait",
            JobTurn::Resume => "the job is asked to go on",
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
                turn,
            }),
        }
    }
}
