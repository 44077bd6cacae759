//! Trains the demo's tokenizer: `train_tokenizer OUT VOCABULARY FILE...` (JSON lines).
#![expect(clippy::print_stdout, reason = "a command's answer")]

use std::path::PathBuf;

use steersman::text::{TokenizerSettings, train_tokenizer};
use steersman::training::data::{TextRow, read_texts};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: train_tokenizer OUT VOCABULARY FILE...";
    let out = PathBuf::from(args.next().ok_or(usage)?);
    let vocabulary: usize = args.next().ok_or(usage)?.parse()?;
    let mut texts = Vec::new();
    for file in args {
        for row in read_texts(&PathBuf::from(file))? {
            match row {
                TextRow::Text(text) => texts.push(text),
                TextRow::Dialogue { turns, .. } => {
                    texts.extend(turns.into_iter().map(|turn| turn.content));
                }
            }
        }
    }
    let count = texts.len();
    train_tokenizer(
        texts.into_iter(),
        &TokenizerSettings::demo(vocabulary),
        &out,
    )?;
    println!(
        "{vocabulary} tokens from {count} texts in {}",
        out.display()
    );
    Ok(())
}
