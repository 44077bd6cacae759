//! Gathers settings: defaults < file < environment < flags.
