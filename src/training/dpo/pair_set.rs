//! Preference pairs of files as token ids, their reference log-probabilities computed once.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::super::TrainingError;
use super::super::config::DpoJob;
use super::super::data::{PairRow, pair_row, read_rows};
use super::super::logps::{Sequence, Side};
use super::super::preference_step::TrainPair;
use crate::steering::{ConditioningTemplate, ObjectiveSet, WeightVector};
use crate::text::PromptEncoder;
use crate::types::{ControlSpan, Message, TokenId};

/// Pairs in the order of their files.
#[derive(Debug)]
pub(super) struct PairSet {
    pairs: Vec<TrainPair>,
    /// Whether a pair's reference log-probabilities are known.
    known: Vec<bool>,
    /// Pairs that were too long.
    pub(super) left_out: usize,
}

/// How rows become token ids.
pub(super) struct PairEncoder<'a> {
    job: &'a DpoJob,
    encoder: &'a PromptEncoder,
    stop_ids: &'a [TokenId],
    steering: Option<(ObjectiveSet, &'a ConditioningTemplate)>,
    /// Longest prompt with an answer.
    longest: usize,
}

impl<'a> PairEncoder<'a> {
    pub(super) fn new(
        job: &'a DpoJob,
        encoder: &'a PromptEncoder,
        stop_ids: &'a [TokenId],
        context: usize,
    ) -> Result<Self, TrainingError> {
        Ok(Self {
            steering: job.steering()?,
            job,
            encoder,
            stop_ids,
            longest: job.data.max_tokens.min(context),
        })
    }

    /// Reads files of pairs; bad rows are named by file and line.
    pub(super) fn read(&self, paths: &[PathBuf]) -> Result<PairSet, TrainingError> {
        let mut rows = Vec::new();
        for path in paths {
            rows.extend(read_rows(path, |line, record| {
                let row = pair_row(path, line, &record)?;
                let weights = self.weights(&row)?;
                Ok(vec![(row, weights, (path.as_path(), line))])
            })?);
        }
        let only = self.job.data.objective.as_deref();
        rows.retain(|(row, ..)| only.is_none() || row.objective.as_deref() == only);
        let count = rows.len();
        let encoded: Vec<Option<TrainPair>> = rows
            .into_par_iter()
            .map(|(row, weights, place)| self.encode(&row, weights.as_ref(), place))
            .collect::<Result<_, TrainingError>>()?;
        let pairs: Vec<TrainPair> = encoded.into_iter().flatten().collect();
        Ok(PairSet {
            known: vec![false; pairs.len()],
            left_out: count - pairs.len(),
            pairs,
        })
    }

    /// The weights that a row holds under; an objective is all weight on it.
    fn weights(&self, row: &PairRow) -> Result<Option<WeightVector>, String> {
        let Some((objectives, _)) = &self.steering else {
            return match row.weights.is_empty() {
                true => Ok(None),
                false => Err(
                    "it has weights, but the job has no objectives and no conditioning to tell \
                     a policy of them"
                        .into(),
                ),
            };
        };
        let named: Vec<(String, f64)> = match &row.objective {
            Some(objective) => vec![(objective.clone(), 1.0)],
            None => row.weights.clone().into_iter().collect(),
        };
        if named.is_empty() {
            return Ok(None);
        }
        let weights = objectives.from_named(&named);
        weights.map(Some).map_err(|error| error.to_string())
    }

    /// A pair's token ids; none where it is too long.
    fn encode(
        &self,
        row: &PairRow,
        weights: Option<&WeightVector>,
        (path, line): (&Path, usize),
    ) -> Result<Option<TrainPair>, TrainingError> {
        let span: Option<ControlSpan> = match (&self.steering, weights) {
            (Some((objectives, template)), Some(weights)) => template.render(objectives, weights),
            _ => None,
        };
        let prompt = self.encoder.encode_chat(&row.prompt, span.as_ref())?;
        let bare = match span {
            Some(_) => self.encoder.encode_chat(&row.prompt, None)?.len(),
            None => prompt.len(),
        };
        let completions = [
            self.completion(&row.prompt, &row.chosen, bare)?,
            self.completion(&row.prompt, &row.rejected, bare)?,
        ];
        if completions.iter().any(Vec::is_empty) || completions[0] == completions[1] {
            return Err(TrainingError::Row {
                path: path.to_owned(),
                line,
                reason: "an answer has no tokens, or both have the same, expected two answers"
                    .into(),
            });
        }
        let longer = completions[0].len().max(completions[1].len());
        let pair = TrainPair {
            prompt,
            completions,
            target: 1.0,
            reference: [f32::NAN; 2],
            contrast: None,
            on_policy: false,
        };
        Ok(Some(pair).filter(|pair| pair.prompt.len() + longer <= self.longest))
    }

    /// An answer as the policy would draw it, up to its end token; `prompt_tokens` without weights.
    fn completion(
        &self,
        prompt: &[Message],
        answer: &str,
        prompt_tokens: usize,
    ) -> Result<Vec<TokenId>, TrainingError> {
        let answer = Message::assistant(answer);
        let turns: Vec<Message> = prompt.iter().cloned().chain([answer]).collect();
        let (mut tokens, by_assistant) = self.encoder.encode_dialogue(&turns, None)?;
        let end = by_assistant.iter().rposition(|by| *by);
        tokens.truncate(end.map_or(0, |last| last + 1));
        let mut completion = tokens.split_off(prompt_tokens.min(tokens.len()));
        // what a template writes behind the end token is nothing that a policy draws
        if let Some(last) = completion.iter().rposition(|id| self.stop_ids.contains(id)) {
            completion.truncate(last + 1);
        }
        Ok(completion)
    }
}

impl PairSet {
    pub(super) fn empty() -> Self {
        Self {
            pairs: Vec::new(),
            known: Vec::new(),
            left_out: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(super) fn pairs(&self) -> &[TrainPair] {
        &self.pairs
    }

    /// Copies of these pairs.
    pub(super) fn taken(&self, places: &[usize]) -> Vec<TrainPair> {
        places.iter().map(|i| self.pairs[*i].clone()).collect()
    }

    /// Fills log pi_ref in where it is not known yet. The reference never changes and a sequence's
    /// bits do not depend on its batch, so what is kept is what would be computed again.
    pub(super) fn add_reference(
        &mut self,
        places: &[usize],
        reference: Side<'_>,
        budget: usize,
    ) -> Result<(), TrainingError> {
        let mut missing: Vec<usize> = places.iter().copied().filter(|i| !self.known[*i]).collect();
        missing.sort_unstable();
        missing.dedup();
        let sequences: Vec<Sequence<'_>> = missing
            .iter()
            .flat_map(|i| self.pairs[*i].sequences())
            .collect();
        let logps = reference.constant_logps(&sequences, budget)?;
        for (place, logps) in missing.into_iter().zip(logps.as_chunks::<2>().0) {
            self.pairs[place].reference = *logps;
            self.known[place] = true;
        }
        Ok(())
    }
}
