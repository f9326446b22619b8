//! Scores of a whole set of captions: tokenised as in the official evaluation, and raw as in VLMEvalKit.

use std::panic::resume_unwind;

use serde_json::{Value, json};

use super::super::case::Case;
use super::super::{ScoreError, python};
use super::batch::all_tokens;
use super::overlap::{self, Guesses, PictureScores, mean};
use super::vocabulary::{CaptionedPicture, Vocabulary};

/// Computes BLEU, ROUGE-L and CIDEr of predictions against references, one list per picture.
///
/// # Errors
/// An error if a field is missing, the two lists differ in length, there is no picture, a picture has no reference, or
/// no reference has a word; the published code fails on each of these.
pub fn corpus(case: &Case<'_>) -> Result<Value, ScoreError> {
    case.filled(&["predictions", "prediction"])?;
    let predictions = case.texts(&["predictions", "prediction"])?;
    let references = references(case)?;
    if predictions.len() != references.len() {
        return Err(ScoreError::wrong(&["references"], "as long as the predictions"));
    }
    let is_blank = |caption: &&str| python::words(caption).is_empty();
    if references.iter().any(Vec::is_empty) || references.iter().flatten().all(is_blank) {
        return Err(ScoreError::wrong(
            &["references"],
            "at least one caption per picture, with words",
        ));
    }
    let tokenised = all_tokens(&predictions);
    let flat: Vec<&str> = references.iter().flatten().copied().collect();
    let mut flat_tokens = all_tokens(&flat).into_iter();
    let known: Vec<Vec<String>> = references
        .iter()
        .map(|captions| flat_tokens.by_ref().take(captions.len()).collect())
        .collect();
    let as_texts: Vec<&str> = tokenised.iter().map(String::as_str).collect();
    let known_texts: Vec<Vec<&str>> = known
        .iter()
        .map(|captions| captions.iter().map(String::as_str).collect())
        .collect();
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .div_ceil(2);
    let (official, raw) = std::thread::scope(|scope| {
        let raw = scope.spawn(|| scores(&predictions, &references, false, workers));
        let official = scores(&as_texts, &known_texts, true, workers);
        (official, raw.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    Ok(json!({
        "official": official,
        "vlmevalkit_untokenised": raw,
        "predictions_tokenised": tokenised,
        "references_tokenised": known,
    }))
}

fn references<'a>(case: &Case<'a>) -> Result<Vec<Vec<&'a str>>, ScoreError> {
    let wrong = || ScoreError::wrong(&["references"], "a list of captions for each picture");
    case.list(&["references", "reference"])?
        .iter()
        .map(|captions| {
            captions
                .as_array()
                .ok_or_else(wrong)?
                .iter()
                .map(|caption| caption.as_str().ok_or_else(wrong))
                .collect()
        })
        .collect()
}

fn scores(predictions: &[&str], references: &[Vec<&str>], with_each: bool, workers: usize) -> Value {
    let mut vocabulary = Vocabulary::default();
    let pictures: Vec<CaptionedPicture> = predictions
        .iter()
        .zip(references)
        .map(|(prediction, references)| vocabulary.picture(prediction, references))
        .collect();
    let each = overlap::scores(&pictures, workers);
    let mut all = Guesses::default();
    each.iter().for_each(|scores| all.add(&scores.guesses));
    let [rouge, cider] = [
        |scores: &PictureScores| scores.rouge,
        |scores: &PictureScores| scores.cider,
    ]
    .map(|score| each.iter().map(score).collect::<Vec<f64>>());
    let mut scores = json!({ "Bleu": all.bleu(), "ROUGE_L": mean(&rouge), "CIDEr": mean(&cider) });
    if with_each {
        let bleu: Vec<_> = each.iter().map(|scores| scores.guesses.bleu()).collect();
        scores["Bleu_per_image"] = json!(bleu);
        scores["ROUGE_L_per_image"] = json!(rouge);
        scores["CIDEr_per_image"] = json!(cider);
    }
    scores
}
