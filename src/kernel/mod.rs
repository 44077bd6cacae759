//! Arithmetic on tensors, as functions that carry their own gradients.

pub mod matmul;
