//! A text made of a row's columns: a Jinja template that a person wrote, which sees the columns and nothing else, and runs out
//! of fuel before it runs for ever (law L9).

use minijinja::{Environment, Error, UndefinedBehavior, context};
use serde_json::{Map, Value};

use crate::prompts::template_worker::{self, TemplateJob};
use crate::prompts::{bounded, foreign};

/// Steps that a template may take for one row.
const FUEL: u64 = 1_000_000;
/// Bytes of a text that is made, at most.
const LONGEST: usize = 1 << 20;
/// The template's name in its environment.
const NAME: &str = "template";

/// A template for rows.
#[derive(Debug)]
pub struct RowTemplate {
    environment: Environment<'static>,
    /// The source, where it is rendered in a process that may not fill the memory.
    apart: Option<String>,
}

impl RowTemplate {
    /// Reads a template: `{{ column }}`, `{% for … %}`, Python's string methods; columns whose names are no words by
    /// `row["a name"]`.
    ///
    /// # Errors
    /// It is no Jinja, or beyond a limit: where and why, in words.
    pub fn new(source: &str) -> Result<Self, String> {
        foreign::template(source)?;
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| in_words(&error))?;
        let apart = foreign::may_grow(source).then(|| source.to_owned());
        Ok(Self { environment, apart })
    }

    /// The text that it makes of a row.
    ///
    /// # Errors
    /// A column that is not there, with those that are; a template that does not end, or makes too much.
    pub fn render(&self, row: &Map<String, Value>) -> Result<String, String> {
        let job = self.apart.clone().map(|source| TemplateJob::Row {
            source,
            row: row.clone(),
        });
        let apart = job.and_then(|job| template_worker::rendered(&job));
        apart.unwrap_or_else(|| self.render_here(row))
    }

    /// The same in this process, whatever memory it takes.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_here(&self, row: &Map<String, Value>) -> Result<String, String> {
        let failed = |error: Error| {
            let names: Vec<&str> = row.keys().map(String::as_str).collect();
            format!(
                "{}; the row has the columns {}",
                in_words(&error),
                names.join(", ")
            )
        };
        let columns = minijinja::Value::from_pairs(row.iter().map(|(name, value)| {
            let value = minijinja::Value::from(minijinja::value::Serde(value));
            (name.as_str(), value)
        }));
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let given = context! { row => columns.clone(), ..columns };
        bounded::render(&template, given, LONGEST).map_err(failed)
    }
}

fn in_words(error: &Error) -> String {
    let line = error
        .line()
        .map_or_else(String::new, |line| format!(" (line {line} of the template)"));
    match error.detail() {
        Some(detail) => format!("{}: {detail}{line}", error.kind()),
        None => format!("{}{line}", error.kind()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn render(source: &str, row: Value) -> Result<String, String> {
        let Value::Object(row) = row else { unreachable!() };
        RowTemplate::new(source)?.render(&row)
    }

    #[test]
    fn a_row_is_written_by_its_columns() {
        let row =
            json!({"question": "Which?", "choices": ["red", "blue"], "the id": 7, "answer": "work #### 12"});
        let source =
            "{{ question }}{% for one in choices %}\n{{ \"ABCD\"[loop.index0] }}. {{ one }}{% endfor %}";
        assert_eq!(render(source, row.clone()).unwrap(), "Which?\nA. red\nB. blue");
        assert_eq!(render("{{ row[\"the id\"] }}", row.clone()).unwrap(), "7");
        assert_eq!(
            render("{{ answer.split('####')[1].strip() }}", row).unwrap(),
            "12"
        );
    }

    #[test]
    fn l9_what_cannot_be_written_is_told_with_the_columns() {
        let row = json!({"question": "Which?"});
        let missing = render("{{ questoin }}", row.clone()).unwrap_err();
        assert!(missing.contains("the row has the columns question"), "{missing}");
        let endless = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        let endless = render(endless, row.clone()).unwrap_err();
        assert!(endless.contains("fuel"), "{endless}");
        let long = json!({"word": "x".repeat(200)});
        let long = render("{% for a in range(10000) %}{{ word }}{% endfor %}", long).unwrap_err();
        assert!(long.contains("more than 1048576 bytes"), "{long}");
        let deep = render(&format!("{{{{ {}1 }}}}", "-".repeat(1000)), row.clone()).unwrap_err();
        assert!(deep.contains("operators"), "{deep}");
        let broken = render("{% if %}", row).unwrap_err();
        assert!(broken.contains("line 1 of the template"), "{broken}");
    }
}
