//! Sums of adapters, each scaled (rewarded soups, arXiv 2306.04488), made when they are asked for.
//!
//! `sum_k w_k s_k B_k A_k x` is one low-rank change: the `A_k` below each other, the `w_k s_k B_k` side by
//! side. So a mix is an adapter like any other, with a generation of its own, and whatever tells
//! adapters apart tells mixes apart.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use candle_core::Tensor;

use super::ModelError;
use super::config::DecoderConfig;
use super::lora::{LoraAdapter, LoraPair};
use super::lora_config::LoraConfig;

/// Mixes that are kept though nobody uses them now; each takes as much memory as its adapters together.
const KEPT: usize = 8;

/// Adapters of one decoder, and the mixes of them that somebody uses or asked for lately.
pub struct AdapterMix {
    adapters: Vec<Arc<LoraAdapter>>,
    decoder: DecoderConfig,
    made: Mutex<Made>,
    /// Held while a mix is made: one at a time, and never the same one twice.
    making: Mutex<()>,
}

#[derive(Default)]
struct Made {
    /// By the bits of their scales.
    known: HashMap<Vec<u32>, Weak<LoraAdapter>>,
    /// The one asked for last at the end.
    kept: VecDeque<Arc<LoraAdapter>>,
}

impl AdapterMix {
    /// Of these, which were loaded for this decoder.
    pub fn new(adapters: Vec<Arc<LoraAdapter>>, decoder: &DecoderConfig) -> Self {
        Self {
            adapters,
            decoder: decoder.clone(),
            made: Mutex::default(),
            making: Mutex::default(),
        }
    }

    /// Number of adapters.
    pub fn len(&self) -> usize {
        self.adapters.len()
    }

    /// Whether there is none, so that every mix changes nothing.
    pub fn is_empty(&self) -> bool {
        self.adapters.is_empty()
    }

    /// The sum of the adapters under these scales, one for each, ready to serve. Takes as long as
    /// loading them where nobody has it; an adapter alone, at scale 1, is itself.
    ///
    /// # Errors
    /// Another number of scales, or the arithmetic failed.
    pub fn at(&self, scales: &[f32]) -> Result<Arc<LoraAdapter>, ModelError> {
        let (found, expected) = (scales.len(), self.adapters.len());
        if found != expected {
            return Err(ModelError::Tensor {
                name: "adapters".to_owned(),
                reason: format!("{found} scales for {expected} of them"),
            });
        }
        let parts = self.adapters.iter().zip(scales.iter().copied());
        let parts: Vec<_> = parts.filter(|(_, scale)| *scale != 0.0).collect();
        if let [(alone, 1.0)] = parts[..] {
            return Ok(Arc::clone(alone));
        }
        let key: Vec<u32> = scales.iter().map(|scale| scale.to_bits()).collect();
        if let Some(found) = self.made().find(&key) {
            return Ok(found);
        }
        let _turn = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.made().find(&key) {
            return Ok(found);
        }
        let mix = Arc::new(LoraAdapter::mix(&self.decoder, &parts)?);
        // here, not in the engine's thread, where everybody would wait for it
        mix.packed(&self.decoder)?;
        self.made().add(key, &mix);
        Ok(mix)
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Made {
    fn find(&mut self, key: &[u32]) -> Option<Arc<LoraAdapter>> {
        let found = self.known.get(key)?.upgrade()?;
        self.kept.retain(|other| !Arc::ptr_eq(other, &found));
        self.keep(&found);
        Some(found)
    }

    fn add(&mut self, key: Vec<u32>, mix: &Arc<LoraAdapter>) {
        self.keep(mix);
        self.known.retain(|_, known| known.strong_count() > 0);
        self.known.insert(key, Arc::downgrade(mix));
    }

    fn keep(&mut self, mix: &Arc<LoraAdapter>) {
        self.kept.push_back(Arc::clone(mix));
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }
}

impl LoraAdapter {
    /// The sum of adapters of one decoder, each scaled.
    ///
    /// # Errors
    /// The arithmetic failed.
    pub fn mix(
        decoder: &DecoderConfig,
        parts: &[(&Arc<LoraAdapter>, f32)],
    ) -> Result<Self, ModelError> {
        let mut pairs = BTreeMap::new();
        for (module, ..) in decoder.linear_modules() {
            let changes = parts
                .iter()
                .filter_map(|(adapter, scale)| Some((adapter.pair(&module)?, f64::from(*scale))));
            let changes: Vec<_> = changes.collect();
            if !changes.is_empty() {
                pairs.insert(module, sum(&changes)?);
            }
        }
        let ranks = pairs.iter().map(|(module, pair)| {
            let rank = pair.a.dim(0)?;
            Ok((module.clone(), rank))
        });
        let ranks = ranks.collect::<candle_core::Result<_>>()?;
        Ok(Self::of_pairs(LoraConfig::of_ranks(&ranks), pairs))
    }
}

/// One change that is the sum of these, each scaled: (sum of ranks, in) and (out, sum of ranks).
fn sum(changes: &[(&LoraPair, f64)]) -> Result<LoraPair, ModelError> {
    let down: Vec<&Tensor> = changes.iter().map(|(pair, _)| &pair.a).collect();
    let up = changes
        .iter()
        .map(|(pair, scale)| &pair.b * (pair.scale * scale))
        .collect::<candle_core::Result<Vec<_>>>()?;
    Ok(LoraPair {
        a: Tensor::cat(&down, 0)?,
        b: Tensor::cat(&up, 1)?.contiguous()?,
        scale: 1.0,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn zoo(names: &[&str]) -> AdapterMix {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let decoder = DecoderConfig::load(&root.join("llama")).unwrap();
        let load = |name: &&str| {
            let dir = root.join("lora_zoo").join(name);
            Arc::new(LoraAdapter::load_for(&dir, &decoder).unwrap())
        };
        AdapterMix::new(names.iter().map(load).collect(), &decoder)
    }

    #[test]
    fn the_same_scales_are_the_same_adapter_as_long_as_it_is_kept() {
        let mix = zoo(&["all_linear", "rslora"]);
        let at = |part: f32| mix.at(&[part, 1.0 - part]).unwrap().generation().unwrap();
        let first = at(0.5);
        assert_eq!(at(0.5), first);
        for step in 0..KEPT {
            // asked for in between, so it stays
            assert_ne!(at(0.01 * (step + 1) as f32), first);
            assert_eq!(at(0.5), first);
        }
        for step in 0..KEPT {
            at(0.2 + 0.01 * step as f32);
        }
        let again = at(0.5);
        assert!(again > first, "{again} was made anew, so it has a new name");
    }

    #[test]
    fn one_adapter_at_full_scale_is_itself() {
        let mix = zoo(&["all_linear", "rslora"]);
        for (scales, which) in [([1.0, 0.0], 0), ([0.0, 1.0], 1)] {
            assert!(Arc::ptr_eq(&mix.at(&scales).unwrap(), &mix.adapters[which]));
        }
        assert!(mix.at(&[1.0]).is_err());
    }
}
