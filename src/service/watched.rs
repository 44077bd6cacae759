//! Runs a training job and tells an experiment tracker of it, where one was named.

use std::path::{Path, PathBuf};

use crate::tracking::{MlflowRun, MlflowSettings, RunEnd, Tracked};
use crate::training::config::Job;
use crate::training::observe::{Ending, StepReport, TrainObserver};
use crate::training::{self, TrainingError};

/// Passes everything on, and each step's numbers to the tracker as well.
struct Watched<'a> {
    inner: &'a mut dyn TrainObserver,
    run: &'a MlflowRun,
}

impl TrainObserver for Watched<'_> {
    fn log(&mut self, line: &str) {
        self.inner.log(line);
    }

    fn step(&mut self, report: &StepReport) {
        let values = report.metrics.iter().chain(&report.timings);
        let values = values.map(|(name, value)| (name.as_str(), *value));
        self.run.step(report.step, values);
        if let Some(trouble) = self.run.take_trouble() {
            self.inner.log(&trouble);
        }
        self.inner.step(report);
    }

    fn saved(&mut self, step: u64, folder: &Path) {
        self.inner.saved(step, folder);
    }

    fn checkpoint_folder(&mut self, step: u64) -> Option<PathBuf> {
        self.inner.checkpoint_folder(step)
    }

    fn published(&mut self, step: u64, folder: &Path) {
        self.inner.published(step, folder);
    }

    fn stop_requested(&self) -> bool {
        self.inner.stop_requested()
    }
}

/// Runs a job to its end. What the tracker does or fails to do changes nothing of it.
///
/// # Errors
/// The job's own.
pub fn run_watched(
    job: &Job,
    observer: &mut dyn TrainObserver,
    tracker: Option<(&MlflowSettings, Tracked)>,
) -> Result<Ending, TrainingError> {
    let Some((settings, tracked)) = tracker else {
        return training::run(job, observer);
    };
    let run = match MlflowRun::start(settings.clone(), tracked) {
        Ok(run) => run,
        Err(error) => {
            observer.log(&super::chain(&error));
            return training::run(job, observer);
        }
    };
    let watched = &mut Watched {
        inner: observer,
        run: &run,
    };
    let ending = training::run(job, watched);
    let end = match &ending {
        Ok(Ending::Finished) => RunEnd::Finished,
        Ok(Ending::Interrupted) => RunEnd::Interrupted,
        Err(_) => RunEnd::Failed,
    };
    if let Some(trouble) = run.end(end) {
        observer.log(&trouble);
    }
    ending
}
