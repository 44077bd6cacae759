//! `steersman inspect`: what a model is, and what is wrong with it.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::service::Inspection;

/// Say what a model is, whether it can be served, and what is wrong with it.
///
/// Tells its family, number type, policies and their objectives, which `--weights` name. Ends with
/// status 1 where it cannot be served.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The model: a folder, or a GGUF file
    #[arg(value_name = "DIR|FILE.gguf")]
    dir: PathBuf,
}

/// Prints the inspection; false where the folder cannot be served.
pub(super) fn run(args: &InspectArgs) -> io::Result<bool> {
    let inspection = Inspection::of(&args.dir);
    super::print(&inspection.to_string())?;
    Ok(inspection.is_servable())
}
