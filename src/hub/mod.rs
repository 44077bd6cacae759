//! Models of a hub that speaks as huggingface.co does, by name: fetched once, kept in the cache
//! that Hugging Face's own tools share, and served from there.
//!
//! A hub is not believed: names of files cannot lead out of their folder, content is held against
//! its hash, and the token goes to the hub alone. Knows nothing of what is in the files.

mod cache;
mod client;
mod download;
mod error;
mod etag;
mod fetch;
mod gguf;
mod listing;
mod lock;
mod name;
mod part;
mod path;
mod redirect;
mod refusal;
mod select;
mod settings;
mod tries;
mod watch;

pub use cache::name_of_snapshot;
pub use client::CallError;
pub use error::HubError;
pub use fetch::Hub;
pub use name::HubName;
pub use select::NoCheckpoint;
pub use settings::HubSettings;
pub use tries::Patience;
pub use watch::FetchWatcher;
