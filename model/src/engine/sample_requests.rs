//! Continuous batching of sampling requests. A request joins the running batch when it arrives, and its rows
//! take the room that finished rows leave. It is answered when its last row is done, and it leaves early if
//! nobody waits for it any more.
//!
//! A row's sample is the one that the row would have alone (law L8), as far as matrix products give a row the
//! same bits in any batch: two tokens whose scores differ by less than rounding may swap.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use demask_api::{Answer, Grid, Picture, Sample, SampleFrame, SampleRequest, Sampler};

use crate::engine::checkpoint::LoadedModel;
use crate::error::{ModelError, Result};
use crate::image_tokenizer::ImageTokenizer;
use crate::network::backbone::Backbone;
use crate::sampler::validation;
use crate::sampler::{Limits, Shelf, WorkerPool};

/// The parts of a model that sampling uses.
#[derive(Clone, Copy, Debug)]
pub struct SampledModel<'a> {
    /// The backbone.
    pub backbone: &'a Backbone,
    /// The image tokenizer, if the model has one.
    pub tokenizer: Option<&'a ImageTokenizer>,
    /// The optimizer step of the weights.
    pub step: u64,
}

impl<'a> From<&'a LoadedModel> for SampledModel<'a> {
    fn from(model: &'a LoadedModel) -> Self {
        Self {
            backbone: &model.backbone,
            tokenizer: model.tokenizer.as_ref().map(|(tokenizer, _)| tokenizer),
            step: model.optimizer.step_count(),
        }
    }
}

/// A running batch, with the requests that its rows belong to.
#[derive(Debug)]
pub struct RunningRequests<'a> {
    model: SampledModel<'a>,
    workers: WorkerPool<'a>,
    /// The open requests by their number.
    open: BTreeMap<usize, OpenRequest>,
}

/// A request that is not answered yet.
#[derive(Debug)]
struct OpenRequest {
    /// The tickets of its rows in the batch.
    tickets: Range<usize>,
    /// For each row that is a picture: the position and the grid of its codes.
    pictures: Vec<Option<Drawing>>,
    samples: Vec<Option<Sample>>,
    left: usize,
    /// The request's share of the forward passes' time in seconds, in proportion to its rows.
    seconds: f64,
}

/// The position and grid of a picture's codes in its row.
#[derive(Clone, Debug)]
struct Drawing {
    place: Range<usize>,
    /// The grid of the codes; `None` means a square.
    grid: Option<Grid>,
}

/// The grid and the number of codes, which pictures must share to be decoded in one batch. The number alone
/// is not enough: the same number of codes fits several grids.
type Shape = (Option<Grid>, usize);

impl<'a> RunningRequests<'a> {
    /// Returns an empty batch.
    #[must_use]
    pub fn new(model: impl Into<SampledModel<'a>>, limits: Limits) -> Self {
        let model = model.into();
        Self {
            model,
            workers: WorkerPool::new(model.backbone, limits),
            open: BTreeMap::new(),
        }
    }

    /// Takes the cache from a shelf for reuse, and puts it back at the end.
    #[must_use]
    pub fn keeping(self, shelf: &'a Shelf) -> Self {
        Self {
            workers: self.workers.keeping(shelf),
            ..self
        }
    }

    /// Adds a request under a number that no open request has.
    ///
    /// # Errors
    /// Returns the error of an invalid request; the other requests are not affected.
    pub fn join(&mut self, number: usize, requests: Vec<SampleRequest>) -> Result<()> {
        validation::samples(self.model.backbone.config(), &requests)?;
        let drawn = |request: &SampleRequest| match request.sampler {
            Sampler::Image(_) => Some(Drawing {
                place: request.target.start..request.target.end,
                grid: request.grid,
            }),
            Sampler::Text(_) => None,
        };
        let pictures: Vec<_> = requests.iter().map(drawn).collect();
        let tickets = self.workers.submit(requests)?;
        let open = OpenRequest {
            samples: pictures.iter().map(|_| None).collect(),
            left: pictures.len(),
            tickets,
            pictures,
            seconds: 0.0,
        };
        self.open.insert(number, open);
        Ok(())
    }

    /// Removes a request that nobody waits for any more.
    pub fn leave(&mut self, number: usize) {
        if let Some(open) = self.open.remove(&number) {
            self.workers.withdraw(&open.tickets);
        }
    }

