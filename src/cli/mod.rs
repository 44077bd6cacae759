//! Speaks shell: one file per subcommand.

pub mod evaluate;
pub mod train;
