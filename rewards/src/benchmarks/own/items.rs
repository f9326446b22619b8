//! The items of a user-defined benchmark: the prompt and right answer made of a row's columns.

use demask_api::limits;
use demask_datasets::example::{Check, Example, Kind};
use demask_datasets::formats::Rows;
use demask_datasets::formats::row::{KeptColumns, Origin};
use demask_datasets::prompts::row_template::RowTemplate;
use serde_json::{Map, Value};

use super::choices::{Choices, letter};
use super::config::{OwnBenchmark, OwnKind};
use super::scoring::OwnScorer;
use crate::benchmarks::Item;

/// The side of pictures in pixels by default.
const PIXELS: usize = 32;
/// The columns that serve as the prompt without a template.
const PROMPTS: [&str; 4] = ["prompt", "question", "instruction", "caption"];
/// The columns that serve as the right answer without a template.
const REFERENCES: [&str; 4] = ["reference", "answer", "target", "label"];

/// Makes items of rows.
struct ItemMaker<'a> {
    own: &'a OwnBenchmark,
    scorer: &'a OwnScorer,
    prompt: Option<RowTemplate>,
    reference: Option<RowTemplate>,
}

/// Opens the rows of the benchmark's file with all their columns.
fn rows(own: &OwnBenchmark) -> Result<Rows, String> {
    let reader = own.reader()?;
    let origin = Origin {
        source: own.name.clone(),
        licence: own.licence.clone(),
        split: own.split,
        pixels: own.pixels.unwrap_or(PIXELS),
        // Renamed columns also keep their own names, which templates may use.
        columns: own
            .columns
            .iter()
            .filter(|(known, _)| *known == "image")
            .map(owned)
            .collect(),
        keep: KeptColumns::Whole,
    };
    reader.open(&own.file, origin).map_err(|error| error.to_string())
}

/// Whether the first row of the file has a picture.
pub(super) fn shows_a_picture(own: &OwnBenchmark) -> Result<bool, String> {
    let first = rows(own)?.next().transpose().map_err(|bad| bad.to_string())?;
    Ok(first.is_some_and(|examples| examples.iter().any(|example| example.picture.is_some())))
}

/// Reads every item in the file's order, up to the limit.
///
/// # Errors
/// A message with file, line and column if the file cannot be read or a row yields no item, or with the limit if it has
/// more rows than a suite may have items (law L9). Bad rows are not skipped, because that could improve the result.
pub(super) fn read(own: &OwnBenchmark, scorer: &OwnScorer) -> Result<Vec<Item>, String> {
    let template = |source: &Option<String>| source.as_deref().map(RowTemplate::new).transpose();
    let maker = ItemMaker {
        own,
        scorer,
        prompt: template(&own.prompt)?,
        reference: template(&own.reference)?,
    };
    let rows = rows(own)?;
    let most = own.limit.unwrap_or(usize::MAX);
    let mut items = Vec::new();
    for row in rows {
        if items.len() >= most {
            break;
        }
        // From a picture without columns, readers make several examples of one row; the first stands for it.
        let examples = row.map_err(|bad| bad.to_string())?;
        let Some(row) = examples.into_iter().next() else {
            continue;
        };
        let place = row.place.clone();
        if items.len() as u64 >= limits::ITEMS.most {
            return Err(format!(
                "{place}: a benchmark has at most {} items; `limit` takes the first ones",
                limits::ITEMS.most
            ));
        }
        let item = maker.item(row).map_err(|why| format!("{place}: {why}"))?;
        items.push(item);
    }
    match items.is_empty() {
        true => Err(format!("{} has no rows", own.file.display())),
        false => Ok(items),
    }
}

