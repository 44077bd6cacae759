//! The loss and gradient of a step's preference pairs: policy against reference, in micro-batches.

use candle_core::{Tensor, Var};

use super::TrainingError;
use super::config::TermSettings;
use super::gradients::Gradients;
use super::logps::{Sequence, Side, constants, pack};
use super::loss::{LossSettings, PairLogps, anchor_loss, preference_loss, weight_contrast_loss};
use super::passes::{Keep, Passes};
use crate::types::TokenId;

/// A labelled pair, its reference log-probabilities already known.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainPair {
    /// The prompt that both completions were drawn from, conditioning included.
    pub prompt: Vec<TokenId>,
    /// The better completion, then the other one; end tokens included.
    pub completions: [Vec<TokenId>; 2],
    /// Probability that the first is the better one.
    pub target: f32,
    /// log pi_ref of each completion under `prompt`.
    pub reference: [f32; 2],
    /// The same prompt under other weights, for the MI-EPO term.
    pub contrast: Option<Contrast>,
    /// The completions were drawn from `prompt` itself, not under other weights.
    pub on_policy: bool,
}

/// A pair's prompt under independently drawn weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrast {
    /// The prompt, conditioned on the other weights.
    pub prompt: Vec<TokenId>,
    /// log pi_ref of each completion under that prompt.
    pub reference: [f32; 2],
}

impl TrainPair {
    /// Its two sequences under its own prompt.
    pub fn sequences(&self) -> [Sequence<'_>; 2] {
        self.under(&self.prompt)
    }

    /// Its two sequences under another prompt.
    pub fn under<'a>(&'a self, prompt: &'a [TokenId]) -> [Sequence<'a>; 2] {
        [0, 1].map(|i| Sequence {
            prompt,
            completion: &self.completions[i],
        })
    }

    /// Tokens of all its sequences.
    pub(super) fn tokens(&self) -> usize {
        let own: usize = self.sequences().iter().map(Sequence::len).sum();
        let other = self.contrast.as_ref().map(|c| self.under(&c.prompt));
        own + other.map_or(0, |sequences| sequences.iter().map(Sequence::len).sum())
    }
}

/// What is minimised, and how much of it at a time.
#[derive(Debug, Clone, Copy)]
pub struct Objective<'a> {
    /// The preference loss.
    pub loss: &'a LossSettings,
    /// What is added to it.
    pub terms: &'a TermSettings,
    /// Tokens of one pass.
    pub micro_batch_tokens: usize,
    /// What a pass keeps for its way back.
    pub keep: Keep,
}

/// A step's gradient, and what its pairs looked like.
#[derive(Debug)]
pub struct PreferenceStep {
    /// Gradient of the mean loss.
    pub gradients: Gradients,
    /// The mean loss, terms included.
    pub loss: f64,
    /// Each pair's beta-scaled margin.
    pub margins: Vec<f32>,
    /// Each pair's policy log-probabilities, first completion, then second.
    pub policy: Vec<[f32; 2]>,
}

/// Loss and gradient of the mean over `pairs`, which must not be empty.
pub fn preference_step(
    policy: Side<'_>,
    vars: &[(String, Var)],
    pairs: &[TrainPair],
    objective: Objective<'_>,
) -> Result<PreferenceStep, TrainingError> {
    let mut step = PreferenceStep {
        gradients: Gradients::new(vars.len()),
        loss: 0.0,
        margins: Vec::with_capacity(pairs.len()),
        policy: Vec::with_capacity(pairs.len()),
    };
    let sizes: Vec<usize> = pairs.iter().map(TrainPair::tokens).collect();
    for range in pack(&sizes, objective.micro_batch_tokens) {
        let batch = &pairs[range];
        let mut passes = policy.passes(objective.keep);
        let logps = pair_logps(policy, &mut passes, batch)?;
        let preference = preference_loss(objective.loss, &logps)?;
        let mut loss = preference.per_pair.sum_all()?;
        if objective.terms.anchor_weight > 0.0 {
            let anchor = anchor_loss(objective.loss.beta, &logps)?.sum_all()?;
            loss = (loss + (anchor * objective.terms.anchor_weight)?)?;
        }
        if let Some(contrast) =
            contrast_term(policy, &mut passes, (batch, &logps), objective.terms)?
        {
            loss = (loss + contrast)?;
        }
        let loss = (loss / pairs.len() as f64)?;
        step.loss += f64::from(loss.to_scalar::<f32>()?);
        step.gradients.add_all(passes.backward(&loss, vars)?)?;
        step.margins.extend(preference.margin.to_vec1::<f32>()?);
        let chosen = logps.policy_chosen.detach().to_vec1::<f32>()?;
        let rejected = logps.policy_rejected.detach().to_vec1::<f32>()?;
        step.policy
            .extend(chosen.into_iter().zip(rejected).map(|(c, r)| [c, r]));
    }
    Ok(step)
}

