//! What others were attacked by, tried on us: templates from strangers, text that plays server,
//! addresses to send us to, requests
//! made to break the engine, and clocks held against the prefix cache.

mod fetching;
mod forgery;
mod poisoned;
mod templates;
mod tenants;