impl ItemMaker<'_> {
    fn item(&self, row: Example) -> Result<Item, String> {
        let columns = self.columns(&row)?;
        let prompt = match &self.prompt {
            Some(template) => template
                .render(&columns)
                .map_err(|why| format!("prompt: {why}"))?,
            None => plain_prompt(&columns)?,
        };
        let prompt = prompt.trim().to_owned();
        if prompt.is_empty() {
            return Err("prompt: it is empty".to_owned());
        }
        let reference = self.reference(&columns)?;
        if reference.is_empty() && self.scorer.needs_reference(&columns) {
            return Err(format!(
                "reference: the scorer {} needs a right answer, in a column {} or by a template; found {}",
                self.own.scorer,
                REFERENCES.join(", "),
                names(&columns)
            ));
        }
        self.scorer
            .try_row(&reference, &columns)
            .map_err(|why| format!("reference: the scorer {}: {why}", self.own.scorer))?;
        if self.own.kind == OwnKind::Question && row.picture.is_none() {
            return Err(format!(
                "image: a question needs a picture in the column image; found {}",
                names(&columns)
            ));
        }
        Ok(self.made(row, columns, prompt, reference).into())
    }

    /// Returns the right answer, for choices its letter; empty if there is none.
    fn reference(&self, columns: &Map<String, Value>) -> Result<String, String> {
        let given = match &self.reference {
            Some(template) => template
                .render(columns)
                .map_err(|why| format!("reference: {why}"))?
                .trim()
                .into(),
            None => first(columns, &REFERENCES)?.map_or(Value::Null, |name| columns[name].clone()),
        };
        let text = if given.is_null() {
            String::new()
        } else {
            word(&given)
        };
        if !matches!(self.scorer, OwnScorer::Choice) || text.is_empty() {
            return Ok(text);
        }
        let choices = Choices::of(columns)?;
        if choices.texts.is_empty() {
            return Err(format!(
                "choices: the scorer choice needs a list in the column choices; found {}",
                names(columns)
            ));
        }
        choices.right(&given).map(|number| letter(number).to_string())
    }

    /// Returns a row's columns; renamed ones appear under both names.
    fn columns(&self, row: &Example) -> Result<Map<String, Value>, String> {
        if row.columns.is_empty() {
            return Ok(made_of(row));
        }
        let mut columns = row.columns.clone();
        for (known, own) in self.own.columns.iter().filter(|(known, _)| *known != "image") {
            let value =
                row.columns.get(own).cloned().ok_or_else(|| {
                    format!("{known}: there is no column {own}; found {}", names(&row.columns))
                })?;
            columns.insert(known.clone(), value);
        }
        Ok(columns)
    }

    fn made(&self, row: Example, columns: Map<String, Value>, prompt: String, reference: String) -> Example {
        let category = columns.get("category").map(word).unwrap_or_default();
        let kind = match (self.own.kind, self.own.may_think()) {
            (OwnKind::Text, _) => Kind::WordProblem,
            (OwnKind::Question, _) => Kind::Question,
            (OwnKind::Drawing, false) => Kind::TextToImage,
            (OwnKind::Drawing, true) => Kind::ThinkThenDraw,
        };
        let shown = self.own.kind == OwnKind::Question;
        let check = match (reference.is_empty(), self.own.scorer.as_str()) {
            (true, _) => Check::None,
            (false, "number") => Check::Number {
                answer: reference.clone(),
            },
            (false, _) => Check::Exact {
                answer: reference.clone(),
            },
        };
        Example {
            kind,
            category,
            prompt,
            picture: row.picture.clone().filter(|_| shown),
            reasoning: None,
            answer: (!reference.is_empty()).then_some(reference),
            check,
            columns,
            ..row
        }
        .with_id()
    }
}

/// Converts a row of a reader without columns to columns.
fn made_of(row: &Example) -> Map<String, Value> {
    let made = [
        ("prompt", Some(row.prompt.clone())),
        ("reference", Some(row.reference())),
        ("category", Some(row.category.clone())),
    ];
    let there = made
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text.filter(|text| !text.is_empty())?.into())));
    there.collect()
}

fn owned((known, own): (&String, &String)) -> (String, String) {
    (known.clone(), own.clone())
}

/// Returns the column with the question, followed by lettered choices if there are any.
fn plain_prompt(columns: &Map<String, Value>) -> Result<String, String> {
    let Some(name) = first(columns, &PROMPTS)? else {
        return Err(format!(
            "prompt: a column {} or a template was expected; found {}",
            PROMPTS.join(", "),
            names(columns)
        ));
    };
    let choices = Choices::of(columns)?;
    let lines = choices.texts.iter().enumerate();
    let lines = lines.map(|(number, choice)| format!("\n{}. {choice}", letter(number)));
    Ok(word(&columns[name]) + &lines.collect::<String>())
}

/// Returns the first of the known columns that is not null.
fn first<'a>(columns: &Map<String, Value>, known: &[&'a str]) -> Result<Option<&'a str>, String> {
    let there = |name: &&&str| columns.get(**name).is_some_and(|value| !value.is_null());
    let Some(name) = known.iter().find(there) else {
        return Ok(None);
    };
    match &columns[*name] {
        Value::Array(_) | Value::Object(_) => Err(format!(
            "{name}: a text, a number or true or false was expected; use a template to extract one"
        )),
        _ => Ok(Some(name)),
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}

fn names(columns: &Map<String, Value>) -> String {
    let names: Vec<&str> = columns.keys().map(String::as_str).collect();
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(", "),
    }
}
