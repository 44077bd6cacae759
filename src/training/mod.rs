//! The training loops: supervised, reward model, DPO, MO-ODPO. Knows nothing of HTTP or stores.

pub mod batches;
pub mod config;
mod course;
pub mod data;
pub mod dpo;
mod error;
pub mod fingerprint;
mod folder_lock;
pub mod gradients;
pub mod guard;
pub mod logps;
pub mod loss;
pub mod mo_odpo;
pub mod observe;
pub mod optim;
pub mod own_scores;
pub mod pairs;
pub mod passes;
pub mod policy;
pub mod preference_step;
pub mod reward_model;
pub mod rollout;
pub mod schedule;
pub mod seeds;
pub mod state;
pub mod supervised;
pub mod tensorboard;
pub mod trainable;

pub use error::TrainingError;

/// Runs any job to its end, from its newest saved state where there is one.
pub fn run(
    job: &config::Job,
    observer: &mut dyn observe::TrainObserver,
) -> Result<observe::Ending, TrainingError> {
    match job {
        config::Job::Supervised(job) => supervised::run(job, observer),
        config::Job::Dpo(job) => dpo::run(job, observer),
        config::Job::MoOdpo(job) => mo_odpo::run(job, observer),
        config::Job::RewardModel(job) => reward_model::run(job, observer),
    }
}
