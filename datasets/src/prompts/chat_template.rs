//! Chat templates: the Jinja source of a tokenizer, rendered as the transformers library does.
//!
//! The library's additions to Jinja are supported: trimmed blocks, loop controls, Python's string methods,
//! `raise_exception`, `strftime_now`, `tojson` without HTML escapes, and `{% generation %}` marks. A downloaded
//! template is not trusted: it sees only its variables, and a fuel limit ends endless loops.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use demask_api::{bounded_file, bounded_json, limits};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

pub use crate::example::Turn;
use crate::prompts::template_worker::{self, TemplateJob};
use crate::prompts::{bounded, foreign};

/// LLaDA's template (`mmada.md` 2.2): two line feeds after a header, and always the assistant's header at the end.
pub const LLADA: &str = concat!(
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>{{ '\\n\\n' }}",
    "{{ message.content | trim }}<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>{{ '\\n\\n' }}"
);
/// MMaDA's template: like LLaDA's, with one line feed.
pub const MMADA: &str = concat!(
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>{{ '\\n' }}",
    "{{ message.content | trim }}<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>{{ '\\n' }}"
);

/// The file beside a tokenizer with its template; it takes precedence over `tokenizer_config.json`.
pub const JINJA_FILE: &str = "chat_template.jinja";
/// The tokenizer's settings, which may include a template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The most steps of a template: about a thousand times what the longest known ones need.
const FUEL: u64 = 20_000_000;
/// The most bytes that a template may write for one conversation.
const LONGEST_TEXT: usize = 64 << 20;

/// Why a template could not be read or rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file that cannot be read or has the wrong content.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// Invalid Jinja, a failed evaluation, or the template's own refusal (`raise_exception`).
    #[error("chat template: {0}")]
    Jinja(String),
}

impl From<Error> for TemplateError {
    fn from(error: Error) -> Self {
        let line = error
            .line()
            .map_or_else(String::new, |line| format!(" (line {line})"));
        let detail = error
            .detail()
            .map_or_else(|| error.kind().to_string(), str::to_owned);
        Self::Jinja(format!("{detail}{line}"))
    }
}

impl From<&Turn> for Value {
    fn from(turn: &Turn) -> Self {
        Self::from_pairs([("role", turn.role.as_str()), ("content", turn.content.as_str())])
    }
}

/// The chat settings of a tokenizer folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerSettings {
    /// The template's source, if there is one.
    pub template: Option<String>,
    /// Special tokens by their names in templates (`bos_token`, `eos_token`…).
    pub names: BTreeMap<String, String>,
}

impl TokenizerSettings {
    /// Reads `tokenizer_config.json` and `chat_template.jinja`; either may be missing. From a list of named templates,
    /// the one named `default` is taken.
    ///
    /// # Errors
    /// An error if a file cannot be read or is not JSON, if a list of templates has no `default`, or if a template
    /// exceeds the limits (law L9).
    pub fn read(dir: &Path) -> Result<Self, TemplateError> {
        let path = dir.join(TOKENIZER_CONFIG);
        let settings: serde_json::Value = match read(&path)? {
            Some(text) => {
                let settings = bounded_json::parse(&text, limits::MOST_CONFIG_VALUES);
                settings.map_err(|error| broken(&path, &error))?
            }
            None => serde_json::Value::Null,
        };
        let template = match read(&dir.join(JINJA_FILE))? {
            Some(source) => Some(source),
            None => template(&settings["chat_template"]).map_err(|message| broken(&path, &message))?,
        };
        if let Some(source) = &template {
            foreign::template(source).map_err(TemplateError::Jinja)?;
        }
        let named = settings.as_object().into_iter().flatten();
        let names = named.filter_map(|(key, value)| {
            let text = value.as_str().or_else(|| value["content"].as_str())?;
            key.ends_with("_token").then(|| (key.clone(), text.to_owned()))
        });
        Ok(Self {
            template,
            names: names.collect(),
        })
    }
}

