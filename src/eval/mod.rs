//! How good, and how steerable, a policy is.
