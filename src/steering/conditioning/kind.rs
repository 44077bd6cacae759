//! The ways of telling a policy its weights, and what each needs of a manifest.

use serde::{Deserialize, Serialize};

use crate::steering::TargetRule;

/// A way of telling a policy the weights. Whichever it is, a request brings weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditioningKind {
    /// The weights as numbers in the prompt (MO-ODPO, arXiv 2503.00295).
    #[default]
    WeightsText,
    /// The rewards to reach in the prompt, in the normalised units of training (RiC, arXiv
    /// 2402.10207).
    RewardTokens,
    /// Scores to reach in the prompt, whole numbers as judges give them (CPO, arXiv 2402.19085).
    ScoreTokens,
    /// Values of attributes in the prompt, whole numbers, of which less may be better (SteerLM,
    /// arXiv 2310.05344).
    Attributes,
    /// Nothing in the prompt: each objective has an adapter, and the weights scale their sum
    /// (rewarded soups, arXiv 2306.04488).
    AdapterMix,
}

impl ConditioningKind {
    /// The word for it in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WeightsText => "weights_text",
            Self::RewardTokens => "reward_tokens",
            Self::ScoreTokens => "score_tokens",
            Self::Attributes => "attributes",
            Self::AdapterMix => "adapter_mix",
        }
    }

    /// Whether the policy is told in its prompt.
    pub fn is_text(self) -> bool {
        self != Self::AdapterMix
    }

    /// How weights become targets where the manifest does not say; `None` of a kind that is told
    /// weights. RiC's is the one of its evaluation. Those who state scores outright ask for the
    /// best of everything unless they have to choose, and so does `linf`.
    pub(super) fn default_rule(self) -> Option<TargetRule> {
        match self {
            Self::WeightsText | Self::AdapterMix => None,
            Self::RewardTokens => Some(TargetRule::L2),
            Self::ScoreTokens | Self::Attributes => Some(TargetRule::Linf),
        }
    }

    /// Whether its targets are whole numbers.
    pub(super) fn is_whole(self) -> bool {
        matches!(self, Self::ScoreTokens | Self::Attributes)
    }

    /// Whether more weight may ask for less.
    pub(super) fn may_fall(self) -> bool {
        self == Self::Attributes
    }

    pub(super) fn describe_range(self) -> &'static str {
        match self {
            Self::Attributes => "two different whole numbers",
            Self::ScoreTokens => "two whole numbers, the lower one first",
            _ => "two numbers that differ when rounded, the lower one first",
        }
    }
}
