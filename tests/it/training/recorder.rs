//! An observer that keeps every report and can ask a job to stop.

use steersman::training::observe::{StepReport, TrainObserver};

/// Keeps the reports and stops after a number of steps.
pub(crate) struct Recorder {
    /// Each step's report.
    pub(crate) reports: Vec<StepReport>,
    stop_after: Option<u64>,
}

impl Recorder {
    /// Asks to stop after a step, or never.
    pub(crate) fn new(stop_after: Option<u64>) -> Self {
        Self {
            reports: Vec::new(),
            stop_after,
        }
    }
}

impl TrainObserver for Recorder {
    fn step(&mut self, report: &StepReport) {
        self.reports.push(report.clone());
    }

    fn stop_requested(&self) -> bool {
        let done = self.reports.last().map(|report| report.step);
        self.stop_after.is_some_and(|wanted| done == Some(wanted))
    }
}
