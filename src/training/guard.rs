//! Lets an update through only if its loss and gradient are finite.

use super::TrainingError;
use super::observe::TrainObserver;

/// Counts bad steps in a row.
#[derive(Debug, Clone)]
pub struct UpdateGuard {
    max_failures: u32,
    failures: u32,
}

impl UpdateGuard {
    /// Ends the job at `max_failures` bad steps in a row, `failures` of which have been.
    pub fn new(max_failures: u32, failures: u32) -> Self {
        Self {
            max_failures,
            failures,
        }
    }

    /// Bad steps in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Goes on after `failures` bad steps in a row.
    pub fn go_on(&mut self, failures: u32) {
        self.failures = failures;
    }

    /// Whether the update of `step` (counted from 1) may be made. A bad one is told and skipped;
    /// too many in a row are an error.
    pub fn check(
        &mut self,
        step: u64,
        loss: f64,
        gradient_norm: f64,
        observer: &mut dyn TrainObserver,
    ) -> Result<bool, TrainingError> {
        let what = if !loss.is_finite() {
            "loss"
        } else if !gradient_norm.is_finite() {
            "gradient"
        } else {
            self.failures = 0;
            return Ok(true);
        };
        self.failures += 1;
        if self.failures >= self.max_failures {
            return Err(TrainingError::NotFinite {
                step,
                what,
                failures: self.failures,
            });
        }
        observer.log(&format!(
            "step {step}: the {what} is not finite; no update was made"
        ));
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::observe::Silent;
    use super::*;

    #[test]
    fn three_in_a_row_end_the_job_and_a_good_one_forgives() {
        let mut guard = UpdateGuard::new(3, 0);
        let mut check = |loss: f64, norm: f64| guard.check(1, loss, norm, &mut Silent);
        assert!(!check(f64::NAN, 1.0).unwrap());
        assert!(!check(1.0, f64::INFINITY).unwrap());
        assert!(check(1.0, 1.0).unwrap());
        assert!(!check(f64::INFINITY, 1.0).unwrap());
        assert!(!check(f64::NAN, 1.0).unwrap());
        let error = check(1.0, f64::NAN).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("gradient was not finite in 3 steps"),
            "{error}"
        );
    }
}
