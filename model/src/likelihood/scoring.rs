//! The scoring of many answers: the views of all answers become rows, which are sorted by length and computed in waves
//! that fit a limit on tokens. Logits are computed for counted positions only, without gradient.
//!
//! The views of an answer depend only on its own seed. Its value is therefore the same whichever answers are scored
//! with it, as far as matrix products give a row the same bits in any batch (law L8). Sums are in f64. Legend: N
//! counted positions, V vocabulary.

#![allow(non_snake_case)]

use demask_api::{LikelihoodQuery, LogLikelihood};
use tch::{Kind, Tensor};

use super::answer_mask::AnswerMask;
use super::design::ViewDesign;
use super::view_pass::ViewPass;
use super::{design_of, validation};
use crate::device::kernels::fused::label_log_prob;
use crate::device::transfer::{self, Packet};
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::training::loss::{Gathered, LossRow};
use crate::training::threads;

/// The most logits that exist at one time.
const LOGITS: usize = 1 << 26;

/// The size of a wave, and the check between two waves of whether the client is still there.
pub struct Company<'a> {
    /// Tokens of a wave of rows: at most one row more than that.
    pub tokens: usize,
    /// Returns whether the client has gone. Called between two waves.
    pub is_gone: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Company<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Company")
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

/// Computes the log-likelihoods of answers, in the order of the queries.
///
/// # Errors
/// [`ModelError::Refused`] if a query is invalid (the message names it) or the client has gone, or any error libtorch
/// reports.
pub fn log_likelihoods(
    backbone: &Backbone,
    queries: &[LikelihoodQuery],
    company: &Company<'_>,
) -> Result<Vec<LogLikelihood>> {
    validation::queries(backbone.config(), queries)?;
    let mut open: Vec<OpenQuery<'_>> = Vec::new();
    let (mut done, mut tokens) = (Vec::with_capacity(queries.len()), 0);
    for query in queries {
        let next = OpenQuery::new(query);
        if tokens + next.tokens() > company.tokens && !open.is_empty() {
            done.extend(scored(backbone, std::mem::take(&mut open), company)?);
            tokens = 0;
        }
        tokens += next.tokens();
        open.push(next);
    }
    done.extend(scored(backbone, open, company)?);
    Ok(done)
}

/// A query with its views, and the log-probabilities that have been computed.
struct OpenQuery<'a> {
    query: &'a LikelihoodQuery,
    design: ViewDesign,
    log_probs: Vec<Vec<f64>>,
}

impl<'a> OpenQuery<'a> {
    fn new(query: &'a LikelihoodQuery) -> Self {
        let design = design_of(query);
        Self {
            query,
            log_probs: vec![Vec::new(); design.masks().len()],
            design,
        }
    }

    fn is_guided(&self) -> bool {
        self.query.guidance != 0.0
    }

    /// Returns the number of rows that its views take, unconditional halves included.
    fn forwards(&self) -> usize {
        self.design.masks().len() * if self.is_guided() { 2 } else { 1 }
    }

    fn tokens(&self) -> usize {
        self.forwards() * (self.query.prompt.len() + self.query.answer.len())
    }

    /// Builds the row of a view, with its unconditional half if the query has guidance.
    fn view_row(&self, view: usize, mask_token: u32) -> ViewRow {
        let (prompt, view) = (&self.query.prompt, &self.design.masks()[view]);
        ViewRow {
            conditional: self.row(view, mask_token, prompt.clone()),
            unconditional: self
                .is_guided()
                .then(|| self.row(view, mask_token, vec![mask_token; prompt.len()])),
            guidance: self.query.guidance,
        }
    }

    /// Builds the row of a view after a prompt.
    fn row(&self, view: &AnswerMask, mask_token: u32, prompt: Vec<u32>) -> LossRow {
        let answer = &self.query.answer;
        let start = prompt.len();
        let mut ids = prompt;
        ids.extend(answer);
        for &at in &view.masked {
            ids[start + at] = mask_token;
        }
        let targets = view.counted.iter().map(|&at| (start + at, answer[at], 1.0));
        LossRow {
            ids,
            left_pad: 0,
            targets: targets.collect(),
        }
    }

    fn finished(self) -> LogLikelihood {
        let (value, standard_error) = self.design.estimate(&self.log_probs);
        LogLikelihood {
            value,
            standard_error,
            forwards: self.forwards(),
        }
    }
}

/// Computes all views of the queries in waves, and returns the log-likelihoods.
fn scored(
    backbone: &Backbone,
    mut open: Vec<OpenQuery<'_>>,
    company: &Company<'_>,
) -> Result<Vec<LogLikelihood>> {
    let rows = |(number, query): (usize, &OpenQuery<'_>)| {
        let own = query.tokens() / query.forwards();
        (0..query.design.masks().len()).map(move |view| (own, number, view))
    };
    let mut views: Vec<(usize, usize, usize)> = open.iter().enumerate().flat_map(rows).collect();
    // Sorted by length, so that the rows of a wave have similar lengths; guided rows form their own waves.
    views.sort_by_key(|&(length, number, _)| (open[number].is_guided(), length));
    // In waves of one size: a last wave of a few rows would be too small to be divided among threads.
    let tokens: usize = open.iter().map(OpenQuery::tokens).sum();
    let most = tokens.div_ceil(tokens.div_ceil(company.tokens).max(1));
    let mut rest = views.as_slice();
    while !rest.is_empty() {
        if (company.is_gone)() {
            return Err(ModelError::Refused("the request was cancelled".into()));
        }
        let (wave, behind) = rest.split_at(wave_length(rest, &open, most));
        let rows: Vec<ViewRow> = wave
            .iter()
            .map(|&(_, number, view)| open[number].view_row(view, backbone.config().mask_token_id))
            .collect();
        let found = wave_log_probs(backbone, &rows, company.tokens)?;
        for (&(_, number, view), log_probs) in wave.iter().zip(found) {
            open[number].log_probs[view] = log_probs;
        }
        rest = behind;
    }
    Ok(open.into_iter().map(OpenQuery::finished).collect())
}

