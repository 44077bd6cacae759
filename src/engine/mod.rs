//! Token ids in, token events out, many sequences at once. Knows nothing of text or weights.
