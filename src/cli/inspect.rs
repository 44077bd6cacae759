//! `steersman inspect`: what a model is, and what is wrong with it.

use std::io;
use std::path::PathBuf;

use clap::Args;

use super::fetching::{self, Lines};
use crate::hub::HubError;
use crate::service::Inspection;

/// Say what a model is, whether it can be served, and what is wrong with it.
///
/// Tells its family, number type, policies and their objectives, which `--weights` name. Ends with
/// status 1 where it cannot be served.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The model: a folder, a GGUF file, or a model of the hub, which is fetched
    #[arg(value_name = "DIR|FILE.gguf|ORG/NAME")]
    dir: PathBuf,
}

/// Why nothing can be said of a model.
#[derive(Debug, thiserror::Error)]
pub(super) enum InspectError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error("the terminal cannot be written to")]
    Io(#[from] io::Error),
}

/// Prints the inspection; false where the folder cannot be served.
pub(super) fn run(args: &InspectArgs) -> Result<bool, InspectError> {
    let dir = fetching::located_now(&args.dir, Lines::Printed)?;
    let inspection = Inspection::of(&dir);
    super::print(&inspection.to_string())?;
    Ok(inspection.is_servable())
}
