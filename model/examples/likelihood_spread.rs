//! Measures how many forward passes an estimator of log-likelihoods needs to reach the standard error of the
//! published estimator with 128 samples.
//!
//! `likelihood_spread FOLDER ITEMS.jsonl [ROUNDS]` computes every masked view of each item's answer
//! (`{"prompt": […], "answer": […]}`, at most 12 tokens) with the model in the folder once. Each estimator
//! then draws from these views `ROUNDS` times (400 by default), and its root mean square distance from the
//! exact value is compared. The program prints a JSON line per number of samples, over all items: the
//! geometric mean of the ratio of the distance to that of 128 published samples, in batches of 32 and of 1,
//! and the number of distinct views. Further lines say by what factor fewer than 128 views reach the published
//! distance.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use demask_api::LikelihoodEstimator;
use demask_model::Backbone;
use demask_model::likelihood::design;
use demask_model::policy::score;
use demask_model::training::loss::LossRow;
use serde::Deserialize;
use serde_json::json;
use tch::{Device, Kind};

/// Samples of the published estimator.
const PUBLISHED: usize = 128;
/// Numbers of samples that are tried.
const TRIED: [usize; 16] = [9, 12, 16, 20, 24, 28, 32, 36, 40, 42, 48, 56, 64, 80, 96, 128];
/// Rows of a forward pass.
const ROWS: usize = 128;

#[derive(Deserialize)]
struct Item {
    prompt: Vec<u32>,
    answer: Vec<u32>,
}

/// An answer's log-probabilities under every mask.
struct Table {
    length: usize,
    log_probs: HashMap<Vec<usize>, Vec<f64>>,
}

impl Table {
    fn new(backbone: &Backbone, item: &Item) -> anyhow::Result<Self> {
        let (start, length) = (item.prompt.len(), item.answer.len());
        ensure!(
            (1..=12).contains(&length),
            "an answer of {length} tokens; expected 1 to 12"
        );
        let masks: Vec<Vec<usize>> = (1_usize..1 << length)
            .map(|bits| (0..length).filter(|at| bits >> at & 1 == 1).collect())
            .collect();
        let row = |masked: &Vec<usize>| {
            let mut ids = [item.prompt.clone(), item.answer.clone()].concat();
            let mask = backbone.config().mask_token_id;
            masked.iter().for_each(|&at| ids[start + at] = mask);
            let target = |&at: &usize| (start + at, item.answer[at], 1.0);
            LossRow {
                ids,
                left_pad: 0,
                targets: masked.iter().map(target).collect(),
            }
        };
        let rows: Vec<LossRow> = masks.iter().map(row).collect();
        let mut found = Vec::new();
        for part in rows.chunks(ROWS) {
            found.extend(Vec::<f32>::try_from(score(backbone, part)?)?);
        }
        let mut found = found.into_iter().map(f64::from);
        let own = |masked: Vec<usize>| (masked.clone(), found.by_ref().take(masked.len()).collect());
        Ok(Self {
            length,
            log_probs: masks.into_iter().map(own).collect(),
        })
    }

    /// Returns the estimate of a seed, and the number of distinct views that it needs.
    fn estimate(&self, estimator: LikelihoodEstimator, seed: u64) -> (f64, usize) {
        let design = design(estimator, self.length, seed);
        let own = |mask: &demask_model::likelihood::AnswerMask| self.log_probs[&mask.masked].clone();
        let log_probs: Vec<Vec<f64>> = design.masks().iter().map(own).collect();
        (design.estimate(&log_probs).0, log_probs.len())
    }

    /// Returns the root mean square distance from the exact value, and the mean number of distinct views.
    fn spread(&self, estimator: LikelihoodEstimator, rounds: u64) -> (f64, f64) {
        let every = LikelihoodEstimator::Reduced { samples: 1 << 12 };
        let exact = self.estimate(every, 0).0;
        let (mut squares, mut views) = (0.0, 0.0);
        for seed in 0..rounds {
            let (value, taken) = self.estimate(estimator, seed);
            squares += (value - exact).powi(2);
            views += taken as f64;
        }
        let rounds = rounds as f64;
        ((squares / rounds).sqrt(), views / rounds)
    }
}

