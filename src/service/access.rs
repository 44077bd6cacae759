//! Who asks: what a key may do, which weights it may ask for, how much it may use.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::RequestError;
use super::limits::{KeyLimits, Standing};
use crate::steering::{ObjectiveSet, WeightVector};
use crate::store::StoreError;

/// What a key may be used for. Routes state which one they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Answers, sweeps, tokens.
    Generate,
    /// Profiles and their comparisons, to read and to write.
    Profiles,
    /// `GET /metrics`.
    Metrics,
    /// Everything, the admin routes too.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Generate, Self::Profiles, Self::Metrics, Self::Admin];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Profiles => "profiles",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }

    /// The scope of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Bounds that a key sets to one objective's weight, after normalisation to sum 1.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightRange {
    /// The objective; a policy that does not have it is not bound by it.
    pub objective: String,
    /// Least share.
    pub least: f32,
    /// Greatest share.
    pub most: f32,
}

/// What one caller may do. Made for each request from its key; by default nothing that has a
/// scope.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The key's id; `None` where the server has no keys.
    pub key_id: Option<Arc<str>>,
    /// One number a key, for fairness between callers and to keep their cached prefixes apart; 0
    /// where the server has no keys.
    pub caller: u64,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// The profile of requests that name no weights.
    pub default_profile: Option<String>,
    /// Bounds of the weights it may ask for.
    pub weight_ranges: Arc<[WeightRange]>,
    /// What it may use; `None` is unlimited.
    pub(super) limits: Option<Arc<KeyLimits>>,
}

/// How far over a bound rounding may carry a weight.
const ROUNDING: f32 = 1e-6;

impl Access {
    /// Everything, for everybody: a server without keys, and the command line.
    pub fn open() -> Self {
        Self {
            key_id: None,
            caller: 0,
            scopes: vec![Scope::Admin],
            default_profile: None,
            weight_ranges: Arc::default(),
            limits: None,
        }
    }

    /// Whether it may be used for this.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Holds weights against the key's bounds.
    ///
    /// # Errors
    /// The first objective that is out of bounds.
    pub(super) fn check_weights(
        &self,
        objectives: &ObjectiveSet,
        weights: &WeightVector,
    ) -> Result<(), RequestError> {
        for range in self.weight_ranges.iter() {
            let Some(index) = objectives.index(&range.objective) else {
                continue;
            };
            let weight = weights.as_slice()[index];
            if weight < range.least - ROUNDING || weight > range.most + ROUNDING {
                return Err(RequestError::WeightForbidden {
                    objective: range.objective.clone(),
                    weight,
                    least: range.least,
                    most: range.most,
                });
            }
        }
        Ok(())
    }

    /// Counts one request.
    ///
    /// # Errors
    /// The key's requests or tokens are used up for now.
    pub fn admit(&self) -> Result<(), AccessError> {
        match &self.limits {
            Some(limits) => limits.admit(Instant::now()),
            None => Ok(()),
        }
    }

    /// Counts tokens, of prompts when they are taken on and of answers as they come. They may
    /// exceed the limit: what runs is not cut, but nothing new begins until they are made up for.
    pub fn charge_tokens(&self, count: usize) {
        if let Some(limits) = &self.limits {
            limits.charge_tokens(count, Instant::now());
        }
    }

    /// How the key stands with its limits, one entry a limit.
    pub fn standings(&self) -> Vec<Standing> {
        self.limits
            .as_ref()
            .map_or_else(Vec::new, |limits| limits.standings(Instant::now()))
    }
}

/// Why a caller is turned away before its request is read.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No key was sent.
    #[error("this server needs an API key; send it in the header `authorization: Bearer KEY`")]
    Missing,
    /// The header is of another form.
    #[error("the header `authorization` must be sent once, in the form `Bearer KEY`")]
    Malformed,
    /// No such key.
    #[error("the API key is not known to this server")]
    Unknown,
    /// The key was revoked.
    #[error("the API key was revoked")]
    Revoked,
    /// The key's time is over.
    #[error("the API key has expired")]
    Expired,
    /// The key is for other things.
    #[error("this route needs a key with the scope `{needed}`; this key has {has}")]
    ScopeRequired {
        /// The scope that the route asks for.
        needed: Scope,
        /// The key's scopes, for the message.
        has: String,
    },
    /// The key's requests or tokens are used up for now.
    #[error("this key may use {per_minute} {what} a minute, which are used up; try again later")]
    Limited {
        /// `requests` or `tokens`.
        what: &'static str,
        /// How many.
        per_minute: u32,
        /// When to come again.
        wait: Duration,
    },
    /// The store cannot be asked.
    #[error("keys cannot be checked now")]
    Store(#[source] StoreError),
}

/// A server that would serve everybody who reaches it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not a loopback address and no API key is configured, so everybody who reaches it \
     could use the model; make a key with `steersman keys create --name NAME`, or listen on \
     127.0.0.1"
)]
pub struct OpenToAll(pub SocketAddr);

/// Whether a server may listen on an address: with keys on any, without them on loopback only.
///
/// # Errors
/// The sentence to refuse with.
pub fn may_listen(addr: SocketAddr, has_keys: bool) -> Result<(), OpenToAll> {
    match has_keys || addr.ip().to_canonical().is_loopback() {
        true => Ok(()),
        false => Err(OpenToAll(addr)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::Objective;

    #[test]
    fn only_loopback_may_be_open_to_all() {
        let check = |addr: &str, has_keys: bool, allowed: bool| {
            let addr = addr.parse().expect("an address");
            assert_eq!(may_listen(addr, has_keys).is_ok(), allowed, "{addr}");
        };
        check("127.0.0.1:80", false, true);
        check("[::1]:80", false, true);
        check("[::ffff:127.0.0.1]:80", false, true);
        for addr in ["0.0.0.0:80", "192.168.0.1:80", "[::]:80", "8.8.8.8:80"] {
            check(addr, false, false);
            check(addr, true, true);
        }
    }

    #[test]
    fn a_keys_bounds_hold_for_the_objectives_a_policy_has() {
        let objective = |name: &str| Objective {
            name: name.into(),
            description: String::new(),
            default_weight: 1.0,
            min_weight: 0.0,
            max_weight: None,
        };
        let set = ObjectiveSet::new(vec![objective("help"), objective("harm")]).expect("sound");
        let range = |objective: &str, least, most| WeightRange {
            objective: objective.into(),
            least,
            most,
        };
        let access = Access {
            weight_ranges: vec![range("harm", 0.2, 0.5), range("elsewhere", 0.9, 1.0)].into(),
            ..Access::open()
        };
        let check = |harm: f64, allowed: bool| {
            let weights = set.from_ordered(&[1.0 - harm, harm]).expect("weights");
            let found = access.check_weights(&set, &weights);
            assert_eq!(found.is_ok(), allowed, "{harm}: {found:?}");
        };
        check(0.2, true);
        check(0.5, true);
        check(0.19, false);
        check(0.51, false);
    }

    #[test]
    fn an_admin_key_does_everything_and_others_what_they_name() {
        let with = |scopes: &[Scope]| Access {
            scopes: scopes.to_vec(),
            ..Access::open()
        };
        for scope in Scope::ALL {
            assert!(with(&[Scope::Admin]).allows(scope));
            assert!(!with(&[]).allows(scope));
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert!(with(&[Scope::Generate]).allows(Scope::Generate));
        assert!(!with(&[Scope::Generate]).allows(Scope::Admin));
    }
}
