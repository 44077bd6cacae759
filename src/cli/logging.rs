//! Log lines to standard error. No line of this program holds a prompt or an answer.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// A log filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the log filter `{filter}` cannot be read; expected for example info or steersman=debug")]
pub(super) struct LogFilterError {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging; a second call changes nothing.
pub(super) fn start(format: LogFormat, filter: &str) -> Result<(), LogFilterError> {
    let env_filter = EnvFilter::try_new(filter).map_err(|source| LogFilterError {
        filter: filter.to_owned(),
        source,
    })?;
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(env_filter);
    // an error means that logging runs already
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}
