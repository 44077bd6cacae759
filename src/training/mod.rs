//! The training loops: supervised, reward model, MO-ODPO. Knows nothing of HTTP or stores.
