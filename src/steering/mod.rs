//! What is traded off, how much of each, and how the policy is told.
