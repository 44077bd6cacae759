//! Our decoders against transformers' golden numbers.

mod mixed;
mod rounded;

use std::sync::Arc;

use candle_core::Device;
use steersman::model::{
    BLOCK_TOKENS, Decoder, ForwardBatch, KvPool, LoraAdapter, ModelError, ServedStep,
};

use crate::fixtures::{DECODERS, assert_close, fixture};

struct Golden(std::collections::HashMap<String, candle_core::Tensor>);

impl Golden {
    fn load(path: std::path::PathBuf) -> Self {
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = self.0[name].to_dtype(candle_core::DType::F32).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Rows of a (sequences, tokens) table of token ids, cut where the mask ends.
    fn sequences(&self) -> Vec<Vec<u32>> {
        let table = |name: &str| self.0[name].to_dtype(candle_core::DType::U32).unwrap();
        let ids = table("input_ids").to_vec2::<u32>().unwrap();
        let masks = table("attention_mask").to_vec2::<u32>().unwrap();
        let cut = |(ids, mask): (Vec<u32>, Vec<u32>)| {
            ids.into_iter()
                .take(mask.iter().sum::<u32>() as usize)
                .collect()
        };
        ids.into_iter().zip(masks).map(cut).collect()
    }
}

fn logits(decoder: &Decoder, tokens: &[u32], adapter: Option<Arc<LoraAdapter>>) -> Vec<f32> {
    let mut batch = ForwardBatch::default();
    batch.push(tokens, 0, adapter);
    let hidden = decoder.forward(&batch).unwrap();
    decoder
        .logits(&hidden)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

#[test]
fn logits_and_logprobs_equal_transformers() {
    for name in DECODERS {
        let decoder = Decoder::load(&fixture(name)).unwrap();
        let golden = Golden::load(fixture(name).join("golden.safetensors"));
        let vocabulary = decoder.config().vocab_size;
        let expected = golden.floats("logits");
        let sequences = golden.sequences();
        let longest = sequences.iter().map(Vec::len).max().unwrap();
        let logprobs = golden.floats("logprobs");
        for (row, tokens) in sequences.iter().enumerate() {
            let at = row * longest * vocabulary;
            let ours = logits(&decoder, tokens, None);
            assert_close(name, &ours, &expected[at..at + ours.len()], 1e-4);

            let mut batch = ForwardBatch::default();
            batch.push(tokens, 0, None);
            let hidden = decoder.forward(&batch).unwrap();
            let rows = tokens.len() - 1;
            let ours = decoder
                .token_logprobs(&hidden.narrow(0, 0, rows).unwrap(), &tokens[1..])
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            let at = row * (longest - 1);
            assert_close(name, &ours, &logprobs[at..at + rows], 1e-4);
        }
    }
}

/// Logits of every row, as serving computes them.
fn served(
    decoder: &Decoder,
    batch: &ForwardBatch,
    tables: &[&[u32]],
    pool: &mut KvPool,
) -> Vec<f32> {
    let draws: Vec<u32> = (0..batch.len() as u32).collect();
    let step = ServedStep {
        batch,
        tables,
        draws: &draws,
    };
    let mut logits = Vec::new();
    decoder.step(step, pool, &mut logits).unwrap();
    logits
}

#[test]
fn serving_forward_equals_training_forward_and_chunks_equal_the_whole() {
    for name in DECODERS {
        let decoder = Decoder::load(&fixture(name)).unwrap();
        let golden = Golden::load(fixture(name).join("golden.safetensors"));
        let tokens = &golden.sequences()[0];
        let trained = logits(&decoder, tokens, None);
        let serve = |chunk: usize| {
            let table: Vec<u32> = (0..tokens.len().div_ceil(BLOCK_TOKENS) as u32).collect();
            let mut pool = decoder.new_pool(table.len());
            let mut all = Vec::new();
            for (index, part) in tokens.chunks(chunk).enumerate() {
                let mut batch = ForwardBatch::default();
                batch.push(part, index * chunk, None);
                all.extend(served(&decoder, &batch, &[&table], &mut pool));
            }
            all
        };
        let whole = serve(tokens.len());
        assert_close(name, &whole, &trained, 1e-4);
        for chunk in [1, 3] {
            assert!(
                serve(chunk) == whole,
                "{name}: chunks of {chunk} change the bits"
            );
        }
    }
}

#[test]
fn a_sequence_alone_equals_itself_in_a_batch() {
    for name in DECODERS {
        check_alone_equals_batch(name, &Decoder::load(&fixture(name)).unwrap());
    }
}

/// Each of four sequences, two of them through an adapter, has the same bits by itself.
fn check_alone_equals_batch(name: &str, decoder: &Decoder) {
    let adapter = Arc::new(LoraAdapter::load(&fixture(name).join("adapter"), decoder).unwrap());
    let golden = Golden::load(fixture(name).join("golden.safetensors"));
    let sequences = golden.sequences();
    let adapters = [None, Some(adapter.clone()), Some(adapter), None];
    let mut batch = ForwardBatch::default();
    // Blocks of one pool in no order: the places of neighbours are far apart and mixed.
    let mut tables: Vec<Vec<u32>> = vec![Vec::new(); adapters.len()];
    let longest = sequences.iter().map(Vec::len).max().unwrap();
    for block in 0..longest.div_ceil(BLOCK_TOKENS) as u32 {
        for (index, table) in tables.iter_mut().enumerate().rev() {
            table.insert(0, block * adapters.len() as u32 + index as u32);
        }
    }
    let mut pool = decoder.new_pool(longest.div_ceil(BLOCK_TOKENS) * adapters.len());
    for (index, adapter) in adapters.iter().enumerate() {
        batch.push(&sequences[index % sequences.len()], 0, adapter.clone());
    }
    let tables: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
    let together = served(decoder, &batch, &tables, &mut pool);
    let vocabulary = decoder.config().vocab_size;
    for (span, adapter) in batch.spans.iter().zip(adapters) {
        let mut alone = ForwardBatch::default();
        let rows = span.start..span.start + span.len;
        alone.push(&batch.token_ids[rows], 0, adapter);
        let table: Vec<u32> = (0..span.len.div_ceil(BLOCK_TOKENS) as u32).collect();
        let mut pool = decoder.new_pool(table.len());
        let alone = served(decoder, &alone, &[&table], &mut pool);
        let rows = span.start * vocabulary..(span.start + span.len) * vocabulary;
        assert!(
            together[rows] == alone,
            "{name}: the batch changes the bits"
        );
    }
}

#[test]
fn adapters_equal_peft_and_survive_a_round_trip() {
    for name in DECODERS {
        let decoder = Decoder::load(&fixture(name)).unwrap();
        let adapter = LoraAdapter::load(&fixture(name).join("adapter"), &decoder).unwrap();
        let golden = Golden::load(fixture(name).join("adapter_golden.safetensors"));
        let tokens = golden
            .floats("input_ids")
            .iter()
            .map(|id| *id as u32)
            .collect::<Vec<_>>();
        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path(), "base").unwrap();
        let again = LoraAdapter::load(folder.path(), &decoder).unwrap();
        for adapter in [adapter, again] {
            let ours = logits(&decoder, &tokens, Some(Arc::new(adapter)));
            assert_close(name, &ours, &golden.floats("logits_adapter_on"), 1e-4);
        }
    }
}

#[test]
fn the_adapter_zoo_is_honoured_or_refused_by_name() {
    let decoder = Decoder::load(&fixture("llama")).unwrap();
    let golden = Golden::load(fixture("lora_zoo").join("golden.safetensors"));
    let tokens = &golden.sequences()[0];
    for name in [
        "rslora",
        "patterns",
        "regex_targets",
        "all_linear",
        "layers_to_transform",
    ] {
        let adapter = LoraAdapter::load(&fixture("lora_zoo").join(name), &decoder).unwrap();
        let ours = logits(&decoder, tokens, Some(Arc::new(adapter)));
        let expected = golden.floats(&format!("logits_row0_last6.{name}"));
        assert_close(name, &ours[ours.len() - expected.len()..], &expected, 1e-4);
    }
    let refused = [
        ("dora", "use_dora"),
        ("bias_lora_only", "lora_bias"),
        ("lm_head_saved", "modules_to_save"),
    ];
    for (name, key) in refused {
        let error = LoraAdapter::load(&fixture("lora_zoo").join(name), &decoder)
            .err()
            .unwrap();
        assert!(error.to_string().contains(key), "{name}: {error}");
    }
}

/// A copy of a fixture whose files a test may damage.
fn copied(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

#[test]
fn damaged_checkpoints_are_refused_with_a_reason() {
    let tensors = "model.safetensors";
    let load = |folder: &tempfile::TempDir| Decoder::load(folder.path()).err().unwrap();

    let folder = copied("llama");
    std::fs::remove_file(folder.path().join(tensors)).unwrap();
    assert!(matches!(load(&folder), ModelError::NoTensors { .. }));

    std::fs::write(folder.path().join("pytorch_model.bin"), b"pickle").unwrap();
    assert!(load(&folder).to_string().contains("arbitrary code"));

    let folder = copied("llama");
    let bytes = std::fs::read(folder.path().join(tensors)).unwrap();
    for keep in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(folder.path().join(tensors), &bytes[..keep]).unwrap();
        assert!(
            matches!(load(&folder), ModelError::Invalid { .. }),
            "{keep} bytes"
        );
    }

    let folder = copied("llama");
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    for (from, to, named) in [
        (
            "\"vocab_size\": 512",
            "\"vocab_size\": 500",
            "expected [500, 64]",
        ),
        ("\"mlp_bias\": false", "\"mlp_bias\": true", "bias"),
        (
            "\"rope_type\": \"default\"",
            "\"rope_type\": \"longrope\"",
            "longrope",
        ),
        ("\"use_cache\": true", "\"moe_experts\": 8", "moe_experts"),
        (
            "\"hidden_act\": \"silu\"",
            "\"hidden_act\": \"relu\"",
            "relu",
        ),
        (
            "\"model_type\": \"llama\"",
            "\"model_type\": \"mamba\"",
            "mamba",
        ),
    ] {
        assert!(text.contains(from), "{from} is not in the fixture");
        std::fs::write(&config, text.replace(from, to)).unwrap();
        let error = load(&folder);
        assert!(format!("{error}").contains(named), "{to}: {error}");
    }
}