    /// Returns whether no request is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Runs or awaits one forward pass, and returns the answers of the requests that it completes. `on_frame`
    /// receives each frame with the number of its request.
    ///
    /// # Errors
    /// Returns the errors of [`WorkerPool::step`]; every open request has then failed.
    pub fn step(&mut self, on_frame: &mut dyn FnMut(usize, SampleFrame)) -> Result<Vec<(usize, Answer)>> {
        let began = Instant::now();
        let (model, open) = (self.model, &self.open);
        let done = self.workers.step(&mut |ticket, mut frame, guess| {
            if let Some((number, at)) = owner(open, ticket) {
                let grid = open[&number].pictures[at]
                    .as_ref()
                    .and_then(|drawing| drawing.grid);
                // A preview that fails to decode is left out of the frame; the error is reported with the
                // final answer.
                frame.picture = guess.and_then(|guess| decode(model, &[guess], grid).ok()?.pop());
                on_frame(number, frame);
            }
            Ok(())
        })?;
        let ended = done.iter().map(|(ticket, _)| *ticket);
        let took_part: Vec<usize> = self.workers.running().chain(ended).collect();
        let share = began.elapsed().as_secs_f64() / took_part.len().max(1) as f64;
        for open in self.open.values_mut() {
            let own = took_part.iter().filter(|ticket| open.tickets.contains(ticket));
            open.seconds += share * own.count() as f64;
        }
        for (ticket, sample) in done {
            if let Some((number, at)) = owner(&self.open, ticket)
                && let Some(open) = self.open.get_mut(&number)
            {
                open.samples[at] = Some(sample);
                open.left -= 1;
            }
        }
        let complete: Vec<(usize, OpenRequest)> =
            self.open.extract_if(.., |_, open| open.left == 0).collect();
        let answers = complete.into_iter().map(|(number, open)| {
            let answer = self.answer(open);
            (
                number,
                answer.unwrap_or_else(|error| Answer::Failed(error.into())),
            )
        });
        Ok(answers.collect())
    }

    /// Returns the samples in the order of the request, with decoded pictures.
    fn answer(&self, open: OpenRequest) -> Result<Answer> {
        let began = Instant::now();
        let mut samples: Vec<Sample> = open
            .samples
            .into_iter()
            .map(|sample| sample.ok_or_else(|| ModelError::Refused("a row was lost in the batch".into())))
            .collect::<Result<_>>()?;
        let mut by_shape: BTreeMap<Shape, Vec<(usize, Range<usize>)>> = BTreeMap::new();
        for (row, drawing) in open.pictures.into_iter().enumerate() {
            if let Some(Drawing { place, grid }) = drawing {
                let alike = by_shape.entry((grid, place.len())).or_default();
                alike.push((row, place));
            }
        }
        for ((grid, _), drawn) in by_shape {
            let codes: Vec<&[u32]> = drawn
                .iter()
                .map(|(row, place)| &samples[*row].ids[place.clone()])
                .collect();
            let pictures = decode(self.model, &codes, grid)?;
            for ((row, _), picture) in drawn.into_iter().zip(pictures) {
                samples[row].picture = Some(picture);
            }
        }
        Ok(Answer::Samples {
            samples,
            seconds: open.seconds + began.elapsed().as_secs_f64(),
            step: self.model.step,
        })
    }
}

/// Returns the number of the request that a row belongs to, and the row's index in that request.
fn owner(open: &BTreeMap<usize, OpenRequest>, ticket: usize) -> Option<(usize, usize)> {
    let mut all = open.iter();
    all.find(|(_, open)| open.tickets.contains(&ticket))
        .map(|(&number, open)| (number, ticket - open.tickets.start))
}

/// Decodes the tokens of pictures of one shape. Returns no pictures if the model has no image tokenizer.
fn decode(model: SampledModel<'_>, tokens: &[&[u32]], grid: Option<Grid>) -> Result<Vec<Picture>> {
    let Some(tokenizer) = model.tokenizer else {
        return Ok(Vec::new());
    };
    let offset = model.backbone.config().image_offset();
    let last = (1u32 << tokenizer.config().codebook_bits) - 1;
    let codes: Vec<Vec<u32>> = tokens
        .iter()
        .map(|line| {
            line.iter()
                .map(|&id| id.saturating_sub(offset).min(last))
                .collect()
        })
        .collect();
    tokenizer.decode(&codes, grid)
}
