//! Builds the fact table that the demo's rewards read: `fact_table OUT.json.zst FILE...`.
#![expect(clippy::print_stdout, reason = "a command's answer")]

use std::path::PathBuf;

use steersman::rewards::rules::FactTable;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let out = args
        .next()
        .ok_or("usage: fact_table OUT.json.zst FILE...")?;
    let table = FactTable::from_files(&args.collect::<Vec<_>>())?;
    table.save(&out)?;
    let (subjects, facts, questions) = table.counts();
    println!(
        "{subjects} subjects, {facts} facts, {questions} questions in {}",
        out.display()
    );
    Ok(())
}
