//! GGUF files: read like the folders they came from, their blocks like ggml's own package reads
//! them, and damaged ones refused.

mod hostile;
mod served;
pub(crate) mod writer;

use std::path::PathBuf;

use serde_json::Value;
use steersman::gguf::{GgufFile, dequantize};
use steersman::model::{
    Decoder, DecoderConfig, Dtype, ForwardBatch, GgufTensors, Packing, TensorFiles, TensorSource,
};
use steersman::text::{PromptEncoder, Tokenizer};
use steersman::types::Message;
use tempfile::TempDir;

use crate::fixtures::{DECODERS, assert_close, fixture};
use writer::{Writer, converted};

/// A file of these bytes.
struct Written {
    _dir: TempDir,
    path: PathBuf,
}

fn written(bytes: &[u8]) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.Q8_0.gguf");
    std::fs::write(&path, bytes).unwrap();
    Written { _dir: dir, path }
}

fn opened(writer: &Writer) -> GgufFile {
    // a mapping outlives the name of its file
    GgufFile::open(&written(&writer.finish()).path).unwrap()
}

fn logits(decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
    let mut batch = ForwardBatch::default();
    batch.push(tokens, 0, None);
    let hidden = decoder.forward(&batch).unwrap();
    let logits = decoder.logits(&hidden).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_familys_file_computes_what_its_folder_does() {
    let tokens: Vec<u32> = (0..40).map(|i| (i * 37 + 11) % 500).collect();
    for name in DECODERS {
        let file = opened(&converted(name));
        let decoder = Decoder::load_gguf(&file, Dtype::F32).unwrap();
        let folder = Decoder::load(&fixture(name)).unwrap();
        let expected = logits(&folder, &tokens);
        // a file has Llama 3's factors in single precision, so angles differ in the last bit
        let tolerance = if name == "llama_rope_llama3" {
            5e-5
        } else {
            1e-5
        };
        assert_close(name, &logits(&decoder, &tokens), &expected, tolerance);
        let (found, stated) = (decoder.config(), folder.config());
        assert_eq!(found.layers, stated.layers, "{name}");
        assert_eq!(found.tied, stated.tied, "{name}");
        assert_eq!(found.max_positions, stated.max_positions, "{name}");
    }
}

#[test]
fn a_files_tokenizer_and_template_are_its_folders() {
    for name in DECODERS {
        let file = opened(&converted(name));
        let ours = PromptEncoder::load_gguf(&file).unwrap();
        let folders = PromptEncoder::load(&fixture(name)).unwrap();
        let text = std::fs::read_to_string(fixture(name).join("golden.json")).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        for case in golden["tokenization"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            let found = ours.tokenizer().encode_with_bos(text).unwrap();
            assert_eq!(found, ids, "{name}: {text:?}");
            let decoded = ours.tokenizer().decode(&found);
            assert_eq!(decoded, case["decoded"].as_str().unwrap(), "{name}");
        }
        assert_eq!(
            ours.has_chat_template(),
            folders.has_chat_template(),
            "{name}"
        );
        let chat = [Message::user("Who goes there?")];
        assert_eq!(
            ours.encode_chat(&chat, None).unwrap(),
            folders.encode_chat(&chat, None).unwrap(),
            "{name}"
        );
        let bos = (ours.tokenizer().bos_id(), folders.tokenizer().bos_id());
        assert_eq!(bos.0, bos.1, "{name}");
        for id in folders.tokenizer().eos_ids() {
            assert!(ours.tokenizer().eos_ids().contains(&id), "{name}: {id}");
        }
    }
}

#[test]
fn blocks_of_every_format_are_what_ggmls_package_reads() {
    let file = GgufFile::open(&fixture("gguf").join("blocks.gguf")).unwrap();
    let mut seen = Vec::new();
    for name in file.names().filter(|name| !name.ends_with(".golden")) {
        let tensor = file.tensor(name).unwrap();
        let golden = file.tensor(&format!("{name}.golden")).unwrap();
        assert_eq!(tensor.shape, golden.shape, "{name}");
        let found = dequantize(tensor.format, tensor.bytes);
        let expected = dequantize(golden.format, golden.bytes);
        let bits = |values: &[f32]| {
            values
                .iter()
                .map(|value| value.to_bits())
                .collect::<Vec<_>>()
        };
        // a zero may have either sign
        let plain = |values: Vec<f32>| values.iter().map(|value| value + 0.0).collect::<Vec<_>>();
        assert_eq!(bits(&plain(found)), bits(&plain(expected)), "{name}");
        seen.push(tensor.format.name());
    }
    let all = [
        "BF16", "F16", "Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0",
    ];
    assert_eq!(seen, all);
}

#[test]
fn pieces_are_cut_and_joined_as_sentencepiece_does() {
    let file = GgufFile::open(&fixture("gguf").join("pieces.gguf")).unwrap();
    let tokenizer = Tokenizer::of_gguf(file.metadata()).unwrap();
    let text = std::fs::read_to_string(fixture("gguf").join("pieces.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 5);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode_plain(text).unwrap(), ids, "{text:?}");
        let decoded = case["decoded"].as_str().unwrap();
        assert_eq!(tokenizer.decode(&ids), decoded, "{text:?}");
        let with_bos = tokenizer.encode_with_bos(text).unwrap();
        assert_eq!(with_bos.first().copied(), tokenizer.bos_id(), "{text:?}");
        assert_eq!(with_bos[1..], ids, "{text:?}");
    }
    // whoever writes a control token's text writes text
    assert!(!tokenizer.encode_plain("</s>").unwrap().contains(&2));
    assert_eq!(tokenizer.encode_markup("</s>").unwrap(), [2]);
}

/// The fixture's file with its queries in Q8_0 blocks of powers of two, which lose nothing.
#[test]
fn rows_come_one_by_one_as_in_the_whole_and_blocks_are_packed_as_they_are_stored() {
    let mut writer = converted("llama");
    let (rows, width) = (64, 64);
    let mut bytes = Vec::new();
    for row in 0..rows {
        for block in 0..width / 32 {
            bytes.extend(half::f16::from_f32(0.5).to_le_bytes());
            bytes.extend((0..32).map(|column| (row + column + block) as u8));
        }
    }
    writer.replace("blk.0.attn_q.weight", 8, bytes);
    let file = opened(&writer);
    let config = DecoderConfig::of_gguf(&file).unwrap();
    let mut source = GgufTensors::new(&file, &config);
    let name = "model.layers.0.self_attn.q_proj.weight";
    let shape = [rows, width];
    let whole = source.tensor(name, &shape).unwrap();
    let whole: Vec<f32> = whole.flatten_all().unwrap().to_vec1().unwrap();
    let mut some = Vec::new();
    for first in (0..rows).step_by(24) {
        let part = first..rows.min(first + 24);
        source.rows((name, shape), part.clone(), &mut some).unwrap();
        assert_eq!(some, whole[part.start * width..part.end * width]);
    }
    let name_of = |packing: Option<Packing>| packing.map(Packing::name);
    assert_eq!(name_of(source.packing(name)), Some("q8_0"));
    // row 1 of the first head, of 16, was the third in the file
    assert_eq!(whole[width], 0.5 * 2.0);
    let plain = "model.layers.0.self_attn.v_proj.weight";
    assert_eq!(name_of(source.packing(plain)), None);
    let folder = TensorFiles::open(&fixture("llama")).unwrap();
    assert_eq!(name_of(folder.packing(name)), None);
}

#[test]
fn what_is_not_supported_is_named() {
    let refused = |change: &dyn Fn(&mut Writer)| {
        let mut writer = converted("llama");
        change(&mut writer);
        let written = written(&writer.finish());
        let file = match GgufFile::open(&written.path) {
            Ok(file) => file,
            Err(error) => return error.to_string(),
        };
        let decoder = Decoder::load_gguf(&file, Dtype::F32).map(|_| ());
        match (decoder, PromptEncoder::load_gguf(&file)) {
            (Err(error), _) => error.to_string(),
            (_, Err(error)) => error.to_string(),
            _ => panic!("not refused"),
        }
    };
    let check = |change: &dyn Fn(&mut Writer), words: &[&str]| {
        let message = refused(change);
        for word in words {
            assert!(message.contains(word), "{word}: {message}");
        }
    };
    check(
        &|file| file.set("general.architecture", |file, key| file.text(key, "mamba")),
        &["`mamba`", "llama, qwen2"],
    );
    check(
        &|file| file.tensor("blk.0.attn_q.extra", &[1, 256], 10, vec![0; 84]),
        &["blk.0.attn_q.extra", "Q2_K", "Q4_K"],
    );
    check(
        &|file| file.set("tokenizer.ggml.pre", |file, key| file.text(key, "viking")),
        &["`viking`", "llama-bpe"],
    );
    check(
        &|file| file.set("tokenizer.ggml.model", |file, key| file.text(key, "t5")),
        &["`t5`"],
    );
    check(
        &|file| file.count("llama.expert_count", 8),
        &["llama.expert_count"],
    );
    check(&|file| file.count("split.count", 3), &["3", "merge"]);
    check(
        &|file| file.text("llama.rope.scaling.type", "longrope"),
        &["`longrope`", "yarn"],
    );
    check(
        &|file| file.floats("blk.0.ffn_gate.bias", &[96], &[0.0; 96]),
        &["blk.0.ffn_gate.bias", "no part"],
    );
    check(
        &|file| file.floats("rope_freqs.weight", &[3], &[1.0; 3]),
        &["rope_freqs.weight", "3 factors", "8"],
    );
    // what is off is not asked for
    let mut sound = converted("llama");
    sound.count("llama.expert_count", 0);
    Decoder::load_gguf(&opened(&sound), Dtype::F32).unwrap();
    // and a file is no folder to train from
    let file = written(&sound.finish());
    let error = DecoderConfig::load(&file.path).unwrap_err().to_string();
    assert!(error.contains("not trained"), "{error}");
}
