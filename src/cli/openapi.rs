//! `steersman openapi`: prints an API document, or rewrites the committed ones.

use std::io;
use std::path::Path;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::http;

/// Print the OpenAPI document, or rewrite the committed ones.
#[derive(Debug, Args)]
pub(super) struct OpenapiArgs {
    /// Rewrite openapi/openapi.json and openapi/admin.json below the current folder instead of
    /// printing
    #[arg(
        long,
        env = "STEERSMAN_OPENAPI_WRITE",
        value_parser = BoolishValueParser::new()
    )]
    write: bool,
    /// Print the document of the admin routes (files, training jobs, checkpoints, keys) instead
    #[arg(
        long,
        env = "STEERSMAN_OPENAPI_ADMIN",
        conflicts_with = "write",
        value_parser = BoolishValueParser::new()
    )]
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