/// Returns how many of the first views form one wave: enough to reach `tokens` tokens, or all of them. The views of a
/// wave are either all guided or all unguided.
fn wave_length(views: &[(usize, usize, usize)], open: &[OpenQuery<'_>], tokens: usize) -> usize {
    let guided = open[views[0].1].is_guided();
    let mut before = 0;
    let belongs = |&&(length, number, _): &&(usize, usize, usize)| {
        let belongs = before < tokens && open[number].is_guided() == guided;
        before += if guided { 2 * length } else { length };
        belongs
    };
    views.iter().take_while(belongs).count()
}

/// A view as a row of the network, with its unconditional half if it is guided.
struct ViewRow {
    conditional: LossRow,
    unconditional: Option<LossRow>,
    guidance: f32,
}

/// Computes the log-probabilities of each row's counted tokens, with the rows divided among threads. All rows are
/// guided, or none is.
fn wave_log_probs(backbone: &Backbone, rows: &[ViewRow], most: usize) -> Result<Vec<Vec<f64>>> {
    let conditional: Vec<LossRow> = rows.iter().map(|row| row.conditional.clone()).collect();
    let halves = if rows.iter().any(|row| row.unconditional.is_some()) {
        2
    } else {
        1
    };
    let chunk = (LOGITS / backbone.config().rows().max(1)).max(1);
    // Prepares the packed weights, which the passes of all threads share.
    backbone.ready_to_sample()?;
    let mut parts = threads::parts(backbone, &conditional);
    let found = threads::each(backbone, &mut parts, &mut |_| Ok(()), |backbone, part, _| {
        let own: Vec<LossRow> = part.iter().map(|&at| conditional[at].clone()).collect();
        let mut found = Vec::with_capacity(own.len());
        let pass = ViewPass::new(backbone, &own, halves, most)?;
        for group in pass.groups() {
            let group: Vec<usize> = group.iter().map(|&at| part[at]).collect();
            let together: Vec<&ViewRow> = group.iter().map(|&at| &rows[at]).collect();
            found.extend(group.into_iter().zip(group_log_probs(&pass, &together, chunk)?));
        }
        Ok(found)
    })?;
    let mut all = vec![Vec::new(); rows.len()];
    for (at, log_probs) in found.into_iter().flatten() {
        all[at] = log_probs;
    }
    Ok(all)
}

/// Computes the log-probabilities for rows that share a pass through the network, with the logits of `chunk` positions
/// at a time.
fn group_log_probs(pass: &ViewPass<'_>, rows: &[&ViewRow], chunk: usize) -> Result<Vec<Vec<f64>>> {
    let unconditional = rows.iter().filter_map(|row| row.unconditional.clone());
    let together: Vec<LossRow> = rows
        .iter()
        .map(|row| row.conditional.clone())
        .chain(unconditional)
        .collect();
    let counts = rows.iter().map(|row| row.conditional.targets.len());
    let count: usize = counts.clone().sum();
    let guided = together.len() > rows.len();
    let mut packet = Packet::new();
    let scales = rows
        .iter()
        .flat_map(|row| std::iter::repeat_n(row.guidance + 1.0, row.conditional.targets.len()));
    let scales = packet.floats(scales.take(if guided { count } else { 0 }));
    let values = tch::no_grad(|| {
        let (gathered, arrived) = pass.gather(&together, packet)?;
        let half = guided.then(|| (count as i64, arrived.get(scales)));
        let parts: Vec<Tensor> = (0..count)
            .step_by(chunk)
            .map(|at| {
                let range = (at as i64, chunk.min(count - at) as i64);
                label_log_probs(pass, &gathered, half.as_ref(), range)
            })
            .collect::<Result<_>>()?;
        transfer::read(&Tensor::f_cat(&parts, 0)?)
    })?;
    let mut values = values.into_iter();
    Ok(counts
        .map(|count| values.by_ref().take(count).collect())
        .collect())
}

/// Computes the log-probabilities of the labels `at..at + length`. With guidance, `half` is the index where the
/// unconditional half begins and the factor w + 1 of each position, [N].
fn label_log_probs(
    pass: &ViewPass<'_>,
    gathered: &Gathered,
    half: Option<&(i64, Tensor)>,
    (at, length): (i64, i64),
) -> Result<Tensor> {
    let labels_N = gathered.labels_N.f_narrow(0, at, length)?;
    let logits_NV = pass.head(&gathered.x_ND.f_narrow(0, at, length)?)?;
    let Some((start, scales_N)) = half else {
        return label_log_prob(&logits_NV, &labels_N);
    };
    let others_ND = gathered.x_ND.f_narrow(0, start + at, length)?;
    let others_NV = pass.head(&others_ND)?.f_to_kind(Kind::Float)?;
    let scales_N1 = scales_N.f_narrow(0, at, length)?.f_unsqueeze(1)?;
    let away_NV = logits_NV
        .f_to_kind(Kind::Float)?
        .f_sub(&others_NV)?
        .f_mul(&scales_N1)?;
    label_log_prob(&others_NV.f_add(&away_NV)?, &labels_N)
}
