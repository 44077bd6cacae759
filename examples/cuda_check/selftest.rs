//! Whether a device computes what the processor does, and the same bits in whatever company.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use half::bf16;
use serde_json::json;
use steersman::kernel::cuda::{Gpu, Matrix, Products, padded};
use steersman::model::{
    BLOCK_TOKENS, CudaDecoder, CudaPool, Decoder, Dtype, ForwardBatch, LoraAdapter, ServedStep,
};

const FIXTURES: [&str; 9] = [
    "llama",
    "llama_rope_llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3",
    "phi3",
];

/// Tokens of the longest sequence.
const LENGTH: usize = 90;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Products and all fixtures, or only those that are named.
pub(super) fn run(fixtures: &Path, names: &[String]) -> Outcome<bool> {
    let is_asked = |name: &str| names.is_empty() || names.iter().any(|it| it == name);
    let mut holds = !is_asked("products") || products()?;
    for name in FIXTURES {
        holds &= !is_asked(name) || family(name, &fixtures.join(name))?;
    }
    Ok(holds)
}

fn tell(check: &str, on: &str, holds: bool, figures: &serde_json::Value) -> bool {
    println!(
        "{}",
        json!({ "check": check, "on": on, "holds": holds, "figures": figures })
    );
    holds
}

/// Products of the sizes that models have, in any number of rows.
fn products() -> Outcome<bool> {
    let gpu = Gpu::open(0)?;
    println!(
        "{}",
        json!({ "device": gpu.name(), "multiprocessors": gpu.multiprocessors() })
    );
    let products = Products::new(&gpu)?;
    let random = |count: usize, seed: u64| -> Vec<u16> {
        let number = |at| ((at * 2_654_435_761 + seed * 97) % 65_521) as f32 / 32_760.5 - 1.0;
        (0..count as u64)
            .map(|at| bf16::from_f32(number(at)).to_bits())
            .collect()
    };
    let mut holds = true;
    for (outs, inputs) in [
        (6144, 4096),
        (4096, 14336),
        (896, 4864),
        (151_936, 896),
        (96, 64),
    ] {
        let (stride, most) = (padded(inputs), 300);
        let (x, w) = (random(most * stride, 1), random(outs * stride, 2));
        let matrix = Matrix {
            numbers: gpu.upload("w", &w)?,
            bias: None,
            outs,
            inputs,
        };
        let mut whole: Vec<f32> = Vec::new();
        let mut is_same = true;
        for rows in [most, 129, 64, 33, 32, 16, 9, 8, 1] {
            let input = gpu.upload("x", &x[..rows * stride])?;
            let out = gpu.zeros::<f32>("out", rows * outs)?;
            products.product(&gpu, &matrix, (&input, rows), &out)?;
            let found = gpu.read(&out, 0..rows * outs)?;
            if whole.is_empty() {
                whole = found;
            } else {
                is_same &= whole[..found.len()] == found;
            }
        }
        let wide = |bits: &u16| f64::from(bf16::from_bits(*bits).to_f32());
        let mut worst: f64 = 0.0;
        for (row, out) in [(0, 0), (7, outs / 2), (most - 1, outs - 1), (130, outs / 3)] {
            let x = &x[row * stride..row * stride + inputs];
            let w = &w[out * stride..out * stride + inputs];
            let exact: f64 = x.iter().zip(w).map(|(x, w)| wide(x) * wide(w)).sum();
            worst = worst.max((exact - f64::from(whole[row * outs + out])).abs());
        }
        let is_right = worst < 1e-4 * (inputs as f64).sqrt();
        let figures = json!({ "same_bits": is_same, "worst_error": worst });
        holds &= tell(
            "products",
            &format!("{outs}x{inputs}"),
            is_same && is_right,
            &figures,
        );
    }
    Ok(holds)
}

/// A span of tokens, its first position, its adapter and its blocks.
type Span<'a> = (&'a [u32], usize, Option<Arc<LoraAdapter>>, Vec<u32>);

