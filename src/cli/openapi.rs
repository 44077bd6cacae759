//! `steersman openapi`: prints an API document, or rewrites the committed ones.

use std::io;
use std::path::Path;

use clap::Args;

use crate::http;

/// Print the OpenAPI document, or rewrite the committed ones.
#[derive(Debug, Args)]
pub(super) struct OpenapiArgs {
    /// Rewrite openapi/openapi.json and openapi/admin.json below the current folder instead of
    /// printing
    #[arg(long)]
    write: bool,
    /// Print the document of the admin routes (files, training jobs, checkpoints, keys) instead
    #[arg(long, conflicts_with = "write")]
    admin: bool,
}

pub(super) fn run(args: &OpenapiArgs) -> io::Result<()> {
    if args.admin {
        return super::print(&http::admin_json());
    }
    let document = http::openapi_json();
    if !args.write {
        return super::print(&document);
    }
    let folder = Path::new("openapi");
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("openapi.json"), document)?;
    std::fs::write(folder.join("admin.json"), http::admin_json())
}
