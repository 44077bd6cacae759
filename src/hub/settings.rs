//! Where the hub and its cache are and who asks: the variables that Hugging Face's own tools read.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use hyper::Uri;
use hyper::header::HeaderValue;

use super::HubError;
use super::tries::Patience;

const HUB: &str = "https://huggingface.co";

/// How to speak to a hub, and where to keep what comes from it.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Its address, without a slash at the end.
    pub(super) endpoint: String,
    /// The folder of all repositories.
    pub(super) cache: PathBuf,
    pub(super) token: Option<Token>,
    /// Whether nothing is to be asked.
    pub(super) offline: bool,
    pub(super) patience: Patience,
}

/// A secret that says who asks.
#[derive(Clone)]
pub(super) struct Token {
    /// `Bearer …`, marked as sensitive.
    pub(super) header: HeaderValue,
    /// Where it was found, for messages.
    pub(super) from: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(of {})", self.from)
    }
}

impl HubSettings {
    /// What the process's environment says.
    ///
    /// # Errors
    /// A variable cannot be used.
    pub fn from_environment() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// What these variables say; an empty one counts as missing.
    ///
    /// # Errors
    /// A variable cannot be used.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_on = |name: &str| {
            let value = set(name).map(|value| value.to_string_lossy().to_uppercase());
            value.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&&*value))
        };
        let user = set("HOME").map(PathBuf::from);
        let place = |name: &str| {
            let path = PathBuf::from(set(name)?);
            Some(match (path.strip_prefix("~"), &user) {
                (Ok(rest), Some(user)) => user.join(rest),
                _ => path,
            })
        };
        let home = place("HF_HOME").or_else(|| {
            let caches = place("XDG_CACHE_HOME");
            let caches = caches.or_else(|| Some(user.as_ref()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        });
        let cache = place("HF_HUB_CACHE").or_else(|| place("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub")));
        let cache = cache.ok_or_else(|| HubError::Setting {
            name: "HF_HOME",
            problem: "neither it nor HOME says where fetched models are kept".to_owned(),
        })?;
        let token = match is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            true => None,
            false => {
                let file = place("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
                token(&set, file)?
            }
        };
        Ok(Self {
            endpoint: endpoint(set("HF_ENDPOINT"))?,
            cache,
            token,
            offline: match set("HF_HUB_OFFLINE") {
                Some(_) => is_on("HF_HUB_OFFLINE"),
                None => is_on("TRANSFORMERS_OFFLINE"),
            },
            patience: Patience::default(),
        })
    }

    /// The same with another patience.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }
}

fn endpoint(stated: Option<OsString>) -> Result<String, HubError> {
    let text = stated.map_or(HUB.to_owned(), |value| value.to_string_lossy().into_owned());
    let wrong = || HubError::Setting {
        name: "HF_ENDPOINT",
        problem: format!("`{text}` is no address as https://huggingface.co"),
    };
    let address = text.trim_end_matches('/');
    let uri: Uri = address.parse().map_err(|_| wrong())?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let names_user = uri.authority().is_some_and(|at| at.as_str().contains('@'));
    match is_web && uri.host().is_some() && !names_user && uri.query().is_none() {
        true => Ok(address.to_owned()),
        false => Err(wrong()),
    }
}

/// The token of a variable, or else of a file.
fn token(
    set: &impl Fn(&str) -> Option<OsString>,
    file: Option<PathBuf>,
) -> Result<Option<Token>, HubError> {
    let stated = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
        .into_iter()
        .find_map(|name| Some((name.to_owned(), set(name)?.to_string_lossy().into_owned())));
    let found = stated.or_else(|| {
        let file = file?;
        let text = std::fs::read_to_string(&file).ok()?;
        Some((file.display().to_string(), text))
    });
    let Some((from, text)) = found else {
        return Ok(None);
    };
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    // the value itself stands in no message
    let header = HeaderValue::from_str(&format!("Bearer {text}"));
    let mut header = header.map_err(|_| HubError::Setting {
        name: "HF_TOKEN",
        problem: format!("{from} holds characters that no token has"),
    })?;
    header.set_sensitive(true);
    Ok(Some(Token { header, from }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<HubSettings, HubError> {
        HubSettings::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_is_where_other_tools_have_it() {
        for (variables, cache) in [
            (&[("HOME", "/u")][..], "/u/.cache/huggingface/hub"),
            (
                &[("HOME", "/u"), ("XDG_CACHE_HOME", "/x")],
                "/x/huggingface/hub",
            ),
            (&[("HOME", "/u"), ("HF_HOME", "/h")], "/h/hub"),
            (&[("HOME", "/u"), ("HF_HOME", "~/h")], "/u/h/hub"),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], "/c"),
            (&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/c")], "/c"),
        ] {
            let found = settings(variables).expect("sound").cache;
            assert_eq!(found, PathBuf::from(cache), "{variables:?}");
        }
        let nowhere = settings(&[]).expect_err("no place").to_string();
        assert!(nowhere.contains("HF_HOME"), "{nowhere}");
    }

    #[test]
    fn a_token_comes_from_a_variable_or_a_file_and_is_never_shown() {
        let home = tempfile::tempdir().expect("a folder");
        let place = home.path().to_str().expect("utf-8");
        let of_file = || settings(&[("HF_HOME", place)]).expect("sound").token;
        assert!(of_file().is_none());
        std::fs::write(home.path().join("token"), "hf_file\n").expect("written");
        assert_eq!(of_file().expect("a token").header, "Bearer hf_file");
        let both = settings(&[("HF_HOME", place), ("HF_TOKEN", " hf_x ")]).expect("sound");
        let token = both.token.clone().expect("a token");
        assert_eq!(
            (token.header.to_str().ok(), &*token.from),
            (Some("Bearer hf_x"), "HF_TOKEN")
        );
        assert!(!format!("{both:?}").contains("hf_x"));
        let off = [("HF_HOME", place), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert!(settings(&off).expect("sound").token.is_none());
        let odd = settings(&[("HF_HOME", place), ("HF_TOKEN", "a\nb")]).expect_err("odd");
        assert!(odd.to_string().contains("HF_TOKEN"), "{odd}");
    }

    #[test]
    fn an_endpoint_is_an_address_of_the_web() {
        let of = |text: &str| settings(&[("HOME", "/u"), ("HF_ENDPOINT", text)]);
        assert_eq!(of("").expect("the hub").endpoint, HUB);
        let inside = of("http://mirror.local:8081/hf/").expect("sound").endpoint;
        assert_eq!(inside, "http://mirror.local:8081/hf");
        for wrong in [
            "mirror",
            "ftp://x",
            "https://",
            "https://me:secret@x",
            "https://x?a=b",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn offline_is_said_as_elsewhere() {
        for (value, offline) in [
            ("1", true),
            ("true", true),
            ("on", true),
            ("0", false),
            ("", false),
        ] {
            let found = settings(&[("HOME", "/u"), ("HF_HUB_OFFLINE", value)]).expect("sound");
            assert_eq!(found.offline, offline, "{value}");
        }
        let old = settings(&[("HOME", "/u"), ("TRANSFORMERS_OFFLINE", "yes")]).expect("sound");
        assert!(old.offline);
    }
}
