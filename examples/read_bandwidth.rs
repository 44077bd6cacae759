//! How fast this machine reads memory: what the decoding of one stream is held against, for which
//! every weight is read once a token.
//!
//! Usage: `cargo run --release --example read_bandwidth [THREADS]`. Reads 1 GiB in huge pages.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::time::Instant;

use rayon::prelude::*;
use steersman::kernel::Pages;

const NUMBERS: usize = 1 << 28;
const ROUNDS: usize = 15;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(0), |it| it.parse())?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    let mut pages = Pages::<u32>::new(NUMBERS);
    pages.fill(3);
    let share = NUMBERS / rayon::current_num_threads();
    let read = || -> u32 {
        let sum = |part: &[u32]| part.iter().fold(0u32, |sum, it| sum.wrapping_add(*it));
        let sums = pages.par_chunks(share).map(sum);
        sums.reduce(|| 0, u32::wrapping_add)
    };
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            std::hint::black_box(read());
            (NUMBERS * size_of::<u32>()) as f64 / begun.elapsed().as_secs_f64() / 1e9
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    println!(
        "{:.1} GB/s (median of {ROUNDS}; {:.1} to {:.1})",
        rates[ROUNDS / 2],
        rates[0],
        rates[ROUNDS - 1]
    );
    Ok(())
}
