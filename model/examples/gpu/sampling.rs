//! Measures sampling: an image of 512 x 512 pixels, and texts like GSM8K's, one at a time and sixteen at a
//! time.

use std::time::Instant;

use demask_api::{Sample, SampleRequest};
use demask_model::sampler::{Batch, Limits};

use crate::clock::median;
use crate::figure::Teller;
use crate::options::Options;
use crate::shape::network;

/// Number of texts in a batch.
const MANY: usize = 16;

/// Samples the requests to their end.
///
/// # Errors
/// Returns libtorch's errors.
pub fn draw(batch: &mut Batch<'_>, requests: Vec<SampleRequest>) -> anyhow::Result<Vec<Sample>> {
    batch.submit(requests)?;
    let mut samples = Vec::new();
    while !batch.is_empty() {
        samples.extend(
            batch
                .step(&mut |_, _, _| Ok(()))?
                .into_iter()
                .map(|(_, sample)| sample),
        );
    }
    Ok(samples)
}

/// Measures an image with guidance, without decoding it.
///
/// # Errors
/// Returns libtorch's errors.
pub fn picture(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let (shape, backbone) = network(options)?;
    let mut batch = Batch::new(&backbone, Limits::default());
    let ms = median(backbone.device(), 3, || {
        draw(&mut batch, vec![shape.picture()]).map(|_| ())
    })?;
    let figure = format!("picture of {} codes in {} guided steps", shape.codes, shape.steps);
    let asked = options.asked().then_some((0.9, 0.7));
    teller.at_most(&figure, ms / 1e3, "s", asked);
    Ok(())
}

/// Measures tokens per second of the threshold sampler with a dual cache. Random weights are never confident,
/// so each forward pass commits one token per row, which is the slowest case. The milliseconds per pass carry
/// over to trained weights.
///
/// # Errors
/// Returns libtorch's errors.
pub fn text(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let (shape, backbone) = network(options)?;
    for rows in [1, MANY] {
        let requests = || (0..rows).map(|row| shape.text(row)).collect::<Vec<_>>();
        let mut batch = Batch::new(&backbone, Limits::default());
        // Warm-up: one block of each row.
        let short = |mut request: SampleRequest| {
            request.target.end = request.target.start + shape.block;
            request.ids.truncate(request.target.end);
            request
        };
        draw(&mut batch, requests().into_iter().map(short).collect())?;
        let began = Instant::now();
        let samples = draw(&mut batch, requests())?;
        let seconds = began.elapsed().as_secs_f64();
        let passes = samples.iter().map(|sample| sample.forwards).max().unwrap_or(1);
        let (answer, prompt) = (shape.answer, shape.prompt);
        let figure = format!("{rows} at one time, {answer} new tokens after {prompt}");
        let note = format!("{passes} passes: random weights are sure of nothing");
        teller.found(&figure, (rows * answer) as f64 / seconds, "tokens/s", &note);
        teller.found(
            &format!("a pass of {rows}"),
            seconds * 1e3 / passes as f64,
            "ms",
            "",
        );
    }
    Ok(())
}
