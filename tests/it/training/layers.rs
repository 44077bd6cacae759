//! Layers as one node of the graph against the same layers operation by operation: rows that pass
//! through different adapters take the second way.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use steersman::model::{Decoder, ForwardBatch, LoraAdapter};

use crate::fixtures::{DECODERS, assert_close, fixture};

struct Case {
    decoder: Decoder,
    start: LoraAdapter,
    sequences: [Vec<u32>; 2],
}

/// Log-probabilities of all tokens but the first, and the gradient of a mixed sum of them for each
/// of the adapter's tensors.
type Outcome = (Vec<f32>, HashMap<String, Vec<f32>>);

impl Case {
    fn load(name: &str) -> Self {
        let decoder = Decoder::load(&fixture(name)).unwrap();
        let start = LoraAdapter::load(&fixture(name).join("adapter"), &decoder).unwrap();
        let vocabulary = decoder.config().vocab_size as u32;
        let tokens = |count: u32, step: u32| (0..count).map(|i| i * step % vocabulary).collect();
        Self {
            decoder,
            start,
            sequences: [tokens(19, 7), tokens(11, 5)],
        }
    }

    fn adapter(&self) -> Arc<LoraAdapter> {
        Arc::new(self.start.trainable(&self.decoder).unwrap())
    }

    fn outcome(&self, adapters: [&Arc<LoraAdapter>; 2]) -> Outcome {
        let mut batch = ForwardBatch::default();
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for (tokens, adapter) in self.sequences.iter().zip(adapters) {
            let first = batch.len() as u32;
            rows.extend(first..first + tokens.len() as u32 - 1);
            targets.extend_from_slice(&tokens[1..]);
            batch.push(tokens, 0, Some(Arc::clone(adapter)));
        }
        let rows = Tensor::new(rows.as_slice(), &Device::Cpu).unwrap();
        let hidden = self.decoder.forward(&batch).unwrap();
        let hidden = hidden.index_select(&rows, 0).unwrap();
        let logps = self.decoder.token_logprobs(&hidden, &targets).unwrap();
        let signs: Vec<f32> = (0..targets.len() as i32)
            .map(|i| (i % 3 - 1) as f32)
            .collect();
        let signs = Tensor::new(signs.as_slice(), &Device::Cpu).unwrap();
        let store = (&logps * signs)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let mut gradients: HashMap<String, Vec<f32>> = HashMap::new();
        let distinct = &adapters[..if Arc::ptr_eq(adapters[0], adapters[1]) {
            1
        } else {
            2
        }];
        for (name, var) in distinct.iter().flat_map(|adapter| adapter.vars()) {
            let found = store.get(var).unwrap().flatten_all().unwrap();
            let found = found.to_vec1::<f32>().unwrap();
            let sum = gradients
                .entry(name.clone())
                .or_insert_with(|| vec![0.0; found.len()]);
            sum.iter_mut().zip(found).for_each(|(sum, g)| *sum += g);
        }
        (logps.to_vec1().unwrap(), gradients)
    }
}

#[test]
fn a_layer_as_one_node_equals_its_operations_one_after_another() {
    for name in DECODERS {
        let case = Case::load(name);
        let (one, other) = (case.adapter(), case.adapter());
        let (together, gradients) = case.outcome([&one, &one]);
        let (apart, sums) = case.outcome([&one, &other]);
        // the same bits: what else is in a batch changes nothing
        assert!(together == apart, "{name}");
        assert_eq!(gradients.len(), sums.len());
        for (tensor, gradient) in &gradients {
            let largest = gradient.iter().fold(1f32, |most, g| most.max(g.abs()));
            let scaled = |values: &[f32]| values.iter().map(|g| g / largest).collect::<Vec<_>>();
            let label = format!("{name} {tensor}");
            assert_close(&label, &scaled(gradient), &scaled(&sums[tensor]), 2e-5);
        }
    }
}
