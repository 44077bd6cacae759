//! A job that is asked to stop while it draws answers, and one whose folder is in use.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use steersman::training::mo_odpo::run;
use steersman::training::observe::{Ending, StepReport, TrainObserver};

use super::mo_odpo::job;
use super::recorder::Recorder;

/// Asks to stop once it was asked a few times after so many steps: in the midst of a roll-out.
struct Impatient {
    after: u64,
    steps: u64,
    asked: Cell<u32>,
    saved: Vec<u64>,
}

impl Impatient {
    fn new(after: u64) -> Self {
        Self {
            after,
            steps: 0,
            asked: Cell::new(0),
            saved: Vec::new(),
        }
    }
}

impl TrainObserver for Impatient {
    fn step(&mut self, report: &StepReport) {
        self.steps = report.step;
        self.asked.set(0);
    }

    fn saved(&mut self, step: u64, _folder: &Path) {
        self.saved.push(step);
    }

    fn stop_requested(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.steps == self.after && self.asked.get() > 3
    }
}

#[test]
fn a_job_stops_while_it_draws_and_goes_on_to_the_bit() {
    let whole = tempfile::tempdir().unwrap();
    run(&job(whole.path(), ""), &mut Recorder::new(None)).unwrap();
    // 0: while the statistics are fitted; 2: right after a state was saved
    for (after, saved) in [(0, vec![]), (1, vec![1]), (2, vec![2])] {
        let parts = tempfile::tempdir().unwrap();
        let mut observer = Impatient::new(after);
        let ending = run(&job(parts.path(), ""), &mut observer).unwrap();
        assert_eq!(ending, Ending::Interrupted, "after {after}");
        assert_eq!((observer.steps, observer.saved), (after, saved));
        let ending = run(&job(parts.path(), ""), &mut Recorder::new(None)).unwrap();
        assert_eq!(ending, Ending::Finished);
        for name in ["policy/adapter_model.safetensors", "metrics.jsonl"] {
            let read = |folder: &Path| fs::read(folder.join("run").join(name)).unwrap();
            assert!(read(whole.path()) == read(parts.path()), "{name} differs");
        }
    }
}

#[test]
fn each_state_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut observer = Impatient::new(99);
    run(&job(folder.path(), ""), &mut observer).unwrap();
    assert_eq!(observer.saved, [2, 4]);
    // all steps are done: nothing is left to save
    let mut again = Impatient::new(99);
    assert_eq!(
        run(&job(folder.path(), ""), &mut again).unwrap(),
        Ending::Finished
    );
    assert!(again.saved.is_empty());
}

/// Starts the same job again in the midst of it.
struct Twice<'a> {
    folder: &'a Path,
    refused: Option<String>,
}

impl TrainObserver for Twice<'_> {
    fn step(&mut self, _report: &StepReport) {
        let second = run(&job(self.folder, ""), &mut Recorder::new(None));
        self.refused = second.err().map(|error| error.to_string());
    }
}

#[test]
fn a_second_run_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut observer = Twice {
        folder: folder.path(),
        refused: None,
    };
    run(&job(folder.path(), ""), &mut observer).unwrap();
    let refused = observer.refused.unwrap();
    assert!(refused.contains("in use by another run"), "{refused}");
}
