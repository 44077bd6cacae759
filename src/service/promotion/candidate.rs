//! A checkpoint on its way to being live: found, checked, loaded beside, measured, tried.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::error::PromotionError;
use super::gate::{self, GateFinding};
use super::{CheckpointSource, Promotion, now};
use crate::engine::TokenEvent;
use crate::registry::{CheckpointId, NewCheckpoint, Registry};
use crate::rewards::RewardSuite;
use crate::service::app::App;
use crate::service::error::{RequestError, chain};
use crate::service::first_token::first_token;
use crate::service::folder::PolicyFolder;
use crate::service::policy::LivePolicy;
use crate::steering::SteeringManifest;
use crate::store::PolicyCheckpointRow;

impl App {
    /// The checkpoint's id, copied into the registry where it is not there.
    pub(super) async fn find(
        &self,
        registry: &Registry,
        asked: &Promotion,
    ) -> Result<CheckpointId, PromotionError> {
        match &asked.checkpoint {
            CheckpointSource::Id(text) => {
                let id = CheckpointId::parse(text)?;
                let known = registry.checkpoints().await?;
                let is_own =
                    |row: &PolicyCheckpointRow| row.policy == asked.policy && row.id == id.as_str();
                match known.iter().any(is_own) {
                    true => Ok(id),
                    false => Err(PromotionError::UnknownCheckpoint {
                        policy: asked.policy.clone(),
                        id: id.to_string(),
                    }),
                }
            }
            CheckpointSource::Folder {
                path,
                origin,
                content,
            } => {
                let new = NewCheckpoint {
                    policy: asked.policy.clone(),
                    folder: path.clone(),
                    origin: origin.clone(),
                    evaluation: recorded_evaluation,
                    content: content.clone(),
                    at: now(),
                };
                Ok(registry.add(new).await?)
            }
        }
    }

    /// Checks every byte of a checkpoint and loads it beside what answers.
    pub(super) async fn load_beside(
        self: &Arc<Self>,
        registry: &Registry,
        policy: &str,
        id: &CheckpointId,
    ) -> Result<Arc<LivePolicy>, PromotionError> {
        let folder = PolicyFolder {
            id: policy.to_owned(),
            dir: registry.checked(id).await?,
            has_adapter: true,
            has_manifest: true,
        };
        let app = Arc::clone(self);
        let loaded = tokio::task::spawn_blocking(move || LivePolicy::load(&folder, &app.base()));
        let loaded = loaded
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let loaded = loaded.map_err(|error| PromotionError::Unusable(Box::new(error)))?;
        Ok(Arc::new(loaded))
    }

    /// Measures where that was asked for, and holds what is known against the gate.
    pub(super) async fn examine(
        self: &Arc<Self>,
        registry: &Registry,
        asked: &Promotion,
        id: &CheckpointId,
        candidate: &Arc<LivePolicy>,
    ) -> Result<Vec<GateFinding>, PromotionError> {
        let slots = self.live.now();
        let slot = slots.iter().find(|slot| slot.id == asked.policy);
        let live = slot.map(|slot| Arc::clone(&slot.live.policy));
        let live = live.filter(|policy| policy.manifest.is_some());
        let fresh = match &asked.evaluation {
            None => None,
            Some(evaluation) => {
                let suite = self.rewards_for(id, candidate).await?;
                let sides = (candidate, live.clone());
                let measured = self.measure(sides, suite, evaluation.clone()).await?;
                let text = measured.to_string();
                registry.set_evaluation(&asked.policy, id, &text).await?;
                Some(measured)
            }
        };
        let Some(manifest) = &candidate.manifest else {
            return Ok(Vec::new());
        };
        let sides = gate::Sides {
            candidate: manifest,
            live: live.as_ref().and_then(|policy| policy.manifest.as_ref()),
            fresh: fresh.as_ref(),
        };
        let findings = gate::findings(&sides, &asked.gate);
        match findings.iter().all(|finding| finding.passed) {
            true => Ok(findings),
            false => Err(PromotionError::Gate(findings)),
        }
    }

    /// What a checkpoint is measured by: the rewards that its job was created with, where a job of
    /// this server wrote it; else those that its manifest names, none of which may be a service.
    async fn rewards_for(
        &self,
        id: &CheckpointId,
        candidate: &Arc<LivePolicy>,
    ) -> Result<Arc<RewardSuite>, PromotionError> {
        let of_job = self.rewards_of_content(id).await;
        let of_job = of_job.map_err(|error| PromotionError::Evaluation(chain(&error)))?;
        let loaded = match of_job {
            Some(stated) => candidate.rewards_of_job(stated).await,
            None => candidate.rewards().await,
        };
        loaded.map_err(|error| PromotionError::Evaluation(chain(&error)))
    }

    /// Decodes one token with a checkpoint that nobody has asked yet.
    pub(super) async fn answers_at_all(
        &self,
        candidate: &Arc<LivePolicy>,
    ) -> Result<(), PromotionError> {
        let silent = |error: RequestError| PromotionError::Silent(Box::new(error));
        let adapter = candidate.adapter_under(candidate.told_by_default()).await;
        let request = first_token(&self.encoder, adapter.map_err(silent)?.as_ref());
        let submitted = self.engine.submit(request);
        let mut tokens = submitted.map_err(|error| silent(error.into()))?;
        match tokens.next().await {
            Some(TokenEvent::Token(_) | TokenEvent::Finished { .. }) => Ok(()),
            Some(TokenEvent::Failed(error)) => Err(silent(error.into())),
            None => Err(silent(RequestError::EngineStopped)),
        }
    }
}

/// What a policy's manifest says was measured of it, JSON.
fn recorded_evaluation(folder: &Path) -> String {
    SteeringManifest::load(folder)
        .map_or(Value::Null, |manifest| manifest.evaluation)
        .to_string()
}
