//! A checkpoint's chat template: Jinja, compiled once, bounded in work.

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind};
use regex::Regex;
use serde_json::json;

use super::TextError;
use super::tokenizer::{Tokenizer, read_json};
use crate::types::Message;

/// Turns a conversation into the markup that the model was trained on.
pub struct ChatTemplate {
    environment: Environment<'static>,
    named: serde_json::Map<String, serde_json::Value>,
}

/// Instructions a rendering may take; real templates use some hundreds a message.
const FUEL: u64 = 2_000_000;
const NAME: &str = "chat";

impl ChatTemplate {
    /// The template in `chat_template.jinja` or `tokenizer_config.json`; `None` without one.
    pub fn load(dir: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, TextError> {
        let own_file = dir.join("chat_template.jinja");
        match std::fs::read_to_string(&own_file) {
            Ok(source) => return Self::compile(&source, &own_file, tokenizer).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(TextError::Io {
                    path: own_file,
                    source,
                });
            }
        }
        let config = dir.join("tokenizer_config.json");
        let template = read_json(&config)?.and_then(|json| json.get("chat_template").cloned());
        let source = match &template {
            Some(serde_json::Value::String(source)) => Some(source.clone()),
            Some(serde_json::Value::Array(list)) => list
                .iter()
                .find(|entry| entry["name"] == "default")
                .and_then(|entry| entry["template"].as_str().map(str::to_owned)),
            _ => None,
        };
        source
            .map(|source| Self::compile(&source, &config, tokenizer))
            .transpose()
    }

    /// Compiles a template; `path` is the file that holds it.
    pub(super) fn compile(
        source: &str,
        path: &Path,
        tokenizer: &Tokenizer,
    ) -> Result<Self, TextError> {
        let mut environment = Environment::new();
        environment.set_syntax(transformers_syntax());
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, Error> {
                Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("{REFUSAL}{message}"),
                ))
            },
        );
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, generation_blocks_as_ifs(source))
            .map_err(|error| TextError::TemplateSyntax {
                path: path.to_owned(),
                line: error.line().unwrap_or(1),
                detail: error.detail().unwrap_or("syntax error").to_owned(),
            })?;
        let named = tokenizer.named().iter();
        let named = named
            .map(|(name, text)| (name.clone(), json!(text)))
            .collect();
        Ok(Self { environment, named })
    }

    /// The conversation as markup, with the marker that asks for an answer where wanted.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let mut context = self.named.clone();
        context.insert("messages".into(), json!(messages));
        context.insert("add_generation_prompt".into(), json!(add_generation_prompt));
        let failed = |error: Error| {
            let detail = error.detail().unwrap_or_default();
            match detail.strip_prefix(REFUSAL) {
                Some(refusal) => TextError::TemplateRefused(refusal.to_owned()),
                None => TextError::TemplateFailed(error.to_string()),
            }
        };
        let template = self.environment.get_template(NAME).map_err(failed)?;
        template.render(Value::from(Serde(context))).map_err(failed)
    }
}

/// Block tags take the line break behind them and the blanks before them, as in transformers.
fn transformers_syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .unwrap_or_default()
}

/// Marks an error as the template's own refusal.
const REFUSAL: &str = "\u{1}refused: ";

/// `{% generation %}` only marks spans for training elsewhere; `if true` keeps its white space.
fn generation_blocks_as_ifs(source: &str) -> String {
    let replace = |source: &str, pattern: &str, with: &str| match Regex::new(pattern) {
        Ok(pattern) => pattern.replace_all(source, with).into_owned(),
        Err(_) => source.to_owned(),
    };
    let opened = replace(
        source,
        r"\{%(-?)\s*generation\s*(-?)%\}",
        "{%$1 if true $2%}",
    );
    replace(
        &opened,
        r"\{%(-?)\s*endgeneration\s*(-?)%\}",
        "{%$1 endif $2%}",
    )
}

/// JSON in Python's spelling: a space after commas and colons unless an indent is asked for.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let failed = |error: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "cannot be written as JSON").with_source(error)
    };
    let json = serde_json::to_value(&value).map_err(failed)?;
    let indent: Option<usize> = options.get("indent")?;
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            let pad = " ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(pad.as_bytes());
            let mut writer = serde_json::Serializer::with_formatter(&mut out, formatter);
            serde::Serialize::serialize(&json, &mut writer).map_err(failed)?;
        }
        None => {
            let mut writer = serde_json::Serializer::with_formatter(&mut out, PythonStyle);
            serde::Serialize::serialize(&json, &mut writer).map_err(failed)?;
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

struct PythonStyle;

impl serde_json::ser::Formatter for PythonStyle {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Today's date (UTC) by a strftime pattern, as Llama 3's template asks for it.
fn strftime_now(pattern: String) -> Result<String, Error> {
    let now = time::OffsetDateTime::now_utc();
    let month = now.month().to_string();
    let known = [
        ("%Y", format!("{:04}", now.year())),
        ("%m", format!("{:02}", now.month() as u8)),
        ("%d", format!("{:02}", now.day())),
        ("%B", month.clone()),
        ("%b", month.chars().take(3).collect()),
        ("%H", format!("{:02}", now.hour())),
        ("%M", format!("{:02}", now.minute())),
        ("%S", format!("{:02}", now.second())),
    ];
    let text = known
        .iter()
        .fold(pattern, |text, (code, value)| text.replace(code, value));
    if text.contains('%') {
        let message = format!("strftime_now knows %Y %m %d %B %b %H %M %S, got `{text}`");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(text)
}
