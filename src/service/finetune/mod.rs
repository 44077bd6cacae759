//! Fine-tuning as a service: files and jobs for those who ask, the work itself for the worker.
//!
//! A job is checked whole when it is made, against the same settings that `steersman train` reads,
//! and stored with every default filled in: what runs later is what was shown.

mod error;
mod files;
mod hyperparameters;
mod intake;
mod jobs;
mod method_input;
mod method_settings;
mod observer;
mod request_checks;
mod results;
mod spec;
mod trouble;
mod work;

use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use super::app::App;
use crate::registry::Uploads;
use crate::storage::Bucket;
use crate::store::Store;

pub use error::FineTuningError;
pub use files::{FileContent, FileInfo, FileOrder};
pub use hyperparameters::{Hyperparameter, Method, Range, hyperparameters};
pub use intake::{FileIntake, MAX_FILE_BYTES, MAX_LINE_BYTES};
pub use jobs::{CheckpointInfo, EventInfo, JobInfo};
pub use spec::NewJobInput;
pub use work::TrainingWork;

/// Where training jobs keep what they read and write: `files/` and `jobs/` of the data folder.
/// Workers on other hosts see the same folder under the same path, or a bucket.
#[derive(Debug, Clone)]
pub struct FineTuning {
    /// The data folder.
    pub data_dir: PathBuf,
    /// What servers and workers hand each other where they do not see each other's disk: files
    /// one way, checkpoints the other.
    pub bucket: Option<Bucket>,
}

impl FineTuning {
    /// In a data folder.
    pub fn at(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            bucket: None,
        }
    }

    /// What people uploaded; `runtime` is where the bucket is asked.
    fn uploads(&self, runtime: &Handle) -> Uploads {
        Uploads::new(&self.data_dir, self.bucket.as_ref(), runtime)
    }

    fn job(&self, id: &str) -> PathBuf {
        self.data_dir.join("jobs").join(id)
    }
}

impl App {
    /// Jobs, or the sentence that they are switched off.
    fn fine_tuning(&self) -> Result<(&FineTuning, &Store), FineTuningError> {
        match (&self.fine_tuning, &self.store) {
            (Some(tuning), Some(store)) => Ok((tuning, store)),
            _ => Err(FineTuningError::Off),
        }
    }
}
