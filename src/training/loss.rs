//! Preference losses over log-ratios of policy and reference, and the two optional terms.
//!
//! Every loss is a function f of the margin h = log-ratio(chosen) - log-ratio(rejected). A pair
//! whose label is soft, with probability p that "chosen" is the better one, has the loss
//! p f(h) + (1 - p) f(-h): label smoothing and per-objective labels are both such a p.
//! Built of differentiable tensor operations only; knows nothing of models or rewards.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// Which function of the margin is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLoss {
    /// -log sigmoid(beta h), arXiv 2305.18290; with label smoothing this is conservative DPO.
    #[default]
    Sigmoid,
    /// As `sigmoid`, on log-ratios divided by the completion's length.
    SigmoidNorm,
    /// max(0, 1 - beta h), arXiv 2305.10425.
    Hinge,
    /// `sigmoid` made unbiased for labels flipped with probability `label_smoothing`,
    /// arXiv 2403.00409.
    Robust,
    /// (h - 1 / (2 beta))^2 on summed log-ratios, arXiv 2310.12036.
    Ipo,
    /// As `ipo`, on log-ratios divided by the completion's length.
    IpoMean,
}

/// How pairs become a loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossSettings {
    /// The function of the margin.
    pub kind: PreferenceLoss,
    /// How strongly the reference holds the policy back; higher stays closer to it.
    pub beta: f64,
    /// Probability that a label is wrong, in [0, 0.5). Not with `hinge`, `ipo` and `ipo_mean`.
    pub label_smoothing: f64,
}

impl Default for LossSettings {
    fn default() -> Self {
        Self {
            kind: PreferenceLoss::Sigmoid,
            beta: 0.1,
            label_smoothing: 0.0,
        }
    }
}

/// Log-probabilities of a batch of pairs; every tensor is (pairs,).
///
/// Gradients flow through the policy's two; the others are constants.
#[derive(Debug, Clone)]
pub struct PairLogps {
    /// log pi(chosen), summed over the completion's tokens.
    pub policy_chosen: Tensor,
    /// log pi(rejected).
    pub policy_rejected: Tensor,
    /// log pi_ref(chosen).
    pub reference_chosen: Tensor,
    /// log pi_ref(rejected).
    pub reference_rejected: Tensor,
    /// Tokens of the chosen completion.
    pub length_chosen: Tensor,
    /// Tokens of the rejected completion.
    pub length_rejected: Tensor,
    /// Probability that "chosen" is the better one; 1 for a hard label.
    pub target: Tensor,
}

/// The loss of each pair, and what a reader of metrics wants beside it.
#[derive(Debug, Clone)]
pub struct PairLoss {
    /// (pairs,), differentiable.
    pub per_pair: Tensor,
    /// beta (log-ratio chosen - log-ratio rejected) on summed log-ratios, (pairs,), constant.
    pub margin: Tensor,
}

/// log sigmoid(z), exact for every finite z and with the right slope at 0.
///
/// The usual max(-z, 0) has another slope at 0 under autograd than its two sides meet at, and 0 is
/// where every pair starts while the adapter's B is zero; (|z| - z) / 2 is the same value, and with
/// it the parts of the slope that come from |z| cancel.
pub fn log_sigmoid(z: &Tensor) -> Result<Tensor> {
    let size = z.abs()?;
    let below = ((&size - z)? * 0.5)?;
    let rest = (size.neg()?.exp()? + 1.0)?.log()?;
    (below + rest)?.neg()
}

/// The loss of each pair.
pub fn preference_loss(settings: &LossSettings, pairs: &PairLogps) -> Result<PairLoss> {
    let chosen = (&pairs.policy_chosen - &pairs.reference_chosen)?;
    let rejected = (&pairs.policy_rejected - &pairs.reference_rejected)?;
    let summed = (&chosen - &rejected)?;
    let margin = (summed.detach() * settings.beta)?;
    let h = match settings.kind {
        PreferenceLoss::SigmoidNorm | PreferenceLoss::IpoMean => {
            ((chosen / &pairs.length_chosen)? - (rejected / &pairs.length_rejected)?)?
        }
        _ => summed,
    };
    let (right, wrong) = label_shares(settings, &pairs.target)?;
    let as_labelled = margin_loss(settings, &h)?;
    let as_flipped = margin_loss(settings, &h.neg()?)?;
    let per_pair = ((right * as_labelled)? + (wrong * as_flipped)?)?;
    Ok(PairLoss { per_pair, margin })
}

/// f(h) of one loss kind.
fn margin_loss(settings: &LossSettings, h: &Tensor) -> Result<Tensor> {
    match settings.kind {
        PreferenceLoss::Sigmoid | PreferenceLoss::SigmoidNorm | PreferenceLoss::Robust => {
            log_sigmoid(&(h * settings.beta)?)?.neg()
        }
        PreferenceLoss::Hinge => h.affine(-settings.beta, 1.0)?.relu(),
        PreferenceLoss::Ipo | PreferenceLoss::IpoMean => (h - 0.5 / settings.beta)?.sqr(),
    }
}

/// How much f(h) and f(-h) count, given the probability that the label is right.
fn label_shares(settings: &LossSettings, target: &Tensor) -> Result<(Tensor, Tensor)> {
    let e = settings.label_smoothing;
    let (keep, flip) = match settings.kind {
        PreferenceLoss::Sigmoid | PreferenceLoss::SigmoidNorm => (1.0 - e, e),
        PreferenceLoss::Robust => ((1.0 - e) / (1.0 - 2.0 * e), -e / (1.0 - 2.0 * e)),
        PreferenceLoss::Hinge | PreferenceLoss::Ipo | PreferenceLoss::IpoMean => (1.0, 0.0),
    };
    // target * keep + (1 - target) * flip, and the same with the two exchanged.
    Ok((
        target.affine(keep - flip, flip)?,
        target.affine(flip - keep, keep)?,
    ))
}

/// -log sigmoid(beta log-ratio(chosen)): keeps the chosen completion's likelihood from sinking
/// along with the rejected one's. (pairs,); arXiv 2406.11839 with an anchor margin of 0.
pub fn anchor_loss(beta: f64, pairs: &PairLogps) -> Result<Tensor> {
    let chosen = (&pairs.policy_chosen - &pairs.reference_chosen)?;
    log_sigmoid(&(chosen * beta)?)?.neg()
}

/// The MI-EPO term: an answer drawn under its own weights should be less likely under others.
///
/// `own` is log pi - log pi_ref under the weights the completion was sampled with and is held
/// constant; `other` is the same completion's log-ratio under independently drawn weights and
/// carries the gradient. (completions,); arXiv 2607.01392.
pub fn weight_contrast_loss(beta: f64, own: &Tensor, other: &Tensor) -> Result<Tensor> {
    log_sigmoid(&((own.detach() - other)? * beta)?)?.neg()
}

#[cfg(test)]
mod tests;
