//! Rendering of a template with a limit of output bytes (law L9). Fuel bounds only the number of steps, and one step
//! may write a long text.

use minijinja::{Error, ErrorKind, Template, Value};

/// Renders a template to a text of at most `longest` bytes.
///
/// # Errors
/// The template's own errors; an error that names the limit if the text would exceed it.
pub(super) fn render(template: &Template<'_, '_>, given: Value, longest: usize) -> Result<String, Error> {
    let mut text = Bounded {
        bytes: Vec::new(),
        longest,
        is_full: false,
    };
    let rendered = template.render_captured_to(given, &mut text).map(|_| ());
    if text.is_full {
        let message = format!("the template writes more than {longest} bytes");
        return Err(Error::new(ErrorKind::WriteFailure, message));
    }
    rendered?;
    String::from_utf8(text.bytes)
        .map_err(|error| Error::new(ErrorKind::WriteFailure, "no UTF-8").with_source(error))
}

struct Bounded {
    bytes: Vec<u8>,
    longest: usize,
    /// Whether the output exceeded the limit.
    is_full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.longest {
            self.is_full = true;
            return Err(std::io::Error::other("full"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use minijinja::{Environment, context};

    use super::*;

    #[test]
    fn l9_a_text_is_made_up_to_its_limit() {
        let mut environment = Environment::new();
        let source = "{% for number in range(100) %}{{ word }}{% endfor %}";
        environment.add_template("words", source).unwrap();
        let made = |longest| {
            let template = environment.get_template("words").unwrap();
            render(&template, context! { word => "four" }, longest)
        };
        assert_eq!(made(400).unwrap(), "four".repeat(100));
        let refused = made(399).unwrap_err();
        assert_eq!(refused.detail(), Some("the template writes more than 399 bytes"));
    }
}
