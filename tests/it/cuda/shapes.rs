//! Shapes that no fixture has: wide and odd heads, many queries to a key, contexts of several partitions.

use candle_core::Tensor;
use steersman::model::{
    CudaDecoder, CudaPool, DecoderConfig, LayerConfig, ModelError, TensorSource,
};

use super::device::device;
use super::parity::{assert_near, on_cpu, on_device, table};
use super::random::{RandomTensors, both, config};

fn check(label: &str, config: &DecoderConfig, length: usize) {
    let (cpu, cuda) = both(config);
    let tokens: Vec<u32> = (0..length as u32)
        .map(|i| (i * 37 + i * i % 11) % 500)
        .collect();
    let expected = on_cpu(&cpu, &tokens, None);
    let mut pool = cuda.new_pool(table(length, 0).len() + 1).unwrap();
    let blocks = table(length, 0);
    // all but the last two in chunks, these as single tokens
    let mut found = Vec::new();
    let chunks = [0, length / 2, length - 2, length - 1, length];
    for bounds in chunks.windows(2) {
        let part = &tokens[bounds[0]..bounds[1]];
        let spans = [(part, bounds[0], None, blocks.clone())];
        found.extend(on_device(&cuda, &mut pool, &spans, false));
    }
    assert_near(label, &found, &expected);
    // in one piece: another kernel of the products, and no partition has a block of its own
    let mut pool = cuda.new_pool(blocks.len()).unwrap();
    let spans = [(tokens.as_slice(), 0, None, blocks)];
    let whole = on_device(&cuda, &mut pool, &spans, false);
    assert!(whole == found, "{label}: chunks change the bits");
}

/// One layer, for speed.
fn small(config: &mut DecoderConfig, heads: (usize, usize, usize)) {
    config.layers.truncate(1);
    (config.num_heads, config.num_kv_heads, config.head_dim) = heads;
    config.attention_scale = 1.0 / (heads.2 as f32).sqrt();
}

#[test]
fn heads_of_every_width() {
    let _device = device();
    for (heads, kv_heads, head_dim) in [
        (2, 1, 64),
        (3, 3, 80),
        (2, 2, 96),
        (2, 1, 128),
        (1, 1, 200),
        (2, 1, 256),
    ] {
        let config = config("llama", |it| small(it, (heads, kv_heads, head_dim)));
        check(&format!("heads of {head_dim}"), &config, 21);
    }
}

#[test]
fn many_queries_to_a_key_and_odd_widths() {
    let _device = device();
    for (heads, kv_heads) in [(7, 1), (20, 1), (33, 1), (12, 4)] {
        let config = config("qwen2", |it| {
            small(it, (heads, kv_heads, 16));
            (it.hidden_size, it.intermediate_size, it.vocab_size) = (72, 51, 509);
        });
        check(&format!("{heads} queries to {kv_heads} keys"), &config, 19);
    }
}

#[test]
fn contexts_of_several_partitions_with_a_window_and_a_cap() {
    let _device = device();
    let long = |it: &mut DecoderConfig, window: Option<usize>| {
        small(it, (2, 1, 32));
        it.max_positions = 1024;
        it.layers[0] = LayerConfig {
            window,
            ..it.layers[0]
        };
    };
    check("600 tokens", &config("llama", |it| long(it, None)), 600);
    check(
        "a window of 300",
        &config("mistral", |it| long(it, Some(300))),
        590,
    );
    check(
        "a window of 5 and a cap",
        &config("gemma2", |it| long(it, Some(5))),
        530,
    );
}

/// Random tensors but for one token, whose embedding is no number.
struct Poisoned;

const POISON: u32 = 508;

impl TensorSource for Poisoned {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let tensor = RandomTensors.tensor(name, shape)?;
        if name != "model.embed_tokens.weight" {
            return Ok(tensor);
        }
        let mut rows = tensor.to_vec2::<f32>()?;
        rows[POISON as usize].fill(f32::NAN);
        Ok(Tensor::new(rows, tensor.device())?)
    }

    fn has(&self, _name: &str) -> bool {
        true
    }
}

#[test]
fn what_a_block_held_before_changes_nothing() {
    let _device = device();
    let config = config("llama", |it| {
        small(it, (4, 2, 32));
        it.tied = false;
    });
    let source = || Ok(Box::new(Poisoned) as Box<dyn TensorSource>);
    let cuda = CudaDecoder::build(config, 0, source).unwrap();
    let tokens: Vec<u32> = (3..22).collect();
    let serve = |pool: &mut CudaPool, tokens: &[u32]| {
        let spans = [(tokens, 0, None, table(32, 0))];
        on_device(&cuda, pool, &spans, false)
    };
    let mut pool = cuda.new_pool(2).unwrap();
    let fresh = serve(&mut pool, &tokens);
    assert!(fresh.iter().all(|logit| logit.is_finite()));
    let poisoned = serve(&mut pool, &[POISON; 32]);
    assert!(
        poisoned.iter().all(|logit| logit.is_nan()),
        "nothing was poisoned"
    );
    assert!(serve(&mut pool, &tokens) == fresh);
}
