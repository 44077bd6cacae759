//! Checks a CUDA device, and measures it: what tests/cuda/on_gpu.sh runs on a machine that has one.
//!
//! Usage: `cuda_check selftest FIXTURES [NAME...]`, `cuda_check speed MODEL_DIR...` (folders that need no more than
//! a `config.json`; tensors are random). One JSON object a line. Fails where a check fails.
#![expect(clippy::print_stdout, reason = "a check prints what it found")]

mod random;
mod selftest;
mod speed;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{}", serde_json::json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

/// Whether all that was checked holds.
fn run() -> Result<bool, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match (command.as_str(), rest.as_slice()) {
        ("selftest", [fixtures, names @ ..]) => selftest::run(Path::new(fixtures), names),
        ("speed", folders) if !folders.is_empty() => {
            for folder in folders {
                speed::run(Path::new(folder))?;
            }
            Ok(true)
        }
        _ => Err(
            "usage: cuda_check selftest FIXTURES [NAME...] | cuda_check speed MODEL_DIR...".into(),
        ),
    }
}
