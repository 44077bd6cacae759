//! Texts as training sequences: encoded, cut, and told which tokens the loss is about.

use std::path::Path;

use rand::Rng;
use rayon::prelude::*;

use super::TrainingError;
use super::config::{SupervisedJob, Tells, TextData, WarmUp};
use super::data::{TextRow, read_texts};
use super::own_scores::OwnScores;
use super::seeds::stream;
use crate::steering::ObjectiveSet;
use crate::text::PromptEncoder;
use crate::types::{Message, TokenId};

/// Tokens, and for each whether predicting it is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSequence {
    /// All tokens.
    pub tokens: Vec<TokenId>,
    /// Parallel to `tokens`; the first is never a target.
    pub targets: Vec<bool>,
}

/// An item of the data set.
enum Item {
    /// Encoded once.
    Ready(TrainSequence),
    /// Encoded each time, under weights drawn anew.
    Conditioned(Conditioned),
}

/// A dialogue that carries weights.
struct Conditioned {
    turns: Vec<Message>,
    /// Parallel to `turns`.
    trained: Vec<bool>,
    /// What the answer is worth, in the objectives' order.
    scores: Vec<f32>,
    /// Which conditioning says how.
    conditioning: usize,
}

/// How dialogues' prompts are conditioned.
pub(super) struct Conditioning<'a> {
    pub(super) settings: &'a WarmUp,
    pub(super) objectives: ObjectiveSet,
    /// Where dialogues are told their own scores.
    pub(super) scores: Option<OwnScores>,
}

/// All training sequences of a job.
pub struct TextSet<'a> {
    items: Vec<Item>,
    /// Indices into `items`, repeated sets repeated.
    places: Vec<usize>,
    encoder: &'a PromptEncoder,
    conditionings: Vec<Conditioning<'a>>,
    max_tokens: usize,
    seed: u64,
}

impl<'a> TextSet<'a> {
    /// Reads and encodes a job's training texts.
    pub fn read(job: &'a SupervisedJob, encoder: &'a PromptEncoder) -> Result<Self, TrainingError> {
        let mut conditionings = Vec::with_capacity(job.warm_up.len());
        for settings in job.warm_up.values() {
            let objectives = settings.objective_set()?;
            conditionings.push(Conditioning {
                settings,
                objectives,
                scores: None,
            });
        }
        let mut set = Self {
            items: Vec::new(),
            places: Vec::new(),
            encoder,
            conditionings,
            max_tokens: job.data.max_tokens,
            seed: job.job.seed,
        };
        for source in &job.data.train {
            let mut rows = read_texts(&source.path)?;
            rows.truncate(source.max_rows.unwrap_or(usize::MAX));
            let first = set.items.len();
            let named = |name: &String| job.warm_up.keys().position(|known| known == name);
            let conditioning = source.warm_up.as_ref().and_then(named);
            set.add(rows, conditioning, &source.path)?;
            for _ in 0..source.repeat {
                set.places.extend(first..set.items.len());
            }
        }
        if set.places.is_empty() {
            return Err(TrainingError::Data(
                "no training sequence in the files".into(),
            ));
        }
        set.fit_scores()?;
        Ok(set)
    }

    /// Takes the statistics of scores that are told, over each dialogue once.
    fn fit_scores(&mut self) -> Result<(), TrainingError> {
        for (place, conditioning) in self.conditionings.iter_mut().enumerate() {
            let Conditioning {
                settings,
                objectives,
                ..
            } = conditioning;
            if settings.tells == Tells::Scores {
                let rows = self.items.iter().filter_map(|item| match item {
                    Item::Conditioned(it) if it.conditioning == place => Some(it.scores.as_slice()),
                    _ => None,
                });
                let rows: Vec<&[f32]> = rows.collect();
                conditioning.scores = Some(OwnScores::fit(settings, objectives, &rows)?);
            }
        }
        Ok(())
    }

    /// The conditioning under which dialogues are told their own scores, where there is one.
    pub(super) fn scored(&self) -> Option<(&Conditioning<'a>, &OwnScores)> {
        let mut all = self.conditionings.iter();
        all.find_map(|it| Some((it, it.scores.as_ref()?)))
    }

    fn add(
        &mut self,
        rows: Vec<TextRow>,
        conditioning: Option<usize>,
        path: &Path,
    ) -> Result<(), TrainingError> {
        let encoded: Vec<Vec<Item>> = rows
            .into_par_iter()
            .map(|row| match (row, conditioning) {
                (
                    TextRow::Dialogue {
                        turns,
                        trained,
                        scores,
                    },
                    Some(conditioning),
                ) => {
                    let Conditioning {
                        settings,
                        objectives,
                        ..
                    } = &self.conditionings[conditioning];
                    let score = |name: &String| match (scores.get(name), settings.tells) {
                        (Some(score), _) => Ok(*score),
                        (None, Tells::Weights) => Ok(0.0),
                        (None, Tells::Scores) => Err(TrainingError::Data(format!(
                            "{}: a dialogue has no score of `{name}`, and is to be told it",
                            path.display()
                        ))),
                    };
                    let scores = objectives.iter().map(|objective| score(&objective.name));
                    Ok(vec![Item::Conditioned(Conditioned {
                        turns,
                        trained,
                        scores: scores.collect::<Result<_, _>>()?,
                        conditioning,
                    })])
                }
                (row, _) => {
                    let sequences = encode(self.encoder, &row, self.max_tokens)?;
                    Ok(sequences.into_iter().map(Item::Ready).collect())
                }
            })
            .collect::<Result<_, TrainingError>>()?;
        self.items.extend(encoded.into_iter().flatten());
        Ok(())
    }

