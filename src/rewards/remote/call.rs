//! How a service is called: its address, its key, how patiently.

use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::rewards::RewardError;

/// Environment variables of this beginning may hold keys. Any other name could make a job's owner
/// send the server's own secrets to an address of their choice.
pub const KEY_PREFIX: &str = "STEERSMAN_REWARD_KEY";
/// A wait between two attempts never exceeds this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How a service is called: the part that the configurations of all services share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallSettings {
    /// The whole address, route and all.
    pub url: String,
    /// The environment variable with the service's key; its name begins with
    /// `STEERSMAN_REWARD_KEY`.
    pub api_key_env: Option<String>,
    /// How long one attempt may take, in seconds.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: f64,
    /// Attempts after the first, for answers that cannot be used too.
    #[serde(default = "retries")]
    pub retries: u32,
    /// Wait before the second attempt, in milliseconds; it doubles with each further one.
    #[serde(default = "backoff_ms")]
    pub backoff_ms: u64,
    /// Requests under way at once.
    #[serde(default = "parallel")]
    pub parallel: usize,
}

fn timeout_seconds() -> f64 {
    60.0
}

fn retries() -> u32 {
    5
}

fn backoff_ms() -> u64 {
    500
}

fn parallel() -> usize {
    4
}

/// Settings that were found sound.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) uri: Uri,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    pub(super) parallel: usize,
    backoff: Duration,
}

impl CallSettings {
    /// The settings found sound, and the key.
    pub(super) fn check(&self, reward: &str) -> Result<Call, RewardError> {
        Ok(Call {
            uri: self.check_without_key(reward)?,
            authorization: self.key(reward)?,
            timeout: Duration::from_secs_f64(self.timeout_seconds),
            attempts: self.retries + 1,
            parallel: self.parallel,
            backoff: Duration::from_millis(self.backoff_ms),
        })
    }

    /// Checks all but whether the key is set, which may be so on the worker's host alone; the
    /// address.
    pub(super) fn check_without_key(&self, reward: &str) -> Result<Uri, RewardError> {
        let fail = |reason: String| Err(RewardError::setting(reward, reason));
        if !(self.timeout_seconds > 0.0 && self.timeout_seconds <= 3600.0) {
            let value = self.timeout_seconds;
            return fail(format!(
                "`timeout_seconds` is {value}, expected above 0 and at most 3600"
            ));
        }
        if self.retries > 100 {
            return fail(format!(
                "`retries` is {}, expected at most 100",
                self.retries
            ));
        }
        if !(1..=64).contains(&self.parallel) {
            return fail(format!("`parallel` is {}, expected 1 to 64", self.parallel));
        }
        self.key_name(reward)?;
        self.address(reward)
    }

    fn key_name(&self, reward: &str) -> Result<(), RewardError> {
        match &self.api_key_env {
            Some(name) if !name.starts_with(KEY_PREFIX) => {
                let reason = format!(
                    "`api_key_env` is {name}, expected a name that begins with {KEY_PREFIX}"
                );
                Err(RewardError::setting(reward, reason))
            }
            _ => Ok(()),
        }
    }

    fn address(&self, reward: &str) -> Result<Uri, RewardError> {
        // the address may hold a secret, so it is not quoted
        let refused = |reason: &str| {
            let reason = format!("`url` {reason}; expected http://HOST:PORT/ROUTE");
            RewardError::setting(reward, reason)
        };
        let uri: Uri = self.url.parse().map_err(|_| refused("is no address"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(refused("has no http or https scheme, or no host"));
        }
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(refused("holds a user name; name a key with `api_key_env`"));
        }
        Ok(uri)
    }

    fn key(&self, reward: &str) -> Result<Option<HeaderValue>, RewardError> {
        let Some(name) = &self.api_key_env else {
            return Ok(None);
        };
        let refused = |reason: &str| {
            let reason = format!("`api_key_env` is {name}, {reason}");
            RewardError::setting(reward, reason)
        };
        let secret = std::env::var(name).map_err(|_| refused("which is not set"))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {secret}"))
            .map_err(|_| refused("which holds what no header can"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl Call {
    /// How long to wait after the attempt of this number, counted from 0.
    pub(super) fn wait(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let own = self.backoff.saturating_mul(2_u32.saturating_pow(attempt));
        own.max(asked.unwrap_or_default()).min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> CallSettings {
        CallSettings {
            url: url.to_owned(),
            api_key_env: None,
            timeout_seconds: 1.0,
            retries: 2,
            backoff_ms: 100,
            parallel: 1,
        }
    }

    #[test]
    fn only_whole_addresses_without_secrets_are_taken() {
        let check = |url: &str, sound: bool| {
            assert_eq!(settings(url).check("r").is_ok(), sound, "{url}");
        };
        check("http://127.0.0.1:8000/classify", true);
        check("https://rewards.example/v1/score?model=a", true);
        for url in [
            "",
            "127.0.0.1:8000/classify",
            "/classify",
            "file:///etc/passwd",
            "ftp://host/x",
            "http://user:secret@host/x",
        ] {
            check(url, false);
        }
        let error = settings("http://user:secret@host/x")
            .check("r")
            .expect_err("a secret");
        assert!(!error.to_string().contains("secret@"), "{error}");
    }

    #[test]
    fn a_key_comes_from_a_variable_of_its_own_kind_only() {
        let named = |name: &str| {
            let settings = CallSettings {
                api_key_env: Some(name.to_owned()),
                ..settings("http://h/")
            };
            settings.check("r").expect_err("refused").to_string()
        };
        assert!(named("STEERSMAN_DATABASE_URL").contains("begins with"));
        assert!(named("STEERSMAN_REWARD_KEY_NOBODY_SET").contains("not set"));
    }

    #[test]
    fn waits_double_up_to_a_minute_and_a_service_may_ask_for_more() {
        let call = settings("http://h/").check("r").expect("sound");
        let ms = |attempt, asked| call.wait(attempt, asked).as_millis();
        assert_eq!([ms(0, None), ms(1, None), ms(2, None)], [100, 200, 400]);
        assert_eq!(ms(99, None), 60_000);
        assert_eq!(ms(0, Some(Duration::from_secs(3))), 3000);
        assert_eq!(ms(0, Some(Duration::from_secs(3600))), 60_000);
    }
}
