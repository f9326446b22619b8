//! User-written Jinja templates that make a text from a row's columns. A template sees only the columns, and a fuel
//! limit ends endless loops (law L9).

use minijinja::{Environment, Error, UndefinedBehavior, context};
use serde_json::{Map, Value};

use crate::prompts::template_worker::{self, TemplateJob};
use crate::prompts::{bounded, foreign};

/// The most steps of a template for one row.
const FUEL: u64 = 1_000_000;
/// The most bytes of the text.
const LONGEST: usize = 1 << 20;
/// The template's name in its environment.
const NAME: &str = "template";

/// A template for rows.
#[derive(Debug)]
pub struct RowTemplate {
    environment: Environment<'static>,
    /// The source, if the template must be rendered in a separate process with limited memory.
    apart: Option<String>,
}

impl RowTemplate {
    /// Parses a template: `{{ column }}`, `{% for … %}`, Python's string methods. Columns whose names are not
    /// identifiers are written `row["a name"]`.
    ///
    /// # Errors
    /// A message that says where the template is not valid Jinja, or which limit it exceeds.
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

    /// Renders the template for a row.
    ///
    /// # Errors
    /// A message if a column does not exist (it lists those that do), or if the template exceeds its limits.
    pub fn render(&self, row: &Map<String, Value>) -> Result<String, String> {
        let job = self.apart.clone().map(|source| TemplateJob::Row {
            source,
            row: row.clone(),
        });
        let apart = job.and_then(|job| template_worker::rendered(&job));
        apart.unwrap_or_else(|| self.render_here(row))
    }

    /// Renders the template in this process, without a limit of memory.
    ///
    /// # Errors
    /// Those of [`Self::render`].
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