    /// Sequences, repeated sets counted as often as they are seen.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True without any sequence.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The sequence at a place. `turn` says how many were dealt before it, so that a dialogue
    /// meets other weights each time.
    pub fn sequence(&self, place: usize, turn: u64) -> Result<TrainSequence, TrainingError> {
        let item = match &self.items[self.places[place]] {
            Item::Ready(sequence) => return Ok(sequence.clone()),
            Item::Conditioned(item) => item,
        };
        let Conditioning {
            settings,
            objectives,
            scores,
        } = &self.conditionings[item.conditioning];
        let mut span = None;
        let mut rng = stream(self.seed, "warm-up", &[turn]);
        let told = rng.random::<f64>() < settings.share;
        if let (true, Some(scores)) = (told, scores) {
            span = scores.span(settings, objectives, &item.scores);
        } else if told {
            let drawn = settings
                .weights
                .draw_in_hindsight(&item.scores, settings.lean, &mut rng);
            let weights = settings.conditioning.heard(&drawn);
            span = settings.conditioning.render(objectives, &weights);
        }
        let (tokens, targets) =
            self.encoder
                .encode_turns(&item.turns, |turn| item.trained[turn], span.as_ref())?;
        Ok(cut(tokens, targets, self.max_tokens))
    }
}

/// Test sequences: the same encoding, no weights.
pub fn read_test(
    data: &TextData,
    encoder: &PromptEncoder,
) -> Result<Vec<TrainSequence>, TrainingError> {
    let mut sequences = Vec::new();
    for path in &data.test {
        for row in read_texts(path)? {
            sequences.extend(encode(encoder, &row, data.max_tokens)?);
        }
    }
    Ok(sequences)
}

/// Tokens of each sequence that a row makes.
pub(super) fn lengths(
    encoder: &PromptEncoder,
    row: &TextRow,
    max_tokens: usize,
) -> Result<Vec<usize>, TrainingError> {
    let sequences = encode(encoder, row, max_tokens)?;
    Ok(sequences.iter().map(|s| s.tokens.len()).collect())
}

/// A row's sequences. Plain text is trained on wholly, from the beginning token to the end token,
/// and cut into pieces; pieces after the first start where the one before ended.
fn encode(
    encoder: &PromptEncoder,
    row: &TextRow,
    max_tokens: usize,
) -> Result<Vec<TrainSequence>, TrainingError> {
    match row {
        TextRow::Dialogue { turns, trained, .. } => {
            let (tokens, targets) = encoder.encode_turns(turns, |turn| trained[turn], None)?;
            Ok(vec![cut(tokens, targets, max_tokens)])
        }
        TextRow::Text(text) => {
            let tokenizer = encoder.tokenizer();
            let mut tokens: Vec<TokenId> = tokenizer.bos_id().into_iter().collect();
            tokens.extend(tokenizer.encode_plain(text)?);
            tokens.extend(tokenizer.eos_ids().first());
            Ok(pieces(&tokens, max_tokens))
        }
    }
}

/// Neighbouring pieces share one token, so that each token but the very first is a target once.
fn pieces(tokens: &[TokenId], max_tokens: usize) -> Vec<TrainSequence> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start + 1 < tokens.len() {
        let end = (start + max_tokens).min(tokens.len());
        let mut targets = vec![true; end - start];
        targets[0] = false;
        pieces.push(TrainSequence {
            tokens: tokens[start..end].to_vec(),
            targets,
        });
        start = end - 1;
    }
    pieces
}

fn cut(mut tokens: Vec<TokenId>, mut targets: Vec<bool>, max_tokens: usize) -> TrainSequence {
    tokens.truncate(max_tokens);
    targets.truncate(max_tokens);
    if let Some(first) = targets.first_mut() {
        *first = false;
    }
    TrainSequence { tokens, targets }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_but_the_first_is_a_target_once() {
        let tokens: Vec<TokenId> = (0..10).collect();
        let pieces = pieces(&tokens, 4);
        let lengths: Vec<usize> = pieces.iter().map(|p| p.tokens.len()).collect();
        assert_eq!(lengths, [4, 4, 4]);
        let mut targets = Vec::new();
        for piece in &pieces {
            let aimed = piece
                .tokens
                .iter()
                .zip(&piece.targets)
                .filter(|(_, target)| **target);
            targets.extend(aimed.map(|(token, _)| *token));
        }
        assert_eq!(targets, (1..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_single_token_gives_nothing_to_train_on() {
        assert!(pieces(&[1], 4).is_empty());
    }

    #[test]
    fn a_long_dialogue_loses_its_end() {
        let sequence = cut(vec![1, 2, 3], vec![true, false, true], 2);
        assert_eq!(
            sequence,
            TrainSequence {
                tokens: vec![1, 2],
                targets: vec![false, false]
            }
        );
    }
}
