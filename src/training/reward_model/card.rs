//! `reward.json`: what a finished reward model says of itself beside `config.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::TrainingError;
use super::super::state::write_synced;
use super::Agreement;
use crate::steering::BaseRef;

const FILE: &str = "reward.json";
const FORMAT_VERSION: u32 = 1;

/// Where a reward model comes from and how far it can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewardCard {
    /// Version of this layout; 1.
    pub format_version: u32,
    /// The objective whose pairs it was trained on; none is all.
    pub objective: Option<String>,
    /// The model that it started from.
    pub base: BaseRef,
    /// Optimiser steps.
    pub steps: u64,
    /// The job's seed.
    pub seed: u64,
    /// How far it agrees with pairs that it has not seen.
    pub agreement: Agreement,
}

impl RewardCard {
    /// The layout that this program writes.
    pub const FORMAT_VERSION: u32 = FORMAT_VERSION;

    /// Reads the card of a model folder; `None` where it has none.
    ///
    /// # Errors
    /// It cannot be read, or is of another layout.
    pub fn load(dir: &Path) -> Result<Option<Self>, TrainingError> {
        let path = dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrainingError::file(path, error)),
        };
        let wrong = |reason: String| TrainingError::Data(format!("{}: {reason}", path.display()));
        let card: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        match card.format_version {
            FORMAT_VERSION => Ok(Some(card)),
            other => Err(wrong(format!(
                "format_version is {other}, expected {FORMAT_VERSION}"
            ))),
        }
    }

    pub(super) fn save(&self, dir: &Path) -> Result<(), TrainingError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| TrainingError::Data(error.to_string()))?;
        write_synced(&dir.join(FILE), format!("{text}\n").as_bytes())
    }
}
