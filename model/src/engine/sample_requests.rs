//! Continuous batching over requests: one joins the running batch whenever it comes, its rows take the room that others
//! leave, and it is answered when its last row is done, or leaves because nobody waits for it any more. A row's sample is the
//! one that it would be alone (law L8), as far as matrix products give a row the same bits in any company: where two tokens
//! are within a rounding of each other they may swap.

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

/// What of a model is sampled.
#[derive(Clone, Copy, Debug)]
pub struct SampledModel<'a> {
    /// The backbone.
    pub backbone: &'a Backbone,
    /// The image tokenizer, if the model has one.
    pub tokenizer: Option<&'a ImageTokenizer>,
    /// The optimiser's step that the weights are of.
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

/// A running batch and the requests whose rows are in it.
#[derive(Debug)]
pub struct RunningRequests<'a> {
    model: SampledModel<'a>,
    workers: WorkerPool<'a>,
    /// By number.
    open: BTreeMap<usize, OpenRequest>,
}

/// A request on its way.
#[derive(Debug)]
struct OpenRequest {
    /// The tickets of its rows.
    tickets: Range<usize>,
    /// Of each row that is a picture, where its codes stand and how they lie.
    pictures: Vec<Option<Drawing>>,
    samples: Vec<Option<Sample>>,
    left: usize,
    /// Its share of the time that passes took, by rows.
    seconds: f64,
}

/// The codes of a picture in its row.
#[derive(Clone, Debug)]
struct Drawing {
    place: Range<usize>,
    /// Absent: a square.
    grid: Option<Grid>,
}

/// What pictures that are decoded together share: as many codes may lie otherwise.
type Shape = (Option<Grid>, usize);

impl<'a> RunningRequests<'a> {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(model: impl Into<SampledModel<'a>>, limits: Limits) -> Self {
        let model = model.into();
        Self {
            model,
            workers: WorkerPool::new(model.backbone, limits),
            open: BTreeMap::new(),
        }
    }

    /// Takes the cache that lies on a shelf, and puts it back in the end.
    #[must_use]
    pub fn keeping(self, shelf: &'a Shelf) -> Self {
        Self {
            workers: self.workers.keeping(shelf),
            ..self
        }
    }

    /// Takes a request in under a number that no other open one has.
    ///
    /// # Errors
    /// What is wrong with it; the others go on.
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

    /// Lets go of a request that nobody waits for any more.
    pub fn leave(&mut self, number: usize) {
        if let Some(open) = self.open.remove(&number) {
            self.workers.withdraw(&open.tickets);
        }
    }

    /// Whether every request has been answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Does a pass, or waits for one; gives the answers of the requests that are complete. Frames come with their request's
    /// number.
    ///
    /// # Errors
    /// The errors of [`WorkerPool::step`]: every open request has failed then.
    pub fn step(&mut self, on_frame: &mut dyn FnMut(usize, SampleFrame)) -> Result<Vec<(usize, Answer)>> {
        let began = Instant::now();
        let (model, open) = (self.model, &self.open);
        let done = self.workers.step(&mut |ticket, mut frame, guess| {
            if let Some((number, at)) = owner(open, ticket) {
                let grid = open[&number].pictures[at]
                    .as_ref()
                    .and_then(|drawing| drawing.grid);
                // A guess that cannot be shown is told when it is done.
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

    /// The samples in the order asked, pictures decoded.
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

/// The request that a row is of, and its place there.
fn owner(open: &BTreeMap<usize, OpenRequest>, ticket: usize) -> Option<(usize, usize)> {
    let mut all = open.iter();
    all.find(|(_, open)| open.tickets.contains(&ticket))
        .map(|(&number, open)| (number, ticket - open.tickets.start))
}

/// Tokens of pictures of one shape to pictures; none without an image tokenizer.
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
