//! Why a server cannot be measured.

/// A bench that cannot start. What goes wrong later is counted, by kind.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The address is none.
    #[error(
        "`{url}` is no address of a server, expected http://HOST:PORT; what speaks only https needs a proxy in between"
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// A key that cannot stand in a header.
    #[error("the API key cannot be sent: it holds characters that no header may have")]
    Key,
    /// A request before the measurement got no answer.
    #[error("{what} got no answer")]
    NoAnswer {
        /// Method and address.
        what: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A request before the measurement was refused.
    #[error("{what} was answered with {status}: {said}")]
    Refused {
        /// Method and address.
        what: String,
        /// The status.
        status: u16,
        /// The beginning of the reply.
        said: String,
    },
    /// A reply that is not what an OpenAI-compatible server says.
    #[error("{what} was answered, but {problem}")]
    Strange {
        /// Method and address.
        what: String,
        /// What is missing.
        problem: String,
    },
    /// Weights for a server that has nothing to weigh.
    #[error(
        "the server lists no objectives for `{model}` at /v1/objectives, so requests cannot \
         bring weights; leave `--weights` out, or name a model that has some"
    )]
    NoObjectives {
        /// The model that is asked.
        model: String,
    },
}