/// The mean preference loss of `pairs` and each one's beta-scaled margin, without a gradient.
pub fn preference_measure(
    policy: Side<'_>,
    pairs: &[TrainPair],
    objective: Objective<'_>,
) -> Result<(f64, Vec<f32>), TrainingError> {
    let (mut loss, mut margins) = (0.0, Vec::with_capacity(pairs.len()));
    let sizes: Vec<usize> = pairs.iter().map(TrainPair::tokens).collect();
    for range in pack(&sizes, objective.micro_batch_tokens) {
        let preference = {
            let mut passes = policy.passes(Keep::Nothing);
            let logps = pair_logps(policy, &mut passes, &pairs[range])?;
            preference_loss(objective.loss, &logps)?
        };
        loss += f64::from(preference.per_pair.sum_all()?.to_scalar::<f32>()?);
        margins.extend(preference.margin.to_vec1::<f32>()?);
    }
    Ok((loss / pairs.len().max(1) as f64, margins))
}

/// Both completions of every pair in one pass: the chosen ones first, then the rejected.
fn pair_logps(
    policy: Side<'_>,
    passes: &mut Passes<'_>,
    pairs: &[TrainPair],
) -> Result<PairLogps, TrainingError> {
    let sequences: Vec<Sequence<'_>> = [0, 1]
        .into_iter()
        .flat_map(|i| pairs.iter().map(move |p| p.sequences()[i]))
        .collect();
    let both = policy.sequence_logps(passes, &sequences)?;
    let count = pairs.len();
    let side = |i: usize| {
        Ok::<_, TrainingError>((
            both.narrow(0, i * count, count)?,
            constants(pairs.iter().map(|p| p.reference[i]))?,
            constants(pairs.iter().map(|p| p.completions[i].len() as f32))?,
        ))
    };
    let (policy_chosen, reference_chosen, length_chosen) = side(0)?;
    let (policy_rejected, reference_rejected, length_rejected) = side(1)?;
    Ok(PairLogps {
        policy_chosen,
        policy_rejected,
        reference_chosen,
        reference_rejected,
        length_chosen,
        length_rejected,
        target: constants(pairs.iter().map(|p| p.target))?,
    })
}

/// The MI-EPO term, summed over the pairs that carry a contrast; the mean over a pair's two
/// completions.
fn contrast_term(
    policy: Side<'_>,
    passes: &mut Passes<'_>,
    (pairs, logps): (&[TrainPair], &PairLogps),
    terms: &TermSettings,
) -> Result<Option<Tensor>, TrainingError> {
    let with: Vec<(usize, &TrainPair, &Contrast)> = pairs
        .iter()
        .enumerate()
        .filter_map(|(i, pair)| pair.contrast.as_ref().map(|contrast| (i, pair, contrast)))
        .collect();
    if !terms.mi_term || with.is_empty() {
        return Ok(None);
    }
    let sequences: Vec<Sequence<'_>> = [0, 1]
        .into_iter()
        .flat_map(|side| {
            with.iter()
                .map(move |(_, pair, c)| pair.under(&c.prompt)[side])
        })
        .collect();
    let references = [0, 1]
        .into_iter()
        .flat_map(|side| with.iter().map(move |w| w.2.reference[side]));
    let other = (policy.sequence_logps(passes, &sequences)? - constants(references)?)?;
    let rows: Vec<u32> = with.iter().map(|(i, ..)| *i as u32).collect();
    let rows = Tensor::new(rows.as_slice(), other.device())?;
    let own = Tensor::cat(
        &[
            (&logps.policy_chosen - &logps.reference_chosen)?
                .detach()
                .index_select(&rows, 0)?,
            (&logps.policy_rejected - &logps.reference_rejected)?
                .detach()
                .index_select(&rows, 0)?,
        ],
        0,
    )?;
    let term = weight_contrast_loss(terms.mi_beta, &own, &other)?.sum_all()?;
    Ok(Some((term * (0.5 * terms.mi_weight))?))
}

/// Tokens of the answers, which the loss is about.
pub fn trained_tokens(pairs: &[TrainPair]) -> usize {
    pairs
        .iter()
        .flat_map(|pair| &pair.completions)
        .map(Vec::len)
        .sum()
}
