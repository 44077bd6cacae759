//! What the product does, without a transport: resolves weights, encodes prompts, streams answers.
