//! Learns a profile's weights from choices: of these two answers its user preferred that one.
//!
//! The rewards of both answers are normalised as the policy was trained, and the weights become
//! the mean of their posterior: what was set by hand, and the latest choices since then. Texts are
//! scored and forgotten.

use std::sync::Arc;

use serde_json::Value;

use super::app::App;
use super::error::{RequestError, chain};
use super::keys::now;
use super::offer::RawWeights;
use super::policy::LivePolicy;
use super::profiles::{Profile, changed, written};
use super::scoring::{Scored, score};
use super::selector::Selector;
use crate::steering::{Question, SteeringManifest, WeightPosterior, WeightPrior};
use crate::store::{ComparisonRow, ProfileDraft, StoreError};
use crate::text::TextError;
use crate::types::Message;

/// Most answers among which a next pair is looked for.
pub const MAX_CANDIDATES: usize = 32;
/// How many choices count, the latest: tastes change, and an answer has to come soon.
const MEMORY: u32 = 1000;
/// How often a change that others overtook is tried again.
const TRIES: usize = 16;

/// Rewards as callers write them: the same forms as weights, of any finite size.
pub type RawRewards = RawWeights;

/// ComparedAnswers to be scored, or their scores.
#[derive(Debug, Clone)]
pub enum ComparedAnswers {
    /// Texts, for the policy's own reward models.
    Texts {
        /// What they answer.
        prompt: Vec<Message>,
        /// The answers.
        answers: Vec<String>,
    },
    /// Rewards, each on the scale of the policy's reward models.
    Rewards(Vec<RawRewards>),
}

/// What is known of a profile's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Belief {
    /// The mean, by objective.
    pub mean: Vec<(String, f64)>,
    /// Ends of the interval that holds each weight with probability 0.9.
    pub intervals: Vec<(String, [f64; 2])>,
    /// How many choices it rests on.
    pub comparisons: usize,
}

/// What a comparison led to.
#[derive(Debug, Clone)]
pub struct Learned {
    /// The comparison's id.
    pub id: String,
    /// The profile as it is now.
    pub profile: Profile,
    /// What is known of its weights now.
    pub belief: Belief,
}

impl App {
    /// Takes in that a profile's user preferred the first of two answers to the second.
    ///
    /// # Errors
    /// No such profile or model, answers that cannot be scored, or the store fails.
    pub async fn compare(
        &self,
        profile: &str,
        model: Option<&str>,
        answers: ComparedAnswers,
    ) -> Result<Learned, RequestError> {
        let store = self.profile_store()?;
        self.profile(profile).await?;
        let policy = self.policy_of_comparison(model)?;
        let manifest = manifest_of(&policy)?;
        let rewards = self.rewards_of(&policy, answers).await?;
        let [chosen, rejected] = rewards.as_slice() else {
            let problem = format!("must be exactly two answers, got {}", rewards.len());
            return Err(RequestError::invalid("chosen", problem));
        };
        let named = |rewards: &[f64]| {
            let names = manifest.objectives.iter().map(|o| o.name.clone());
            written(&names.zip(rewards.iter().copied()).collect::<Vec<_>>())
        };
        let row = ComparisonRow {
            id: format!("cmp_{}", uuid::Uuid::now_v7().simple()),
            profile: profile.to_owned(),
            model: policy.id.clone(),
            policy_version: policy.version.clone(),
            rewards_chosen: named(chosen),
            rewards_rejected: named(rejected),
            created_at: now(),
        };
        for _ in 0..TRIES {
            let now_there = self.profile(profile).await?;
            let version = now_there.version;
            let belief = self.belief(&policy, &now_there, Some(&row)).await?;
            let learned = ProfileDraft {
                id: profile.to_owned(),
                weights: written(&belief.mean),
                description: String::new(),
                at: now(),
            };
            if store.learn(&row, &learned, version).await? {
                return Ok(Learned {
                    id: row.id,
                    profile: self.profile(profile).await?,
                    belief,
                });
            }
        }
        Err(changed(profile, None, None))
    }

