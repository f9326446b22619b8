//! A figure and what is thought of it; a section tells each as a JSON line on its standard output.

use serde::{Deserialize, Serialize};

/// What is thought of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// As asked, or nothing was asked of it.
    #[serde(rename = "ok")]
    Ok,
    /// Right, but slower or larger than asked.
    #[serde(rename = "below")]
    Below,
    /// Wrong, or not to be had.
    #[serde(rename = "FAIL")]
    Fail,
    /// Not looked at; the note says why.
    #[serde(rename = "skipped")]
    Skipped,
}

impl Verdict {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Below => "below",
            Self::Fail => "FAIL",
            Self::Skipped => "skipped",
        }
    }
}

/// Something that was measured or checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Of which section.
    pub section: String,
    /// What.
    pub figure: String,
    /// What is thought of it.
    pub verdict: Verdict,
    /// What was asked, in the unit.
    #[serde(default)]
    pub asked: Option<f64>,
    /// What it should come to.
    #[serde(default)]
    pub aim: Option<f64>,
    /// What was found.
    #[serde(default)]
    pub reached: Option<f64>,
    /// Of all three.
    #[serde(default)]
    pub unit: String,
    /// Anything else worth knowing.
    #[serde(default)]
    pub note: String,
}

/// Says what a section finds.
pub struct Teller {
    section: String,
}

/// What is asked of a figure and what it should come to; nothing where the shape or the device is another one.
pub type Asked = Option<(f64, f64)>;

impl Teller {
    /// For the section of that name.
    pub fn new(section: &str) -> Self {
        Self {
            section: section.to_owned(),
        }
    }

    /// A figure without a verdict of its own.
    pub fn found(&self, figure: &str, reached: f64, unit: &str, note: &str) {
        let (figure, verdict) = (figure.to_owned(), finite(reached));
        self.tell(Figure {
            reached: Some(reached),
            unit: unit.to_owned(),
            note: note.to_owned(),
            ..self.figure(figure, verdict)
        });
    }

    /// A figure that should be small.
    pub fn at_most(&self, figure: &str, reached: f64, unit: &str, asked: Asked) {
        self.measured(figure, reached, unit, asked, |asked| reached <= asked);
    }

    /// A figure that should be large.
    pub fn at_least(&self, figure: &str, reached: f64, unit: &str, asked: Asked) {
        self.measured(figure, reached, unit, asked, |asked| reached >= asked);
    }

    /// Something that is right or wrong.
    pub fn check(&self, figure: &str, right: bool, note: &str) {
        let verdict = if right { Verdict::Ok } else { Verdict::Fail };
        self.tell(Figure {
            note: note.to_owned(),
            ..self.figure(figure.to_owned(), verdict)
        });
    }

    /// A difference, its tolerance, and whether it is right.
    pub fn difference(&self, figure: &str, difference: f64, tolerance: f64, right: bool, note: &str) {
        let verdict = if right { Verdict::Ok } else { Verdict::Fail };
        self.tell(Figure {
            asked: Some(tolerance),
            reached: Some(difference),
            unit: "relative".to_owned(),
            note: note.to_owned(),
            ..self.figure(figure.to_owned(), verdict)
        });
    }

    /// Something that was not looked at.
    pub fn skipped(&self, figure: &str, why: &str) {
        self.tell(Figure {
            note: why.to_owned(),
            ..self.figure(figure.to_owned(), Verdict::Skipped)
        });
    }

    fn measured(&self, figure: &str, reached: f64, unit: &str, asked: Asked, enough: impl Fn(f64) -> bool) {
        let verdict = match asked {
            Some((asked, _)) if reached.is_finite() && !enough(asked) => Verdict::Below,
            _ => finite(reached),
        };
        self.tell(Figure {
            asked: asked.map(|(asked, _)| asked),
            aim: asked.map(|(_, aim)| aim),
            reached: Some(reached),
            unit: unit.to_owned(),
            ..self.figure(figure.to_owned(), verdict)
        });
    }

    fn figure(&self, figure: String, verdict: Verdict) -> Figure {
        Figure {
            section: self.section.clone(),
            figure,
            verdict,
            asked: None,
            aim: None,
            reached: None,
            unit: String::new(),
            note: String::new(),
        }
    }

    fn tell(&self, figure: Figure) {
        println!("{}", serde_json::json!(figure));
    }
}

fn finite(reached: f64) -> Verdict {
    if reached.is_finite() {
        Verdict::Ok
    } else {
        Verdict::Fail
    }
}
