//! `steersman keys create|list|revoke`: who may use the server.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::service::{ApiKey, NewKey, Scope, WeightRange, create_key, list_keys, revoke_key};
use crate::store::{Store, StoreError, StoreSettings};

/// Make, list and revoke API keys.
///
/// While there is none, everybody who reaches the server may use it, and it listens on loopback
/// only. From the first on, requests need one: `authorization: Bearer KEY`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  steersman keys create --name alice --scope generate,profiles")]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
    /// Folder of the server's state [default: steersman-data]
    #[arg(long, env = "STEERSMAN_DATA_DIR", value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// PostgreSQL instead of SQLite in the data folder: postgres://USER:PASSWORD@HOST/DATABASE.
    /// The environment variable hides the password from other users of the machine
    #[arg(
        long,
        env = "STEERSMAN_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        global = true
    )]
    database_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key and print its secret, this once, on standard output
    Create(CreateArgs),
    /// List the keys, without their secrets
    List,
    /// Revoke a key for good; running servers follow within a second
    Revoke {
        /// Its id, as `list` tells it
        id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Who has the key
    #[arg(long, env = "STEERSMAN_KEYS_NAME", value_name = "NAME")]
    name: String,
    /// What it may be used for: generate, profiles, metrics, admin (everything); several with
    /// commas. Fewer limit what a leaked key can do
    #[arg(
        long,
        env = "STEERSMAN_KEYS_SCOPE",
        value_name = "SCOPE,...",
        value_delimiter = ',',
        default_value = "generate"
    )]
    scope: Vec<String>,
    /// Profile whose weights its requests get where they name none [default: the checkpoint's]
    #[arg(long, env = "STEERSMAN_KEYS_DEFAULT_PROFILE", value_name = "ID")]
    default_profile: Option<String>,
    /// Bounds of an objective's share, after normalisation to sum 1, as in harmlessness=0.2..1;
    /// requests outside get 403. May be repeated; several also with commas
    #[arg(
        long,
        env = "STEERSMAN_KEYS_WEIGHT_RANGE",
        value_name = "NAME=LEAST..MOST",
        value_delimiter = ','
    )]
    weight_range: Vec<String>,
    /// Requests a minute; more get 429 [default: unlimited]
    #[arg(
        long,
        env = "STEERSMAN_KEYS_REQUESTS_PER_MINUTE",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    requests_per_minute: Option<u32>,
    /// Tokens a minute, of prompts and answers together [default: unlimited]
    #[arg(
        long,
        env = "STEERSMAN_KEYS_TOKENS_PER_MINUTE",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    tokens_per_minute: Option<u32>,
    /// Days for which it is valid [default: for ever]
    #[arg(
        long,
        env = "STEERSMAN_KEYS_EXPIRES_IN_DAYS",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    expires_in_days: Option<u32>,
}

/// Why a command about keys failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    #[error("`--scope` must be some of generate, profiles, metrics and admin, got `{0}`")]
    Scope(String),
    #[error(
        "`--weight-range` must be NAME=LEAST..MOST with 0 <= LEAST <= MOST <= 1, as in \
         harmlessness=0.2..1, got `{0}`"
    )]
    Range(String),
    #[error("no key has the id `{0}`; `steersman keys list` tells them")]
    NoKey(String),
    #[error(
        "{} holds no server's state; name the server's own folder with --data-dir",
        .0.display()
    )]
    NoState(PathBuf),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the terminal cannot be written to")]
    Io(#[from] std::io::Error),
}

pub(super) fn run(args: KeysArgs) -> Result<(), KeysError> {
    let defaults = StoreSettings::default();
    let settings = StoreSettings {
        data_dir: args.data_dir.unwrap_or(defaults.data_dir),
        database_url: args.database_url,
    };
    // before anything is opened: a wrong flag makes no folder
    let action = args.command.checked()?;
    // only a new key is a reason to make a state where there is none
    if !matches!(action, Action::Create(_)) && !settings.is_there() {
        return Err(KeysError::NoState(settings.data_dir));
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let store = Store::open(&settings).await?;
            let done = action.run(&store).await;
            store.close().await;
            done
        })
}