/// Returns a template's source: a text, or the default of a list of named templates.
fn template(value: &serde_json::Value) -> Result<Option<String>, String> {
    match value {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(source) => Ok(Some(source.clone())),
        serde_json::Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            let source = default.and_then(|entry| entry["template"].as_str());
            let names = || named.iter().filter_map(|entry| entry["name"].as_str());
            source.map(|source| Some(source.to_owned())).ok_or_else(|| {
                let found: Vec<&str> = names().collect();
                format!(
                    "chat_template: expected one named default, found {}",
                    found.join(", ")
                )
            })
        }
        other => Err(format!(
            "chat_template: expected a text or a list of named ones, found {other}"
        )),
    }
}

fn read(path: &Path) -> Result<Option<String>, TemplateError> {
    match bounded_file::read_text(path, limits::LONGEST_CONFIG) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(broken(path, &error)),
    }
}

fn broken(path: &Path, message: &dyn std::fmt::Display) -> TemplateError {
    TemplateError::File {
        path: path.display().to_string(),
        message: message.to_string(),
    }
}

/// Renders a conversation with the assistant's header at the end (`add_generation_prompt`). `names` are the template's
/// variables for special tokens.
///
/// The limits of a downloaded template are checked where it is read ([`TokenizerSettings::read`], `PromptStyle`). A
/// template whose output could grow is rendered in a separate process
/// ([`template_worker`](crate::prompts::template_worker)).
///
/// # Errors
/// An error if the template is not valid Jinja, refuses these turns or exceeds its limits.
pub fn render(
    source: &str,
    turns: &[Turn],
    names: &BTreeMap<String, String>,
) -> Result<String, TemplateError> {
    let job = foreign::may_grow(source).then(|| TemplateJob::Chat {
        source: source.to_owned(),
        turns: turns.to_vec(),
        names: names.clone(),
    });
    match job.and_then(|job| template_worker::rendered(&job)) {
        Some(rendered) => rendered.map_err(TemplateError::Jinja),
        None => render_here(source, turns, names),
    }
}

/// Renders a conversation in this process, without a limit of memory.
///
/// # Errors
/// Those of [`render`].
pub fn render_here(
    source: &str,
    turns: &[Turn],
    names: &BTreeMap<String, String>,
) -> Result<String, TemplateError> {
    let mut environment = environment()?;
    let source = without_generation_marks(source);
    environment.add_template("chat", &source)?;
    let given = context! {
        messages => turns.iter().map(Value::from).collect::<Value>(),
        add_generation_prompt => true, tools => (), documents => (),
        ..Value::from_pairs(names.iter().map(|(name, text)| (name.as_str(), text.as_str())))
    };
    let text = bounded::render(&environment.get_template("chat")?, given, LONGEST_TEXT)?;
    Ok(text)
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", now);
    environment.add_filter("tojson", to_json);
    Ok(environment)
}

/// Formats the local time by a C format string.
fn now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    write!(text, "{}", chrono::Local::now().format(format)).map_err(|_| {
        let message = format!("strftime_now: {format:?} is not a time format");
        Error::new(ErrorKind::InvalidOperation, message)
    })?;
    Ok(text)
}

/// Serialises a value like Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    arguments.get::<Option<bool>>("ensure_ascii")?;
    arguments.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, PythonsSpaces)),
        Some(width) => {
            let blanks = " ".repeat(width);
            let formatter = PrettyFormatter::with_indent(blanks.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
    };
    let failed = |error: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidOperation, error.to_string());
    written.map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

/// A JSON formatter with a space after each comma and colon.
struct PythonsSpaces;

impl Formatter for PythonsSpaces {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Removes the `{% generation %}` tags, which mark the assistant's words for training masks; their contents stay.
fn without_generation_marks(source: &str) -> String {
    let mut kept = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let (tag, after) = (&rest[start..start + length + 2], &rest[start + length + 2..]);
        kept.push_str(&rest[..start]);
        let word = tag.trim_start_matches("{%").trim_end_matches("%}");
        match word.trim_matches(['-', '+']).trim() {
            "generation" => kept.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => kept.push_str(&tag.replace("endgeneration", "endif")),
            _ => kept.push_str(tag),
        }
        rest = after;
    }
    kept.push_str(rest);
    kept
}
