//! Where a tracker is, and what a run is called there.

use hyper::Uri;
use hyper::header::HeaderValue;

/// The variable that MLflow's own clients read a token from.
const TOKEN_VARIABLE: &str = "MLFLOW_TRACKING_TOKEN";

/// Why a tracker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrackingError {
    /// Its address is none.
    // the address may hold a secret, so it is not quoted
    #[error("the MLflow address {0}, expected http://HOST:PORT")]
    Address(&'static str),
    /// The token cannot be sent.
    #[error("{TOKEN_VARIABLE} holds what no header can")]
    Token,
    /// Its thread cannot be started.
    #[error("the thread that speaks to MLflow cannot be started")]
    Thread(#[from] std::io::Error),
}

/// A tracker and the experiment that runs belong to there.
#[derive(Debug, Clone)]
pub struct MlflowSettings {
    /// `http://HOST:PORT` or what stands before `/api`, without a slash at its end.
    pub(super) base: String,
    /// The experiment's name; made where there is none.
    pub(super) experiment: String,
    pub(super) authorization: Option<HeaderValue>,
}

impl MlflowSettings {
    /// Checks the address, and takes the token of `MLFLOW_TRACKING_TOKEN` where it is set.
    ///
    /// # Errors
    /// The address is no http or https address, or holds a user name.
    pub fn new(url: &str, experiment: &str) -> Result<Self, TrackingError> {
        let uri: Uri = url
            .parse()
            .map_err(|_| TrackingError::Address("is no address"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            let problem = "has no http or https scheme, or no host";
            return Err(TrackingError::Address(problem));
        }
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            let problem = "holds a user name; a token goes into MLFLOW_TRACKING_TOKEN";
            return Err(TrackingError::Address(problem));
        }
        if uri.query().is_some() {
            return Err(TrackingError::Address("has a query"));
        }
        let authorization = match std::env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.is_empty() => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| TrackingError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
            _ => None,
        };
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            experiment: experiment.to_owned(),
            authorization,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_are_refused_without_being_quoted() {
        for (url, words) in [
            ("mlflow", "no http"),
            ("ftp://host", "no http"),
            ("http://ada:secret@host", "user name"),
            ("http://host/?key=secret", "query"),
            ("http://[", "no address"),
        ] {
            let told = MlflowSettings::new(url, "x").unwrap_err().to_string();
            assert!(told.contains(words) && !told.contains("secret"), "{told}");
        }
        let settings = MlflowSettings::new("https://host/mlflow/", "x").unwrap();
        assert_eq!(settings.base, "https://host/mlflow");
    }
}
