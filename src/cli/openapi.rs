//! `steersman openapi`: prints the API's document, or rewrites the committed one.

use std::io;
use std::path::Path;

use clap::Args;

use crate::http;

/// Print the OpenAPI document, or rewrite the committed one.
#[derive(Debug, Args)]
pub(super) struct OpenapiArgs {
    /// Rewrite openapi/openapi.json below the current folder instead of printing
    #[arg(long)]
    write: bool,
}

pub(super) fn run(args: &OpenapiArgs) -> io::Result<()> {
    let document = http::openapi_json();
    if !args.write {
        return super::print(&document);
    }
    let folder = Path::new("openapi");
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("openapi.json"), document)
}
