//! One number per objective for a completion.