fn pack(spans: &[Span<'_>]) -> ForwardBatch {
    let mut batch = ForwardBatch::default();
    for (tokens, first, adapter, _) in spans {
        batch.push(tokens, *first, adapter.clone());
    }
    batch
}

/// Logits of all rows.
fn on_device(decoder: &CudaDecoder, pool: &mut CudaPool, spans: &[Span<'_>]) -> Outcome<Vec<f32>> {
    let batch = pack(spans);
    let tables: Vec<&[u32]> = spans.iter().map(|(.., table)| table.as_slice()).collect();
    let draws: Vec<u32> = (0..batch.len() as u32).collect();
    let step = ServedStep {
        batch: &batch,
        tables: &tables,
        draws: &draws,
    };
    let mut logits = Vec::new();
    decoder.step(step, pool, &mut logits)?;
    Ok(logits)
}

fn table(first: usize) -> Vec<u32> {
    let blocks = LENGTH.div_ceil(BLOCK_TOKENS);
    (0..blocks)
        .map(|block| (first * blocks + block) as u32)
        .collect()
}

/// One fixture: near the processor, with and without its adapter, and equal to itself.
fn family(name: &str, folder: &Path) -> Outcome<bool> {
    let cpu = Decoder::load(folder)?;
    let cuda = CudaDecoder::load(folder, Dtype::Auto, 0)?;
    let adapter = Arc::new(LoraAdapter::load(&folder.join("adapter"), &cpu)?);
    let (mut pool, vocabulary) = (cuda.new_pool(64 * table(0).len())?, cpu.config().vocab_size);
    let sequence = |row: usize| -> Vec<u32> {
        let token = |at: usize| (3 + at * 7 + row * 31 + at * at % 13) % (vocabulary - 12);
        (0..LENGTH).map(|at| token(at) as u32).collect()
    };
    let mut holds = true;
    for adapter in [None, Some(Arc::clone(&adapter))] {
        let tokens = sequence(0);
        let span = (tokens.as_slice(), 0, adapter.clone(), table(0));
        let batch = pack(std::slice::from_ref(&span));
        let expected = cpu
            .logits(&cpu.forward(&batch)?)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let found = on_device(&cuda, &mut pool, &[span])?;
        let (mean, worst) = errors(&found, &expected);
        let on = format!(
            "{name}{}",
            if adapter.is_some() {
                " with an adapter"
            } else {
                ""
            }
        );
        let figures = json!({ "mean_error": mean, "worst_error": worst });
        holds &= tell(
            "near the processor",
            &on,
            mean < 0.02 && worst < 0.15,
            &figures,
        );
    }
    // 40 sequences at once, every third through the adapter; then each in pieces and by itself
    let sequences: Vec<Vec<u32>> = (0..40).map(sequence).collect();
    let adapter_of = |row: usize| row.is_multiple_of(3).then(|| Arc::clone(&adapter));
    let spans: Vec<Span<'_>> = sequences
        .iter()
        .enumerate()
        .map(|(row, tokens)| (&tokens[..LENGTH - 2], 0, adapter_of(row), table(row)))
        .collect();
    let together = on_device(&cuda, &mut pool, &spans)?;
    let mut last = Vec::new();
    for at in [LENGTH - 2, LENGTH - 1] {
        let spans: Vec<Span<'_>> = sequences
            .iter()
            .enumerate()
            .map(|(row, tokens)| (&tokens[at..=at], at, adapter_of(row), table(row)))
            .collect();
        last.push(on_device(&cuda, &mut pool, &spans)?);
    }
    let mut same = 0;
    let mut other = cuda.new_pool(table(0).len())?;
    for (row, tokens) in sequences.iter().enumerate().step_by(7) {
        let mut alone = Vec::new();
        for (index, part) in tokens.chunks(11 + row).enumerate() {
            let span = (part, index * (11 + row), adapter_of(row), table(0));
            alone.extend(on_device(&cuda, &mut other, &[span])?);
        }
        let rows = LENGTH - 2;
        let (prompt, ends) = alone.split_at(rows * vocabulary);
        let own = row * vocabulary..(row + 1) * vocabulary;
        let is_same = prompt == &together[row * rows * vocabulary..(row + 1) * rows * vocabulary]
            && ends
                .chunks(vocabulary)
                .zip(&last)
                .all(|(end, all)| end == &all[own.clone()]);
        same += usize::from(is_same);
    }
    let figures = json!({ "sequences": 6, "same_bits": same });
    Ok(holds & tell("alone and in company", name, same == 6, &figures))
}

/// Errors in units of the logits' spread, in the mean and at most.
fn errors(found: &[f32], expected: &[f32]) -> (f64, f64) {
    let count = expected.len() as f64;
    let mean = expected.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let spread = expected
        .iter()
        .map(|x| (f64::from(*x) - mean).powi(2))
        .sum::<f64>()
        / count;
    let errors = found.iter().zip(expected).map(|(a, b)| f64::from(a - b));
    let squares = errors.clone().map(|error| error * error).sum::<f64>() / count;
    let worst = errors.map(f64::abs).fold(0.0, f64::max);
    ((squares / spread).sqrt(), worst / spread.sqrt())
}