/// A command whose flags are sound.
enum Action {
    Create(NewKey),
    List,
    Revoke(String),
}

impl KeysCommand {
    fn checked(self) -> Result<Action, KeysError> {
        Ok(match self {
            Self::Create(args) => Action::Create(args.checked()?),
            Self::List => Action::List,
            Self::Revoke { id } => Action::Revoke(id),
        })
    }
}

impl CreateArgs {
    fn checked(self) -> Result<NewKey, KeysError> {
        let mut scopes = Vec::new();
        for word in self.scope {
            let scope = Scope::parse(word.trim()).ok_or(KeysError::Scope(word))?;
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        let ranges = self.weight_range.into_iter();
        Ok(NewKey {
            name: self.name,
            scopes,
            default_profile: self.default_profile,
            weight_ranges: ranges
                .map(|text| read_range(&text).ok_or(KeysError::Range(text)))
                .collect::<Result<_, _>>()?,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            lifetime: self
                .expires_in_days
                .map(|days| Duration::from_secs(u64::from(days) * 24 * 60 * 60)),
        })
    }
}

fn read_range(text: &str) -> Option<WeightRange> {
    let (name, range) = text.split_once('=')?;
    let (least, most) = range.split_once("..")?;
    let least = least.trim().parse::<f32>().ok()?;
    let most = most.trim().parse::<f32>().ok()?;
    let sound = 0.0 <= least && least <= most && most <= 1.0 && !name.trim().is_empty();
    sound.then(|| WeightRange {
        objective: name.trim().to_owned(),
        least,
        most,
    })
}

impl Action {
    async fn run(self, store: &Store) -> Result<(), KeysError> {
        match self {
            Self::Create(new) => {
                let (secret, key) = create_key(store, new).await?;
                note(&format!(
                    "{} is made. Its secret follows; it is shown this once and kept nowhere.\n",
                    key.id
                ));
                super::print(&format!("{}\n", secret.reveal()))?;
            }
            Self::List => {
                let keys = list_keys(store).await?;
                if keys.is_empty() {
                    note("there are no keys: the server listens on loopback only, open to all\n");
                }
                for key in keys {
                    super::print(&line(&key))?;
                }
            }
            Self::Revoke(id) => {
                if !revoke_key(store, &id).await? {
                    return Err(KeysError::NoKey(id));
                }
                note(&format!("{id} is revoked\n"));
            }
        }
        Ok(())
    }
}

/// One key, tab-separated words that say what they are.
fn line(key: &ApiKey) -> String {
    let mut words = vec![key.id.clone(), format!("name={}", key.name)];
    let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    words.push(format!("scopes={}", scopes.join(",")));
    words.extend(
        key.default_profile
            .iter()
            .map(|id| format!("default-profile={id}")),
    );
    for range in &key.weight_ranges {
        let WeightRange {
            objective,
            least,
            most,
        } = range;
        words.push(format!("{objective}={least}..{most}"));
    }
    let numbers = [
        (
            "requests-per-minute",
            key.requests_per_minute.map(i64::from),
        ),
        ("tokens-per-minute", key.tokens_per_minute.map(i64::from)),
        ("created", Some(key.created_at)),
        ("expires", key.expires_at),
        ("revoked", key.revoked_at),
    ];
    for (word, number) in numbers {
        words.extend(number.map(|number| format!("{word}={number}")));
    }
    format!("{}\n", words.join("\t"))
}

/// Beside the output proper, so that `KEY=$(steersman keys create …)` holds the secret alone.
#[expect(clippy::print_stderr, reason = "said to a person")]
fn note(text: &str) {
    eprint!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_shares() {
        let range = read_range("harmlessness=0.2..1").expect("sound");
        assert_eq!((range.least, range.most), (0.2, 1.0));
        assert_eq!(range.objective, "harmlessness");
        for text in [
            "harmlessness",
            "harmlessness=0.2",
            "=0..1",
            "a=0.5..0.2",
            "a=-1..1",
            "a=0..2",
            "a=NaN..1",
            "a=..",
        ] {
            assert!(read_range(text).is_none(), "{text}");
        }
    }
}
