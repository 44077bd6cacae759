//! One decoder, parametrised by family; its tensors, adapters and cache; sequence classifiers.
