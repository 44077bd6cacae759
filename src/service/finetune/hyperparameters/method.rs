//! The methods that a job may use.

/// What a job trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A steerable policy.
    MoOdpo,
    /// The next token of texts.
    Supervised,
    /// A policy, on preferences that were gathered before.
    Dpo,
    /// A reward model.
    RewardModel,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 4] = [Self::MoOdpo, Self::Supervised, Self::Dpo, Self::RewardModel];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MoOdpo => "mo_odpo",
            Self::Supervised => "supervised",
            Self::Dpo => "dpo",
            Self::RewardModel => "reward_model",
        }
    }

    /// The method of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == word)
    }
}
