//! When a step is full, and how many steps a pass over a file of texts takes.

use std::path::Path;

use super::super::TrainingError;
use super::super::batches::lengths;
use super::super::config::SupervisedJob;
use super::super::data::read_first_texts;
use crate::text::PromptEncoder;

/// What a step holds so far.
#[derive(Debug, Default)]
pub(super) struct Filled {
    sequences: usize,
    tokens: usize,
}

impl Filled {
    /// Takes a sequence of so many tokens in; true where the step is full.
    pub(super) fn add(&mut self, tokens: usize, job: &SupervisedJob) -> bool {
        self.sequences += 1;
        self.tokens += tokens.max(1);
        match job.sequences_per_step {
            Some(most) => self.sequences >= most,
            None => self.tokens >= job.batch_tokens,
        }
    }
}

/// How long the sequences of a file are, before it is trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct TextLengths {
    /// Tokens of each sequence that was looked at.
    tokens: Vec<usize>,
    /// How often these would make the whole file: 1 where all were looked at.
    times: f64,
}

impl TextLengths {
    /// Encodes the first rows of a file of `bytes` bytes, until they have `most` bytes.
    ///
    /// # Errors
    /// The file or a row of it cannot be trained on.
    pub fn measure(
        path: &Path,
        encoder: &PromptEncoder,
        max_tokens: usize,
        (bytes, most): (u64, u64),
    ) -> Result<Self, TrainingError> {
        let first = read_first_texts(path, most)?;
        let mut tokens = Vec::new();
        for row in &first.rows {
            tokens.extend(lengths(encoder, row, max_tokens)?);
        }
        let times = match first.all {
            true => 1.0,
            false => (bytes as f64 / first.bytes as f64).max(1.0),
        };
        Ok(Self { tokens, times })
    }

    /// Sequences of the file.
    pub fn sequences(&self) -> f64 {
        self.tokens.len() as f64 * self.times
    }

    /// Tokens of the file.
    pub fn tokens(&self) -> f64 {
        self.tokens.iter().sum::<usize>() as f64 * self.times
    }

    /// Steps of a pass over the file. With `batch_tokens` it may be off by some, as the rows
    /// come in another order each time.
    pub fn steps_a_pass(&self, job: &SupervisedJob) -> f64 {
        if let Some(sequences) = job.sequences_per_step {
            return (self.sequences() / sequences as f64).ceil().max(1.0);
        }
        let mut steps = 0;
        let mut filled = Filled::default();
        for tokens in &self.tokens {
            if filled.add(*tokens, job) {
                steps += 1;
                filled = Filled::default();
            }
        }
        // what is left makes a short step at the end of the whole file
        let rest = filled.tokens as f64 / job.batch_tokens as f64;
        ((f64::from(steps) + rest) * self.times).ceil().max(1.0)
    }
}
