//! What an error means for a job: whether it waits to be resumed or is over, in words its owner
//! can act on.

use std::error::Error;
use std::io;

use crate::jobs::{JobEnd, JobTrouble};
use crate::registry::RegistryError;
use crate::rewards::RewardError;
use crate::service::chain;
use crate::training::TrainingError;

/// How an attempt that met `error` ends.
pub(super) fn end_of(error: &TrainingError) -> JobEnd {
    let told = chain(error);
    if is_out_of_space(error) {
        let message = format!(
            "no space is left on the disk ({told}); what was saved is good: free some space and \
             resume the job"
        );
        return JobEnd::Paused(JobTrouble::new("no_space", message));
    }
    match error {
        TrainingError::Setting { name, reason } => JobEnd::Failed(JobTrouble {
            code: "invalid_setting".to_owned(),
            message: format!("setting `{name}`: {reason}"),
            param: Some(name.clone()),
        }),
        TrainingError::Row { .. } | TrainingError::Data(_) => failed("invalid_data", told),
        TrainingError::NotFinite { .. } => failed("not_finite", told),
        TrainingError::KlCap { .. } => failed("kl_cap", told),
        TrainingError::SelfCheck { .. } => failed("self_check", told),
        TrainingError::State { .. } => failed("invalid_state", told),
        TrainingError::Reward(source) if is_for_good(source) => failed("reward", told),
        // the service or the disk behind a reward may come back; a missing reward is never a zero
        TrainingError::Reward(_) => {
            let message = format!(
                "a reward cannot be had ({told}); what was saved is good: mend the reward and \
                 resume the job"
            );
            JobEnd::Paused(JobTrouble::new("reward_unavailable", message))
        }
        TrainingError::File { .. } => file_unavailable(&told),
        _ => failed("internal", told),
    }
}

/// How an attempt ends that cannot have what its job reads.
pub(super) fn end_of_gathering(error: &RegistryError) -> JobEnd {
    let told = chain(error);
    let pause = |code, message| JobEnd::Paused(JobTrouble::new(code, message));
    if is_out_of_space(error) {
        let message =
            format!("no space is left on the disk ({told}): free some and resume the job");
        return pause("no_space", message);
    }
    match error {
        RegistryError::Storage(_) => {
            let message = format!(
                "what the job reads cannot be had from the registry ({told}): mend that and resume \
                 the job"
            );
            pause("registry_unavailable", message)
        }
        RegistryError::File { .. } | RegistryError::UploadMissing { .. } => file_unavailable(&told),
        _ => failed("invalid_data", told),
    }
}

/// A disk that fails, a descriptor too many, a file that was moved: another try may go well.
fn file_unavailable(told: &str) -> JobEnd {
    let message = format!(
        "a file or folder cannot be used ({told}); what was saved is good: mend that and resume \
         the job"
    );
    JobEnd::Paused(JobTrouble::new("file_unavailable", message))
}

fn failed(code: &str, message: String) -> JobEnd {
    JobEnd::Failed(JobTrouble::new(code, message))
}

/// Whether another try would meet the same error: the job's own settings are at fault.
fn is_for_good(error: &RewardError) -> bool {
    matches!(
        error,
        RewardError::Setting { .. }
            | RewardError::Pattern { .. }
            | RewardError::Json { .. }
            | RewardError::Row { .. }
            | RewardError::UnknownQuestion { .. }
            | RewardError::EmptySuite
            | RewardError::Normalizer(_)
            | RewardError::Text(_)
            | RewardError::Tokenize { .. }
    )
}

fn is_out_of_space(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let full = error.downcast_ref::<io::Error>().is_some_and(|error| {
            let kind = error.kind();
            kind == io::ErrorKind::StorageFull || kind == io::ErrorKind::QuotaExceeded
        });
        if full {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: TrainingError, paused: bool, code: &str) {
        let told = error.to_string();
        let (found, trouble) = match end_of(&error) {
            JobEnd::Paused(trouble) => (true, trouble),
            JobEnd::Failed(trouble) => (false, trouble),
            other => panic!("{told}: {other:?}"),
        };
        assert_eq!((found, trouble.code.as_str()), (paused, code), "{told}");
        assert!(!trouble.message.is_empty());
    }

    #[test]
    fn what_can_be_mended_pauses_and_what_cannot_fails() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        check(TrainingError::file("x", full()), true, "no_space");
        let of_reward = RewardError::File {
            path: "x".into(),
            source: full(),
        };
        check(of_reward.into(), true, "no_space");
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        for kind in [
            io::ErrorKind::NotFound,
            io::ErrorKind::StaleNetworkFileHandle,
        ] {
            let error = || io::Error::from(kind);
            check(TrainingError::file("x", error()), true, "file_unavailable");
            let of_registry = RegistryError::File {
                path: "x".into(),
                source: error(),
            };
            let end = end_of_gathering(&of_registry);
            assert!(matches!(end, JobEnd::Paused(_)), "{end:?}");
        }
        let lost = RewardError::File {
            path: "x".into(),
            source: gone(),
        };
        check(lost.into(), true, "reward_unavailable");
        let missing = RewardError::Count {
            reward: "r".into(),
            expected: 2,
            actual: 1,
        };
        check(missing.into(), true, "reward_unavailable");
        check(RewardError::EmptySuite.into(), false, "reward");
        let kl = TrainingError::KlCap {
            step: 3,
            kl: 9.0,
            cap: 1.0,
        };
        check(kl, false, "kl_cap");
        let nan = TrainingError::NotFinite {
            step: 3,
            what: "loss",
            failures: 3,
        };
        check(nan, false, "not_finite");
        check(TrainingError::setting("a", "b"), false, "invalid_setting");
    }
}
