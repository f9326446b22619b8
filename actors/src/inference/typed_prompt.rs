//! An example made of a prompt that the user typed.

use demask_api::Picture;
use demask_datasets::example::{Check, Example, Kind, Split};

/// Makes an example that consists only of a prompt and perhaps a picture.
#[must_use]
pub fn plain_example(kind: Kind, prompt: &str, picture: Option<Picture>) -> Example {
    Example {
        id: String::new(),
        source: "person".into(),
        place: String::new(),
        licence: String::new(),
        split: Split::Test,
        kind,
        category: String::new(),
        held_out: false,
        prompt: prompt.to_owned(),
        turns: Vec::new(),
        columns: serde_json::Map::new(),
        picture,
        reasoning: None,
        answer: None,
        check: Check::None,
    }
    .with_id()
}
