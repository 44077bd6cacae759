//! The decoders of all families against the processor's, and a device's bits against themselves.

use std::sync::Arc;

use steersman::model::{
    BLOCK_TOKENS, CudaDecoder, CudaPool, Decoder, Dtype, ForwardBatch, LoraAdapter, ServedStep,
};

use super::device::device;
use crate::fixtures::{DECODERS, fixture, greedy_cases};

/// Logits may differ so much from those of f32, in units of their own spread, in the mean and at most:
/// weights and the inputs of products have 8 significant bits, and the fixtures are narrow.
const CLOSE: (f32, f32) = (0.02, 0.1);

/// Spans of (tokens, first position, adapter) with their blocks.
pub(super) type Spans<'a> = [(&'a [u32], usize, Option<Arc<LoraAdapter>>, Vec<u32>)];

/// Packs spans, all of whose rows draw, or only the last ones.
fn packed(spans: &Spans<'_>, only_last: bool) -> (ForwardBatch, Vec<u32>) {
    let (mut batch, mut draws) = (ForwardBatch::default(), Vec::new());
    for (tokens, first, adapter, _) in spans {
        batch.push(tokens, *first, adapter.clone());
        let rows = batch.len() as u32;
        let from = if only_last {
            rows - 1
        } else {
            rows - tokens.len() as u32
        };
        draws.extend(from..rows);
    }
    (batch, draws)
}

/// Logits on the device.
pub(super) fn on_device(
    decoder: &CudaDecoder,
    pool: &mut CudaPool,
    spans: &Spans<'_>,
    only_last: bool,
) -> Vec<f32> {
    let (batch, draws) = packed(spans, only_last);
    let tables: Vec<&[u32]> = spans.iter().map(|(.., table)| table.as_slice()).collect();
    let step = ServedStep {
        batch: &batch,
        tables: &tables,
        draws: &draws,
    };
    let mut logits = Vec::new();
    decoder.step(step, pool, &mut logits).unwrap();
    logits
}

/// Logits of every row of one sequence on the processor.
pub(super) fn on_cpu(
    decoder: &Decoder,
    tokens: &[u32],
    adapter: Option<Arc<LoraAdapter>>,
) -> Vec<f32> {
    let mut batch = ForwardBatch::default();
    batch.push(tokens, 0, adapter);
    let table: Vec<u32> = table(tokens.len(), 0);
    let mut pool = decoder.new_pool(table.len());
    let draws: Vec<u32> = (0..tokens.len() as u32).collect();
    let step = ServedStep {
        batch: &batch,
        tables: &[&table],
        draws: &draws,
    };
    let mut logits = Vec::new();
    decoder.step(step, &mut pool, &mut logits).unwrap();
    logits
}

/// Neighbouring blocks from `first` on, backwards, for so many tokens.
pub(super) fn table(tokens: usize, first: u32) -> Vec<u32> {
    let blocks = tokens.div_ceil(BLOCK_TOKENS) as u32;
    (first..first + blocks).rev().collect()
}

/// Fails unless logits are as close as roundings explain.
pub(super) fn assert_near(label: &str, device: &[f32], cpu: &[f32]) {
    assert_eq!(device.len(), cpu.len(), "{label}");
    let mean = cpu.iter().sum::<f32>() / cpu.len() as f32;
    let spread = (cpu.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / cpu.len() as f32).sqrt();
    let squares: f32 = device.iter().zip(cpu).map(|(a, b)| (a - b).powi(2)).sum();
    let error = (squares / cpu.len() as f32).sqrt() / spread;
    let worst = device
        .iter()
        .zip(cpu)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
        / spread;
    assert!(
        error < CLOSE.0,
        "{label}: the mean error is {error} of the spread"
    );
    assert!(
        worst < CLOSE.1,
        "{label}: the largest error is {worst} of the spread"
    );
}