    /// Which two of these answers a profile's user should be asked to compare next.
    ///
    /// # Errors
    /// No such profile or model, or answers that cannot be scored.
    pub async fn next_comparison(
        &self,
        profile: &str,
        model: Option<&str>,
        candidates: ComparedAnswers,
    ) -> Result<(Question, Belief), RequestError> {
        let profile = self.profile(profile).await?;
        let policy = self.policy_of_comparison(model)?;
        let manifest = manifest_of(&policy)?;
        let rewards = self.rewards_of(&policy, candidates).await?;
        if !(2..=MAX_CANDIDATES).contains(&rewards.len()) {
            let problem = format!(
                "must be 2 to {MAX_CANDIDATES} answers, got {}",
                rewards.len()
            );
            return Err(RequestError::invalid("candidates", problem));
        }
        let normal: Vec<_> = rewards.iter().map(|r| normalised(manifest, r)).collect();
        let choices = self.choices(&policy, &profile.id, None).await?;
        let (names, prior) = (names(manifest), prior(manifest, &profile));
        // milliseconds, but more than an event loop should wait
        let asked = tokio::task::spawn_blocking(move || {
            let posterior = WeightPosterior::of(&prior, &choices);
            let belief = Belief::of(&names, &posterior, choices.len());
            (posterior.next_question(&normal), belief)
        });
        let (question, belief) = asked
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        // there are two candidates, so there is a pair
        let question = question.unwrap_or(Question {
            first: 0,
            second: 1,
            bits: 0.0,
        });
        Ok((question, belief))
    }

    fn policy_of_comparison(&self, model: Option<&str>) -> Result<Arc<LivePolicy>, RequestError> {
        let selector = Selector::parse(model)?;
        if selector.suffix.is_some() {
            let problem = "must be a model id here, without a suffix: the weights are what is \
                           to be learned";
            return Err(RequestError::invalid("model", problem));
        }
        self.policy(selector.id.as_deref())
    }

    /// `[answer][objective]`, on the reward models' own scales.
    async fn rewards_of(
        &self,
        policy: &Arc<LivePolicy>,
        answers: ComparedAnswers,
    ) -> Result<Vec<Vec<f64>>, RequestError> {
        match answers {
            ComparedAnswers::Texts { prompt, answers } => {
                let scored = self.score_texts(policy, prompt, answers).await;
                let scored = scored.map_err(|error| match error {
                    RequestError::Rewards { problem } => RequestError::Unscorable { problem },
                    other => other,
                })?;
                let wide = |row: Vec<f32>| row.into_iter().map(f64::from).collect();
                Ok(scored.into_iter().map(wide).collect())
            }
            ComparedAnswers::Rewards(stated) => {
                let manifest = manifest_of(policy)?;
                stated.iter().map(|raw| ordered(manifest, raw)).collect()
            }
        }
    }

