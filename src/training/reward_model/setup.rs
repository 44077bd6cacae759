//! Everything around a reward model's step: loading, splitting, saving.

use super::super::TrainingError;
use super::super::config::{OptimizerSettings, PairData, RewardModelJob, SplitHalf};
use super::super::course::Course;
use super::super::data::{PairRow, read_pairs};
use super::super::observe::TrainObserver;
use super::super::optim::AdamW;
use super::super::seeds::derive;
use super::super::state::write_synced;
use super::checkpoint::ScoringModel;
use super::{Agreement, RewardCard, TokenPair};
use crate::steering::BaseRef;
use crate::text::PromptEncoder;
use crate::types::{Message, TokenId};

/// Bad steps in a row after which a job gives up.
const MAX_FAILURES: u32 = 3;

/// A job in progress.
pub(super) struct Trainer<'a> {
    pub(super) job: &'a RewardModelJob,
    pub(super) optimizer: OptimizerSettings,
    pub(super) train: Vec<TokenPair>,
    pub(super) test: Vec<TokenPair>,
    pub(super) model: ScoringModel,
    pub(super) course: Course,
}

impl<'a> Trainer<'a> {
    pub(super) fn load(
        job: &'a RewardModelJob,
        observer: &mut dyn TrainObserver,
    ) -> Result<Self, TrainingError> {
        let encoder = PromptEncoder::load(&job.job.model)?;
        let seed = derive(job.job.seed, "reward model", &[]);
        let model = ScoringModel::load(&job.job.model, &job.policy, seed)?;
        let limit = job.data.max_tokens.min(model.max_positions());
        let train = read(&job.data.train, &job.data, job.data.half, &encoder, limit)?;
        let test = read(&job.data.test, &job.data, SplitHalf::All, &encoder, limit)?;
        observer.log(&format!(
            "{} pairs to train on, {} to test on",
            train.len(),
            test.len()
        ));
        let optimizer = job.optimizer();
        let adam = AdamW::new(model.vars().to_vec(), optimizer.clone());
        let (course, found) = Course::open(job, adam, train.len(), MAX_FAILURES)?;
        let mut trainer = Self {
            optimizer,
            train,
            test,
            model,
            course,
            job,
        };
        let probe = trainer.differentiate(&[&trainer.train[0]])?;
        probe.gradients.self_check(trainer.course.adam.vars())?;
        trainer.course.go_on::<_, ()>(job, found, observer)?;
        Ok(trainer)
    }

    /// Saves the state after the current step.
    pub(super) fn save(&mut self, observer: &mut dyn TrainObserver) -> Result<(), TrainingError> {
        self.course.save(self.job, &(), observer)
    }

    /// Writes the finished model and what is known of it.
    pub(super) fn publish(
        &self,
        agreement: &Agreement,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), TrainingError> {
        let output = &self.job.job.output;
        let folder = output.join("model");
        self.model.save(&self.job.job.model, &folder)?;
        self.card(agreement).save(&folder)?;
        let path = output.join("agreement.json");
        let text = serde_json::to_string_pretty(agreement)
            .map_err(|error| TrainingError::Data(error.to_string()))?;
        write_synced(&path, text.as_bytes())?;
        let accuracy = agreement.accuracy;
        observer.log(&format!(
            "accuracy {:.3} ({:.3} to {:.3}) on {} test pairs; the longer answer is preferred in {:.3}, \
             by the model in {:.3}; wrote {}",
            accuracy.value,
            accuracy.low,
            accuracy.high,
            agreement.pairs,
            agreement.longer_wins.value,
            agreement.prefers_longer.value,
            folder.display()
        ));
        Ok(())
    }
}

/// Pairs of the job's objective and half, as token ids. A conversation longer than `limit` loses
/// its start: the answer and what it answers stand at the end.
fn read(
    paths: &[std::path::PathBuf],
    data: &PairData,
    half: SplitHalf,
    encoder: &PromptEncoder,
    limit: usize,
) -> Result<Vec<TokenPair>, TrainingError> {
    let mut pairs = Vec::new();
    for path in paths {
        for row in read_pairs(path)? {
            let wanted = data.objective.is_none() || row.objective == data.objective;
            if wanted && in_half(&row, half) {
                let encode = |answer: &str| encode(encoder, &row.prompt, answer, limit);
                let (chosen, rejected) = (encode(&row.chosen)?, encode(&row.rejected)?);
                pairs.push(TokenPair {
                    answer_tokens: [chosen.1, rejected.1],
                    conversations: [chosen.0, rejected.0],
                });
            }
        }
    }
    if pairs.is_empty() {
        let objective = data.objective.as_deref().unwrap_or("any objective");
        return Err(TrainingError::Data(format!(
            "no pair of {objective} in the files"
        )));
    }
    Ok(pairs)
}

impl Trainer<'_> {
    fn card(&self, agreement: &Agreement) -> RewardCard {
        let model = self.job.job.model.file_name().unwrap_or_default();
        RewardCard {
            format_version: RewardCard::FORMAT_VERSION,
            objective: self.job.data.objective.clone(),
            base: BaseRef {
                name: model.to_string_lossy().into_owned(),
                hash: self.course.base_hash.clone(),
            },
            steps: self.course.step,
            seed: self.job.job.seed,
            agreement: *agreement,
        }
    }
}

/// A conversation with an answer, cut to `limit` tokens, and the tokens of the whole answer.
fn encode(
    encoder: &PromptEncoder,
    prompt: &[Message],
    answer: &str,
    limit: usize,
) -> Result<(Vec<TokenId>, usize), TrainingError> {
    let turns: Vec<Message> = prompt
        .iter()
        .cloned()
        .chain([Message::assistant(answer)])
        .collect();
    let (mut tokens, by_assistant) = encoder.encode_dialogue(&turns, None)?;
    let over = tokens.len().saturating_sub(limit);
    tokens.drain(..over);
    let from_end = by_assistant.iter().rev().skip_while(|by| !**by);
    let answer = from_end.take_while(|by| **by).count();
    Ok((tokens, answer))
}

/// Halves by the hash of the prompt, so that all pairs of a prompt are on one side.
fn in_half(row: &PairRow, half: SplitHalf) -> bool {
    let mut hasher = blake3::Hasher::new();
    for turn in &row.prompt {
        hasher.update(turn.role.as_str().as_bytes());
        hasher.update(&[0]);
        hasher.update(turn.content.as_bytes());
        hasher.update(&[0]);
    }
    let even = hasher.finalize().as_bytes()[0] & 1 == 0;
    match half {
        SplitHalf::All => true,
        SplitHalf::A => even,
        SplitHalf::B => !even,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_is_in_one_half_and_both_halves_are_used() {
        let row = |text: String| PairRow {
            id: String::new(),
            prompt: vec![Message::user(text)],
            chosen: "a".into(),
            rejected: "b".into(),
            objective: None,
            weights: std::collections::BTreeMap::new(),
        };
        let rows: Vec<PairRow> = (0..200).map(|i| row(format!("prompt {i}"))).collect();
        let a = rows.iter().filter(|row| in_half(row, SplitHalf::A)).count();
        let b = rows.iter().filter(|row| in_half(row, SplitHalf::B)).count();
        assert_eq!(a + b, 200);
        assert!((70..130).contains(&a), "{a}");
    }
}
