//! Speaks shell: one file per subcommand.