    async fn score_texts(
        &self,
        policy: &Arc<LivePolicy>,
        prompt: Vec<Message>,
        answers: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, RequestError> {
        let suite = policy.rewards().await?;
        let tokenizer = Arc::clone(self.encoder.tokenizer());
        let measured = tokio::task::spawn_blocking(move || {
            let measured = answers.into_iter().map(|text| {
                Ok(Scored {
                    tokens: tokenizer.encode_plain(&text)?.len(),
                    text,
                    finished: true,
                })
            });
            measured.collect::<Result<Vec<_>, TextError>>()
        });
        let measured = measured
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
            .map_err(|error| RequestError::Rewards {
                problem: chain(&error),
            })?;
        score(suite, prompt, measured).await
    }

    /// What a profile's stated weights, its choices since, and one more, say of its weights.
    async fn belief(
        &self,
        policy: &Arc<LivePolicy>,
        profile: &Profile,
        latest: Option<&ComparisonRow>,
    ) -> Result<Belief, RequestError> {
        let manifest = manifest_of(policy)?;
        let choices = self.choices(policy, &profile.id, latest).await?;
        let (names, prior) = (names(manifest), prior(manifest, profile));
        let belief = tokio::task::spawn_blocking(move || {
            let posterior = WeightPosterior::of(&prior, &choices);
            Belief::of(&names, &posterior, choices.len())
        });
        Ok(belief
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
    }

    /// Differences of normalised rewards, chosen minus rejected. Choices under other objectives
    /// than the policy has now do not count.
    async fn choices(
        &self,
        policy: &LivePolicy,
        profile: &str,
        latest: Option<&ComparisonRow>,
    ) -> Result<Vec<Vec<f64>>, RequestError> {
        let manifest = manifest_of(policy)?;
        let rows = match &self.store {
            Some(store) => store.comparisons(profile, &policy.id, MEMORY).await?,
            None => Vec::new(),
        };
        let mut choices = Vec::with_capacity(rows.len() + 1);
        for row in latest.into_iter().chain(&rows) {
            let read = |text: &str| stored(manifest, text, &row.id);
            let pair = (read(&row.rewards_chosen)?, read(&row.rewards_rejected)?);
            if let (Some(chosen), Some(rejected)) = pair {
                let both = normalised(manifest, &chosen)
                    .into_iter()
                    .zip(normalised(manifest, &rejected));
                choices.push(both.map(|(a, b)| a - b).collect());
            }
        }
        Ok(choices)
    }
}

impl Belief {
    fn of(names: &[String], posterior: &WeightPosterior, comparisons: usize) -> Self {
        let mean = posterior.mean();
        let weights = mean.as_slice().iter().map(|w| rounded(f64::from(*w)));
        let ends = posterior.intervals();
        let intervals = ends.into_iter().map(|(a, b)| [rounded(a), rounded(b)]);
        Self {
            mean: names.iter().cloned().zip(weights).collect(),
            intervals: names.iter().cloned().zip(intervals).collect(),
            comparisons,
        }
    }
}

/// Four decimals: more would be claimed than is known.
fn rounded(weight: f64) -> f64 {
    (weight * 1e4).round() / 1e4
}

fn names(manifest: &SteeringManifest) -> Vec<String> {
    let objectives = manifest.objectives.iter();
    objectives.map(|objective| objective.name.clone()).collect()
}

/// What is held of a profile's weights before any choice: those that were set by hand, where they
/// weigh any of these objectives.
fn prior(manifest: &SteeringManifest, profile: &Profile) -> WeightPrior {
    let stated = profile.stated_weights.as_deref().unwrap_or_default();
    let weight = |name: &str| {
        stated
            .iter()
            .find(|(n, _)| n == name)
            .map_or(0.0, |(_, w)| *w)
    };
    let each = manifest.objectives.iter();
    WeightPrior::around(&each.map(|o| weight(&o.name)).collect::<Vec<_>>())
}

fn manifest_of(policy: &LivePolicy) -> Result<&SteeringManifest, RequestError> {
    policy.manifest.as_ref().ok_or_else(|| {
        let problem = format!(
            "`{}` has no objectives, so there are no weights to learn",
            policy.id
        );
        RequestError::invalid("model", problem)
    })
}

fn normalised(manifest: &SteeringManifest, rewards: &[f64]) -> Vec<f64> {
    let each = manifest.normalizers.iter().zip(rewards);
    each.map(|(n, reward)| {
        let clip = f64::from(n.clip);
        ((reward - f64::from(n.mean)) / f64::from(n.std)).clamp(-clip, clip)
    })
    .collect()
}

/// Rewards in the objectives' order, all there and finite.
fn ordered(manifest: &SteeringManifest, raw: &RawRewards) -> Result<Vec<f64>, RequestError> {
    let objectives = &manifest.objectives;
    let wrong = |problem: String| RequestError::invalid("rewards", problem);
    let expected = || {
        format!(
            "must be one finite number for each of {}",
            objectives.names()
        )
    };
    let values = match raw {
        RawWeights::Ordered(values) if values.len() == objectives.len() => values.clone(),
        RawWeights::Ordered(values) => {
            return Err(wrong(format!("{}, got {}", expected(), values.len())));
        }
        RawWeights::Named(pairs) => {
            if let Some((name, _)) = pairs
                .iter()
                .find(|(name, _)| objectives.index(name).is_none())
            {
                let name = super::app::clipped(name);
                return Err(wrong(format!("{}, got one for `{name}`", expected())));
            }
            let value = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
            objectives
                .iter()
                .map(|objective| {
                    value(&objective.name).ok_or_else(|| {
                        wrong(format!("{}, got none for `{}`", expected(), objective.name))
                    })
                })
                .collect::<Result<_, _>>()?
        }
    };
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(wrong(format!("{}, got {value}", expected()))),
        None => Ok(values),
    }
}

/// Rewards of a stored comparison; `None` where they are of other objectives.
fn stored(
    manifest: &SteeringManifest,
    text: &str,
    id: &str,
) -> Result<Option<Vec<f64>>, StoreError> {
    let rewards: serde_json::Map<String, Value> = serde_json::from_str(text)
        .map_err(|_| StoreError::Row(format!("the rewards of the comparison {id}")))?;
    if rewards.len() != manifest.objectives.len() {
        return Ok(None);
    }
    let each = manifest.objectives.iter();
    Ok(each.map(|o| rewards.get(&o.name)?.as_f64()).collect())
}
