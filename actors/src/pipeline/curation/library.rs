//! The examples that were kept of a source: in memory, or, for a source that is too large, as places where each row can
//! be read again.
//!
//! A number refers to the same example in both cases (law L8).

use demask_datasets::example::{Example, Kind};
use demask_datasets::formats::RandomAccess;
use demask_datasets::formats::row::RowPlace;

/// The place of a kept example, in 24 bytes.
#[derive(Clone, Copy, Debug)]
struct KeptExample {
    place: RowPlace,
    /// Index of the example among those of its row.
    which: u16,
    /// Beginning of the example's id, which shows whether the file has changed during the run.
    id: u32,
}

/// The examples that were kept of a source.
pub struct ExampleLibrary {
    /// Most bytes of examples that are kept in memory, if their rows can be read again.
    most: usize,
    bytes: usize,
    examples: Vec<Example>,
    kept: Vec<KeptExample>,
    rows: Option<Box<dyn RandomAccess>>,
    problems: bool,
    /// Rows that were read, including the unreadable ones.
    pub(super) count: u64,
    /// Rows that could not be read.
    pub(super) bad: u64,
    /// Description of the first of them.
    pub(super) first_bad: String,
}

impl std::fmt::Debug for ExampleLibrary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExampleLibrary")
            .field("len", &self.len())
            .field("in_memory", &self.is_in_memory())
            .finish_non_exhaustive()
    }
}

impl ExampleLibrary {
    /// Makes an empty library. It keeps at most this many bytes of examples in memory if their rows can be read again,
    /// else all examples.
    #[must_use]
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            bytes: 0,
            examples: Vec::new(),
            kept: Vec::new(),
            rows: None,
            problems: false,
            count: 0,
            bad: 0,
            first_bad: String::new(),
        }
    }

    /// Adds an example. `place` is the place of its row, if the row can be read again.
    pub(super) fn push(&mut self, example: Example, place: Option<RowPlace>, which: usize) {
        self.problems |= example.kind == Kind::WordProblem;
        if let Some(place) = place {
            let which = u16::try_from(which).unwrap_or(u16::MAX);
            let id = short(&example.id);
            self.kept.push(KeptExample { place, which, id });
            if self.bytes > self.most {
                return;
            }
        }
        self.bytes += size(&example);
        if place.is_some() && self.bytes > self.most {
            self.examples = Vec::new();
            return;
        }
        self.examples.push(example);
    }

    /// Sets the reader through which rows are read again.
    pub(super) fn read_through(&mut self, rows: Option<Box<dyn RandomAccess>>) {
        if !self.is_in_memory() {
            self.rows = rows;
        } else {
            self.kept = Vec::new();
        }
    }

    /// Returns whether the examples are in memory.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.examples.len() >= self.kept.len()
    }

    /// Returns the number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.examples.len().max(self.kept.len())
    }

    /// Returns whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a word problem is among the examples.
    #[must_use]
    pub fn has_problems(&self) -> bool {
        self.problems
    }

    /// Returns the example of a number.
    ///
    /// # Errors
    /// A message if its row cannot be read again, or has changed.
    pub fn get(&mut self, number: usize) -> Result<Example, String> {
        if let Some(example) = self.examples.get(number) {
            return Ok(example.clone());
        }
        let kept = *self.kept.get(number).ok_or("there is no such example")?;
        let rows = self
            .rows
            .as_mut()
            .ok_or("the rows of the source cannot be read again")?;
        let examples = rows.read_again(kept.place).map_err(|bad| bad.to_string())?;
        let example = examples.into_iter().nth(usize::from(kept.which));
        match example.filter(|example| short(&example.id) == kept.id) {
            Some(example) => Ok(example),
            None => Err(format!(
                "line {} of file {} has changed since the run began; start another run for changed data",
                kept.place.line,
                kept.place.file() + 1
            )),
        }
    }
}

/// Returns the beginning of an id.
fn short(id: &str) -> u32 {
    u32::from_str_radix(id.get(..8).unwrap_or_default(), 16).unwrap_or(0)
}

/// Returns approximately how many bytes of memory an example takes.
fn size(example: &Example) -> usize {
    let texts = [
        Some(&example.prompt),
        example.reasoning.as_ref(),
        example.answer.as_ref(),
        Some(&example.place),
    ];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let turns: usize = example.turns.iter().map(|turn| turn.content.len() + 64).sum();
    let picture = example.picture.as_ref().map_or(0, |picture| picture.rgb.len());
    let columns: usize = example
        .columns
        .iter()
        .map(|(name, value)| name.len() + value.to_string().len() + 64)
        .sum();
    size_of::<Example>() + 96 + texts + turns + picture + columns
}
