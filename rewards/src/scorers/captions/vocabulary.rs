//! Captions as word numbers: equal words have equal numbers throughout a set.

use std::collections::HashMap;

use super::super::python;

/// A caption's words, split in two ways.
#[derive(Debug, Clone, Default)]
pub struct Caption {
    /// The words between Python's white space.
    pub words: Vec<u32>,
    /// The words between single spaces, if they differ.
    pieces: Option<Vec<u32>>,
}

impl Caption {
    /// Returns the words between single spaces.
    pub fn pieces(&self) -> &[u32] {
        self.pieces.as_deref().unwrap_or(&self.words)
    }
}

/// A picture's captions.
#[derive(Debug, Clone)]
pub struct CaptionedPicture {
    /// The prediction.
    pub prediction: Caption,
    /// The references.
    pub references: Vec<Caption>,
}

/// The numbers of words, from 1.
#[derive(Debug, Default)]
pub struct Vocabulary<'a> {
    numbers: HashMap<&'a str, u32>,
}

impl<'a> Vocabulary<'a> {
    /// Numbers the words of a caption.
    pub fn caption(&mut self, caption: &'a str) -> Caption {
        let mut words = Vec::with_capacity(caption.len() / 5 + 1);
        words.extend(caption.split(' ').map(|word| self.number(word)));
        if is_plain(caption) {
            return Caption { words, pieces: None };
        }
        let pieces = Some(words);
        let words = python::words(caption);
        Caption {
            words: words.into_iter().map(|word| self.number(word)).collect(),
            pieces,
        }
    }

    /// Numbers the words of a picture's captions.
    pub fn picture(&mut self, prediction: &'a str, references: &[&'a str]) -> CaptionedPicture {
        CaptionedPicture {
            prediction: self.caption(prediction),
            references: references.iter().map(|caption| self.caption(caption)).collect(),
        }
    }

    fn number(&mut self, word: &'a str) -> u32 {
        let next = self.numbers.len() as u32 + 1;
        *self.numbers.entry(word).or_insert(next)
    }
}

/// Whether the only white space of a caption is single spaces between words.
fn is_plain(caption: &str) -> bool {
    let bytes = caption.as_bytes();
    let is_graphic = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let is_apart = bytes.windows(2).all(|pair| pair != b"  ");
    is_apart
        && bytes.iter().all(is_graphic)
        && bytes.first().is_some_and(|byte| *byte != b' ')
        && bytes.last() != Some(&b' ')
}
