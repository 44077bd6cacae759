//! API keys: made once and shown once, kept as digests, looked up on each request.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::TryRngCore;
use rand::rngs::OsRng;
use subtle::ConstantTimeEq;

use super::access::{Access, AccessError, Scope, WeightRange};
use super::limits::KeyLimits;
use crate::store::{KeyRow, Store, StoreError};

/// What every secret begins with, so that scanners of leaked secrets can find it.
const PREFIX: &str = "sk-steer-";
const SECRET_BYTES: usize = 32;
/// How long a key may go on working after it was revoked elsewhere.
const FRESH: Duration = Duration::from_secs(1);

/// The secret of a key, in the only moment in which it is known.
pub struct ApiSecret(String);

impl ApiSecret {
    /// The secret's text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiSecret(…)")
    }
}

/// What a new key shall be.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// Who has it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// The profile of requests that name no weights.
    pub default_profile: Option<String>,
    /// Bounds of the weights it may ask for.
    pub weight_ranges: Vec<WeightRange>,
    /// `None` is unlimited.
    pub requests_per_minute: Option<u32>,
    /// `None` is unlimited.
    pub tokens_per_minute: Option<u32>,
    /// How long it is valid; `None` is for ever.
    pub lifetime: Option<Duration>,
}

/// A key as its administrator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// Names the key without telling its secret.
    pub id: String,
    /// Who has it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// The profile of requests that name no weights.
    pub default_profile: Option<String>,
    /// Bounds of the weights it may ask for.
    pub weight_ranges: Vec<WeightRange>,
    /// `None` is unlimited.
    pub requests_per_minute: Option<u32>,
    /// `None` is unlimited.
    pub tokens_per_minute: Option<u32>,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970.
    pub expires_at: Option<i64>,
    /// Seconds since 1970.
    pub revoked_at: Option<i64>,
}

/// Makes a key. Its secret is returned once and stored nowhere.
///
/// # Errors
/// The store fails.
pub async fn create_key(store: &Store, new: NewKey) -> Result<(ApiSecret, ApiKey), StoreError> {
    let mut bytes = [0; SECRET_BYTES];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| StoreError::Row(format!("no random numbers to make a key of: {error}")))?;
    let secret = ApiSecret(format!("{PREFIX}{}", hex(&bytes)));
    let digest = blake3::hash(secret.0.as_bytes());
    let created_at = now();
    let lifetime = new
        .lifetime
        .map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let ranges: Vec<_> = new
        .weight_ranges
        .iter()
        .map(|range| (&range.objective, range.least, range.most))
        .collect();
    let scopes: Vec<_> = new.scopes.iter().map(|scope| scope.as_str()).collect();
    let row = KeyRow {
        id: format!("key_{}", uuid::Uuid::now_v7().simple()),
        digest: digest.as_bytes().to_vec(),
        name: new.name,
        scopes: scopes.join(" "),
        default_profile: new.default_profile,
        weight_ranges: serde_json::json!(ranges).to_string(),
        requests_per_minute: new.requests_per_minute.map(i64::from),
        tokens_per_minute: new.tokens_per_minute.map(i64::from),
        created_at,
        expires_at: lifetime.map(|time| created_at.saturating_add(time)),
        revoked_at: None,
    };
    store.add_key(&row).await?;
    Ok((secret, ApiKey::of(&row)?))
}

/// Every key there ever was, oldest first.
///
/// # Errors
/// The store fails.
pub async fn list_keys(store: &Store) -> Result<Vec<ApiKey>, StoreError> {
    store.keys().await?.iter().map(ApiKey::of).collect()
}

/// Revokes a key for good; false where no key has this id. Running servers follow within a second.
///
/// # Errors
/// The store fails.
pub async fn revoke_key(store: &Store, id: &str) -> Result<bool, StoreError> {
    store.revoke_key(id, now()).await
}

