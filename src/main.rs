//! The `steersman` command.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the allocator keeps memory that was freed, in milliseconds; -1 for ever.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let trains = args
        .get(1)
        .is_some_and(|verb| verb == "train" || verb == "worker");
    if trains && std::env::var_os(PURGE_DELAY).is_none() {
        begin_anew_keeping_freed_memory(&args);
    }
    steersman::cli::run(args)
}

/// A training step frees what the next one asks for, and handing it back to the system in between
/// costs time. The allocator reads its options before `main`, so this program takes its own place
/// with the option set. Returns where that cannot be done, which costs speed only.
fn begin_anew_keeping_freed_memory(args: &[OsString]) {
    if let Ok(program) = std::env::current_exe() {
        let mut again = Command::new(program);
        again.args(&args[1..]).env(PURGE_DELAY, "-1");
        if let Some(name) = args.first() {
            again.arg0(name);
        }
        // on success it does not return
        let _ = again.exec();
    }
}
