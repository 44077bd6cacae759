//! Which environment variables `serve` takes for misspelt settings.

use clap::CommandFactory;

use crate::rewards::remote::KEY_PREFIX;

/// Finds a variable that looks like a setting and is none: a misspelt one would be without effect,
/// and nobody would hear of it.
pub(super) fn misspelt() -> Option<String> {
    fn known(command: &clap::Command, names: &mut Vec<String>) {
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        names.extend(variables.map(|name| name.to_string_lossy().into_owned()));
        for subcommand in command.get_subcommands() {
            known(subcommand, names);
        }
    }
    let mut names = Vec::new();
    known(&super::Cli::command(), &mut names);
    let variables = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let mut unknown = variables.filter(|name| {
        name.starts_with("STEERSMAN_") && !is_of_others(name) && !names.contains(name)
    });
    unknown.next()
}

/// Kubernetes tells every pod where a service called `steersman` is, and jobs name the keys of
/// their reward services themselves.
fn is_of_others(name: &str) -> bool {
    name == "STEERSMAN_PORT"
        || ["STEERSMAN_SERVICE_", "STEERSMAN_PORT_", KEY_PREFIX]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}