impl ApiKey {
    fn of(row: &KeyRow) -> Result<Self, StoreError> {
        let wrong = |what: &str| StoreError::Row(format!("{what} of the key {}", row.id));
        let scopes = row
            .scopes
            .split_whitespace()
            .map(|word| Scope::parse(word).ok_or_else(|| wrong("a scope")))
            .collect::<Result<_, _>>()?;
        let ranges: Vec<(String, f32, f32)> =
            serde_json::from_str(&row.weight_ranges).map_err(|_| wrong("the weight ranges"))?;
        let limit = |stored: Option<i64>| stored.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        Ok(Self {
            id: row.id.clone(),
            name: row.name.clone(),
            scopes,
            default_profile: row.default_profile.clone(),
            weight_ranges: ranges
                .into_iter()
                .map(|(objective, least, most)| WeightRange {
                    objective,
                    least,
                    most,
                })
                .collect(),
            requests_per_minute: limit(row.requests_per_minute),
            tokens_per_minute: limit(row.tokens_per_minute),
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
    }

    fn valid(&self) -> Result<(), AccessError> {
        if self.revoked_at.is_some() {
            return Err(AccessError::Revoked);
        }
        match self.expires_at.is_some_and(|at| at <= now()) {
            true => Err(AccessError::Expired),
            false => Ok(()),
        }
    }
}

/// A key that was seen lately.
#[derive(Clone)]
struct Known {
    key: Arc<ApiKey>,
    access: Access,
    seen: Instant,
}

/// Tells callers by their secrets. Remembers keys for a second, and for as long as the store does
/// not answer, so that its failure stops no caller that was already known.
#[derive(Default)]
pub(super) struct KeyRing {
    /// By digest; secrets are never kept.
    known: Mutex<HashMap<[u8; 32], Known>>,
    /// Set once a key was seen in the store; never unset.
    closed: AtomicBool,
}

impl KeyRing {
    /// What the caller with this secret may do.
    pub(super) async fn authenticate(
        &self,
        store: &Store,
        secret: Option<&str>,
    ) -> Result<Access, AccessError> {
        if !self.has_keys(store).await? {
            return Ok(Access::open());
        }
        let secret = secret.ok_or(AccessError::Missing)?;
        // saves the store from what cannot be a key
        if !secret.starts_with(PREFIX) || secret.len() != PREFIX.len() + 2 * SECRET_BYTES {
            return Err(AccessError::Unknown);
        }
        let digest = *blake3::hash(secret.as_bytes()).as_bytes();
        let remembered = self.remembered(&digest);
        let known = match remembered {
            Some(known) if known.seen.elapsed() < FRESH => known,
            stale => self.ask(store, digest, stale).await?,
        };
        known.key.valid()?;
        Ok(known.access)
    }

    async fn has_keys(&self, store: &Store) -> Result<bool, AccessError> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(true);
        }
        let has = store.has_keys().await.map_err(AccessError::Store)?;
        if has {
            self.closed.store(true, Ordering::Release);
        }
        Ok(has)
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).cloned()
    }

    async fn ask(
        &self,
        store: &Store,
        digest: [u8; 32],
        stale: Option<Known>,
    ) -> Result<Known, AccessError> {
        let found = match (store.key_of(&digest).await, &stale) {
            (Ok(found), _) => found,
            (Err(error), Some(known)) => {
                tracing::warn!("a known key is let in unchecked: {error}");
                return Ok(known.clone());
            }
            (Err(error), None) => return Err(AccessError::Store(error)),
        };
        // the index found it by its bytes; what decides is a comparison that takes the same time
        // wherever the digests differ
        let row = found
            .filter(|row| bool::from(row.digest.ct_eq(&digest)))
            .ok_or(AccessError::Unknown)?;
        let key = Arc::new(ApiKey::of(&row).map_err(AccessError::Store)?);
        let mut known = Known {
            access: access_of(&key, &digest, stale.as_ref()),
            key,
            seen: Instant::now(),
        };
        let mut ring = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // two requests may have asked at once: the allowances of the first count on
        if let Some(other) = ring.get(&digest) {
            known.access.limits = other.access.limits.clone();
        }
        ring.insert(digest, known.clone());
        Ok(known)
    }
}

fn access_of(key: &ApiKey, digest: &[u8; 32], before: Option<&Known>) -> Access {
    let limits = match before {
        Some(known) => known.access.limits.clone(),
        None => (key.requests_per_minute.is_some() || key.tokens_per_minute.is_some()).then(|| {
            let (requests, tokens) = (key.requests_per_minute, key.tokens_per_minute);
            Arc::new(KeyLimits::new(requests, tokens, Instant::now()))
        }),
    };
    let mut caller = [0; 8];
    caller.copy_from_slice(&digest[..8]);
    Access {
        key_id: Some(key.id.as_str().into()),
        // 0 stands for nobody
        caller: u64::from_le_bytes(caller).max(1),
        scopes: key.scopes.clone(),
        default_profile: key.default_profile.clone(),
        weight_ranges: key.weight_ranges.clone().into(),
        limits,
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