/// Returns the smallest number of samples whose distance is at most `wanted`. Between two tried numbers, the
/// distance is interpolated linearly in 1 / √samples.
fn needed(spreads: &[(usize, f64)], wanted: f64) -> f64 {
    let inverse = |samples: usize| (samples as f64).powf(-0.5);
    for (at, &(samples, spread)) in spreads.iter().enumerate() {
        if spread <= wanted {
            let Some(&(before, above)) = at.checked_sub(1).and_then(|at| spreads.get(at)) else {
                return samples as f64;
            };
            let share = (wanted - spread) / (above - spread);
            return (inverse(samples) + share * (inverse(before) - inverse(samples))).powi(-2);
        }
    }
    f64::INFINITY
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

fn geometric_mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let logs: Vec<f64> = numbers.map(f64::ln).collect();
    (logs.iter().sum::<f64>() / logs.len() as f64).exp()
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, items, rest @ ..] = words.as_slice() else {
        anyhow::bail!("expected FOLDER ITEMS.jsonl [ROUNDS]");
    };
    let rounds: u64 = rest.first().map_or(Ok(400), |word| word.parse())?;
    let backbone = Backbone::load(Path::new(folder), Device::Cpu, Kind::Float)?;
    let text = std::fs::read_to_string(items).with_context(|| items.clone())?;
    let mut tables = Vec::new();
    for line in text.lines() {
        tables.push(Table::new(&backbone, &serde_json::from_str(line)?)?);
    }
    let published = |samples, batch| LikelihoodEstimator::Published { samples, batch };
    let wanted = |batch| -> Vec<f64> {
        let one = |table: &Table| table.spread(published(PUBLISHED, batch), rounds).0;
        tables.iter().map(one).collect()
    };
    let baselines = [(32, wanted(32)), (1, wanted(1))];
    let families: [(&str, &dyn Fn(usize) -> LikelihoodEstimator); 3] = [
        ("published, one batch", &|samples| published(samples, samples)),
        ("published, batches of 1", &|samples| published(samples, 1)),
        ("reduced", &|samples| LikelihoodEstimator::Reduced { samples }),
    ];
    for (name, make) in families {
        let mut by_table: Vec<Vec<(usize, f64)>> = vec![Vec::new(); tables.len()];
        for samples in TRIED {
            let spreads: Vec<(f64, f64)> = tables
                .iter()
                .map(|table| table.spread(make(samples), rounds))
                .collect();
            let over = |wanted: &[f64]| {
                geometric_mean(
                    spreads
                        .iter()
                        .zip(wanted)
                        .map(|(spread, wanted)| spread.0 / wanted),
                )
            };
            let views = spreads.iter().map(|spread| spread.1).sum::<f64>() / tables.len() as f64;
            let line = json!({"estimator": name, "samples": samples, "distinct_views": views,
                "error_over_batches_of_32": over(&baselines[0].1), "error_over_batches_of_1": over(&baselines[1].1)});
            println!("{line}");
            for (all, spread) in by_table.iter_mut().zip(spreads) {
                all.push((samples, spread.0));
            }
        }
        for (batch, wanted) in &baselines {
            let fewer: Vec<f64> = by_table
                .iter()
                .zip(wanted)
                .map(|(spreads, &wanted)| PUBLISHED as f64 / needed(spreads, wanted))
                .collect();
            let worst = fewer.iter().copied().fold(f64::INFINITY, f64::min);
            let third = fewer.iter().filter(|&&fewer| fewer >= 3.0).count();
            let line = json!({"estimator": name, "published_batch": batch, "items": tables.len(),
                "times_fewer_median": median(fewer.clone()), "worst": worst, "at_least_3": third, "by_item": fewer});
            println!("{line}");
        }
    }
    Ok(())
}
