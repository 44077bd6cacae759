//! Prints a model's logits: `logits MODEL [ADAPTER]`, lists of token ids on standard input.
//!
//! Each line of the input is a JSON list of token ids; each line of the output is the JSON list of
//! their rows of logits. Made to hold a checkpoint against another program's numbers.
#![expect(clippy::print_stdout, reason = "a command's answer")]

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use steersman::model::{Decoder, ForwardBatch, LoraAdapter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let model = args.next().ok_or("usage: logits MODEL [ADAPTER]")?;
    let decoder = Decoder::load(&model)?;
    let adapter = match args.next() {
        Some(folder) => Some(Arc::new(LoraAdapter::load(&folder, &decoder)?)),
        None => None,
    };
    for line in std::io::stdin().lock().lines() {
        let ids: Vec<u32> = serde_json::from_str(&line?)?;
        let mut batch = ForwardBatch::default();
        batch.push(&ids, 0, adapter.clone());
        let logits = decoder.logits(&decoder.forward(&batch)?)?;
        println!("{}", serde_json::to_string(&logits.to_vec2::<f32>()?)?);
    }
    Ok(())
}
