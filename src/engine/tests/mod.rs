//! Tests of the engine as a whole, over a model whose every logit shows its history.