#[test]
fn every_family_computes_what_the_processor_does_with_and_without_an_adapter() {
    let _device = device();
    for name in DECODERS {
        let cpu = Decoder::load(&fixture(name)).unwrap();
        let cuda = CudaDecoder::load(&fixture(name), Dtype::Auto, 0).unwrap();
        let adapter = LoraAdapter::load(&fixture(name).join("adapter"), &cpu).unwrap();
        let (tokens, _) = &greedy_cases(name)[0];
        for adapter in [None, Some(Arc::new(adapter))] {
            let label = format!("{name}, adapter {}", adapter.is_some());
            let expected = on_cpu(&cpu, tokens, adapter.clone());
            let mut pool = cuda.new_pool(8).unwrap();
            let spans = [(tokens.as_slice(), 0, adapter, table(tokens.len(), 3))];
            assert_near(
                &label,
                &on_device(&cuda, &mut pool, &spans, false),
                &expected,
            );
        }
    }
}

#[test]
fn chunks_equal_the_whole_and_the_order_of_threads_changes_nothing() {
    let device = device();
    for name in ["gemma3", "qwen3", "phi3"] {
        let cuda = CudaDecoder::load(&fixture(name), Dtype::Auto, 0).unwrap();
        let tokens: Vec<u32> = (0..37).map(|i| 3 + i * 7 % 400).collect();
        let serve = |pool: &mut CudaPool, chunk: usize| {
            let mut all = Vec::new();
            for (index, part) in tokens.chunks(chunk).enumerate() {
                let spans = [(part, index * chunk, None, table(tokens.len(), 1))];
                all.extend(on_device(&cuda, pool, &spans, false));
            }
            all
        };
        let mut pool = cuda.new_pool(8).unwrap();
        let whole = serve(&mut pool, tokens.len());
        for (order, chunk) in [(1, 37), (2, 37), (3, 1), (0, 5), (4, 33)] {
            device.set_order(order);
            let mut other = cuda.new_pool(8).unwrap();
            let chunks = serve(&mut other, chunk);
            assert!(
                chunks == whole,
                "{name}: order {order}, chunks of {chunk} change the bits"
            );
        }
        device.set_order(0);
    }
}

#[test]
fn alone_equals_among_others_with_adapters_recorded_or_not() {
    let device = device();
    let name = "qwen2";
    let cpu = Decoder::load(&fixture(name)).unwrap();
    let cuda = CudaDecoder::load(&fixture(name), Dtype::Auto, 0).unwrap();
    let adapter = Arc::new(LoraAdapter::load(&fixture(name).join("adapter"), &cpu).unwrap());
    let prompts: Vec<Vec<u32>> = (0..5u32)
        .map(|row| (0..7 + 6 * row).map(|i| 5 + (i * 11 + row) % 400).collect())
        .collect();
    let adapters = [None, Some(Arc::clone(&adapter)), Some(adapter), None, None];
    let first_block = |row: usize| 4 * row as u32;
    // prompts together, then two tokens each, which are recorded and repeated
    let mut pool = cuda.new_pool(20).unwrap();
    let mut together = Vec::new();
    let ends: Vec<[u32; 2]> = (0..5).map(|row| [40 + row, 90 + row]).collect();
    for turn in 0..3 {
        let spans: Vec<_> = (0..5)
            .map(|row| {
                let (tokens, first) = match turn {
                    0 => (prompts[row].as_slice(), 0),
                    _ => (&ends[row][turn - 1..turn], prompts[row].len() + turn - 1),
                };
                let blocks = table(prompts[row].len() + 2, first_block(row));
                (tokens, first, adapters[row].clone(), blocks)
            })
            .collect();
        together.push(on_device(&cuda, &mut pool, &spans, true));
    }
    let replayed = device.replays();
    let vocabulary = cuda.config().vocab_size;
    for row in 0..5 {
        let mut pool = cuda.new_pool(4).unwrap();
        let whole: Vec<u32> = prompts[row].iter().chain(&ends[row]).copied().collect();
        let spans = [(
            whole.as_slice(),
            0,
            adapters[row].clone(),
            table(whole.len(), 0),
        )];
        let alone = on_device(&cuda, &mut pool, &spans, false);
        for (turn, together) in together.iter().enumerate() {
            let at = (prompts[row].len() - 1 + turn) * vocabulary;
            assert!(
                together[row * vocabulary..(row + 1) * vocabulary] == alone[at..at + vocabulary],
                "row {row}, turn {turn}: company changes the bits"
            );
        }
    }
    assert!(replayed >= 2, "single tokens are repeated from a recording");
}
