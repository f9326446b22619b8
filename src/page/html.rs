//! HTML building blocks: escaped text, tables, and embedded pictures.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use demask_storage::Blobs;
use demask_storage::query::Rows;
use serde_json::Value;

/// Escapes a text for HTML. Control characters, which HTML forbids, become spaces.
#[must_use]
pub(super) fn escaped(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut safe, sign| {
            match sign {
                '&' => safe.push_str("&amp;"),
                '<' => safe.push_str("&lt;"),
                '>' => safe.push_str("&gt;"),
                '"' => safe.push_str("&quot;"),
                '\'' => safe.push_str("&#39;"),
                '\n' | '\t' => safe.push(sign),
                sign if sign.is_control() => safe.push(' '),
                sign => safe.push(sign),
            }
            safe
        })
}

/// Returns an element that contains a text; without a class if none is given.
#[must_use]
pub(super) fn text(element: &str, class: &str, text: &str) -> String {
    let class = if class.is_empty() {
        String::new()
    } else {
        format!(" class=\"{class}\"")
    };
    format!("<{element}{class}>{}</{element}>", escaped(text))
}

/// Returns the text of a table cell.
#[must_use]
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.4}", number.as_f64().unwrap_or(0.0)),
        other => other.to_string(),
    }
}

/// Returns rows as a table; an empty text if there are none.
#[must_use]
pub(super) fn table(rows: &Rows) -> String {
    if rows.rows.is_empty() {
        return String::new();
    }
    let head: String = rows.columns.iter().map(|column| text("th", "", column)).collect();
    let mut body = String::new();
    for row in &rows.rows {
        let cell = |value: &Value| text("td", if value.is_number() { "number" } else { "" }, &cell(value));
        let cells: String = row.iter().map(cell).collect();
        writeln!(body, "<tr>{cells}</tr>").ok();
    }
    format!("<div class=\"scroll\"><table><tr>{head}</tr>\n{body}</table></div>")
}

/// Returns a picture of the store as embedded data, or a note if it is missing.
#[must_use]
pub(super) fn picture(blobs: &Blobs, hash: &str, what: &str) -> String {
    match blobs.get(hash) {
        Ok(bytes) => {
            format!(
                "<img alt=\"{}\" src=\"data:image/png;base64,{}\">",
                escaped(what),
                STANDARD.encode(bytes)
            )
        }
        Err(_) => text("p", "quiet", &format!("{what}: the picture {hash} is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_model_writes_is_a_mark() {
        assert_eq!(
            text("td", "", "<script>'a' & \"b\"</script>\u{1b}"),
            "<td>&lt;script&gt;&#39;a&#39; &amp; &quot;b&quot;&lt;/script&gt; </td>"
        );
    }
}
