//! Writes GGUF files for the tests: the format's parts, and a fixture's folder as llama.cpp's
//! converter would write it.

use std::path::Path;

use serde_json::Value;
use steersman::model::{TensorFiles, TensorSource};

use crate::fixtures::fixture;

const ALIGNMENT: usize = 32;

/// A file under way.
#[derive(Default)]
pub(crate) struct Writer {
    entries: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Writer {
    /// An entry of ggml's type `kind`, its value spelled in bytes.
    pub(crate) fn raw(&mut self, key: &str, kind: u32, value: &[u8]) {
        let mut entry = Vec::new();
        string(&mut entry, key);
        entry.extend(kind.to_le_bytes());
        entry.extend(value);
        self.entries.push((key.to_owned(), entry));
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        string(&mut bytes, value);
        self.raw(key, 8, &bytes);
    }

    pub(crate) fn count(&mut self, key: &str, value: u64) {
        self.raw(key, 4, &(value as u32).to_le_bytes());
    }

    pub(crate) fn number(&mut self, key: &str, value: f64) {
        self.raw(key, 6, &(value as f32).to_le_bytes());
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.raw(key, 7, &[u8::from(value)]);
    }

    /// A list of so many elements of a type.
    fn list(&mut self, key: &str, kind: u32, count: usize, elements: &[u8]) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((count as u64).to_le_bytes());
        bytes.extend(elements);
        self.raw(key, 9, &bytes);
    }

    pub(crate) fn texts<'a>(&mut self, key: &str, values: impl IntoIterator<Item = &'a str>) {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for value in values {
            string(&mut bytes, value);
            count += 1;
        }
        self.list(key, 8, count, &bytes);
    }

    pub(crate) fn ints(&mut self, key: &str, values: &[i32]) {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.list(key, 5, values.len(), &bytes);
    }

    pub(crate) fn flags(&mut self, key: &str, values: &[bool]) {
        let bytes: Vec<u8> = values.iter().map(|value| u8::from(*value)).collect();
        self.list(key, 7, values.len(), &bytes);
    }

    /// A tensor of ggml's type `kind`; the shape has its outermost dimension first.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize], kind: u32, bytes: Vec<u8>) {
        self.tensors
            .push((name.to_owned(), shape.to_vec(), kind, bytes));
    }

    pub(crate) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.tensor(name, shape, 0, bytes);
    }

    /// Another value for an entry.
    pub(crate) fn set(&mut self, key: &str, write: impl FnOnce(&mut Self, &str)) {
        self.entries.retain(|(found, _)| found != key);
        write(self, key);
    }

    /// Another content for a tensor.
    pub(crate) fn replace(&mut self, name: &str, kind: u32, bytes: Vec<u8>) {
        let tensor = self.tensors.iter_mut().find(|(found, ..)| found == name);
        let tensor = tensor.unwrap();
        (tensor.2, tensor.3) = (kind, bytes);
    }

    /// The file's bytes.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.entries.len() as u64).to_le_bytes());
        for (_, entry) in &self.entries {
            out.extend(entry);
        }
        let mut data = Vec::new();
        for (name, shape, kind, bytes) in &self.tensors {
            string(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            for dimension in shape.iter().rev() {
                out.extend((*dimension as u64).to_le_bytes());
            }
            out.extend(kind.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(data);
        out
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A decoder fixture with all its tensors in F32.
pub(crate) fn converted(name: &str) -> Writer {
    let config = json(&fixture(name).join("config.json"));
    let model_type = config["model_type"].as_str().unwrap();
    let arch = match model_type {
        "mistral" => "llama",
        "gemma3_text" => "gemma3",
        other => other,
    };
    let mut writer = Writer::default();
    writer.text("general.architecture", arch);
    settings(&mut writer, arch, &config);
    tokenizer(&mut writer, name, &config);
    tensors(&mut writer, (name, arch), &config);
    writer
}

fn settings(writer: &mut Writer, arch: &str, config: &Value) {
    let key = |name: &str| format!("{arch}.{name}");
    let count = |name: &str| config[name].as_u64();
    for (theirs, ours) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
        ("attention.sliding_window", "sliding_window"),
        ("vocab_size", "vocab_size"),
    ] {
        if let Some(value) = count(ours) {
            writer.count(&key(theirs), value);
        }
    }
    let eps = config["rms_norm_eps"].as_f64().unwrap();
    writer.number(&key("attention.layer_norm_rms_epsilon"), eps);
    for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(cap) = config[name].as_f64() {
            writer.number(&key(name), cap);
        }
    }
    if let Some(scalar) = config["query_pre_attn_scalar"].as_f64() {
        writer.number(&key("attention.scale"), scalar.powf(-0.5));
    }
    if let Some(types) = config["layer_types"]
        .as_array()
        .filter(|_| arch == "gemma3")
    {
        let slides: Vec<bool> = types.iter().map(|it| it == "sliding_attention").collect();
        writer.flags(&key("attention.sliding_window_pattern"), &slides);
    }
    let newer = &config["rope_parameters"];
    let global = match newer.get("full_attention") {
        Some(global) => global,
        None => newer,
    };
    let theta = config["rope_theta"]
        .as_f64()
        .or(global["rope_theta"].as_f64());
    writer.number(&key("rope.freq_base"), theta.unwrap());
    if let Some(theta) = newer["sliding_attention"]["rope_theta"].as_f64() {
        writer.number(&key("rope.freq_base_swa"), theta);
    }
    if global["rope_type"] == "linear" {
        writer.text(&key("rope.scaling.type"), "linear");
        writer.number(
            &key("rope.scaling.factor"),
            global["factor"].as_f64().unwrap(),
        );
    }
    if arch == "llama" {
        let width = count("head_dim").unwrap();
        writer.count(&key("rope.dimension_count"), width);
    }
}

fn tokenizer(writer: &mut Writer, name: &str, config: &Value) {
    let spec = json(&fixture(name).join("tokenizer.json"));
    let settings = json(&fixture(name).join("tokenizer_config.json"));
    let mut tokens = vec![String::new(); config["vocab_size"].as_u64().unwrap() as usize];
    let mut kinds = vec![1; tokens.len()];
    for (text, id) in spec["model"]["vocab"].as_object().unwrap() {
        tokens[id.as_u64().unwrap() as usize] = text.clone();
    }
    for token in spec["added_tokens"].as_array().unwrap() {
        let id = token["id"].as_u64().unwrap() as usize;
        tokens[id] = token["content"].as_str().unwrap().to_owned();
        kinds[id] = if token["special"] == true { 3 } else { 4 };
    }
    writer.text("tokenizer.ggml.model", "gpt2");
    writer.text("tokenizer.ggml.pre", "gpt-2");
    writer.texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str));
    writer.ints("tokenizer.ggml.token_type", &kinds);
    let merges = spec["model"]["merges"].as_array().unwrap();
    let merges: Vec<String> = merges
        .iter()
        .map(|pair| {
            format!(
                "{} {}",
                pair[0].as_str().unwrap(),
                pair[1].as_str().unwrap()
            )
        })
        .collect();
    writer.texts("tokenizer.ggml.merges", merges.iter().map(String::as_str));
    writer.flag(
        "tokenizer.ggml.add_bos_token",
        !spec["post_processor"].is_null(),
    );
    for (theirs, ours) in [
        ("bos", "bos_token"),
        ("eos", "eos_token"),
        ("unknown", "unk_token"),
        ("padding", "pad_token"),
    ] {
        let named = &settings[ours];
        let text = named.as_str().or(named["content"].as_str());
        let id = text.and_then(|text| tokens.iter().position(|token| token == text));
        if let Some(id) = id {
            writer.count(&format!("tokenizer.ggml.{theirs}_token_id"), id as u64);
        }
    }
    let file = std::fs::read_to_string(fixture(name).join("chat_template.jinja")).ok();
    let inline = settings["chat_template"].as_str().map(str::to_owned);
    if let Some(template) = file.or(inline) {
        writer.text("tokenizer.chat_template", &template);
    }
}

fn tensors(writer: &mut Writer, (name, arch): (&str, &str), config: &Value) {
    let mut files = TensorFiles::open(&fixture(name)).unwrap();
    let names: Vec<String> = files.names().map(str::to_owned).collect();
    for tensor in names {
        let shape = files.shape(&tensor).unwrap();
        let values = files.tensor(&tensor, &shape).unwrap();
        let mut values: Vec<f32> = values.flatten_all().unwrap().to_vec1().unwrap();
        if arch.starts_with("gemma") && tensor.ends_with("norm.weight") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        if arch == "llama" {
            for (module, heads) in [
                ("q_proj", "num_attention_heads"),
                ("k_proj", "num_key_value_heads"),
            ] {
                if tensor.contains(module) {
                    values = permuted(&values, shape[0], config[heads].as_u64().unwrap() as usize);
                }
            }
        }
        writer.floats(&stored_name(&tensor, arch), &shape, &values);
    }
    let scaling = &config["rope_scaling"];
    if scaling["rope_type"] == "llama3" {
        let factors = llama3_factors(config, scaling);
        writer.floats("rope_freqs.weight", &[factors.len()], &factors);
    }
}

/// (heads, 2, half, in) to (heads, half, 2, in).
fn permuted(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let (width, head) = (values.len() / rows, rows / heads);
    let half = head / 2;
    let mut out = Vec::new();
    for h in 0..heads {
        for pair in 0..half {
            for side in 0..2 {
                let row = h * head + side * half + pair;
                out.extend_from_slice(&values[row * width..(row + 1) * width]);
            }
        }
    }
    out
}

fn llama3_factors(config: &Value, scaling: &Value) -> Vec<f32> {
    let number = |name: &str| scaling[name].as_f64().unwrap();
    let (factor, original) = (number("factor"), number("original_max_position_embeddings"));
    let (low, high) = (number("low_freq_factor"), number("high_freq_factor"));
    let (width, theta) = (
        config["head_dim"].as_u64().unwrap(),
        config["rope_theta"].as_f64().unwrap(),
    );
    (0..width / 2)
        .map(|i| {
            let frequency = theta.powf(-((2 * i) as f64) / width as f64);
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            if wavelength < original / high {
                1.0
            } else if wavelength > original / low {
                factor as f32
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
            }
        })
        .collect()
}

fn stored_name(name: &str, arch: &str) -> String {
    let sandwiched = matches!(arch, "gemma2" | "gemma3");
    let after_attention = if sandwiched {
        "post_attention_norm"
    } else {
        "ffn_norm"
    };
    [
        ("model.embed_tokens.", "token_embd."),
        ("model.norm.", "output_norm."),
        ("lm_head.", "output."),
        ("model.layers.", "blk."),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", after_attention),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.qkv_proj", "attn_qkv"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_up_proj", "ffn_up"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ]
    .iter()
    .fold(name.to_owned(), |name, (ours, theirs)| {
        name.replace(ours, theirs)
    })
}
