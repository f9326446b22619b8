//! The benchmark items that no source may contain, and the rows of this check (law L6).

use std::collections::HashSet;

use demask_datasets::curation::decontaminate::Forbidden;
use demask_datasets::curation::likeness_cache::LikenessCache;
use demask_datasets::formats::Encoded;
use demask_rewards::benchmarks::{Data, Suite, SuiteError};

use super::Report;
use crate::profile::Profile;

/// The rules by which an example is checked against benchmarks.
const RULES: &str = "13-gram, whole, picture, likeness";

/// Registers every benchmark whose data is available. A benchmark that cannot be checked is reported for each source of
/// the profile, with the reason, so that a missing check is a row too (law L6).
pub fn benchmarks(
    profile: &Profile,
    likenesses: &mut LikenessCache,
    report: &mut dyn FnMut(Report),
) -> Forbidden {
    let mut forbidden = Forbidden::default();
    let mut seen = HashSet::new();
    // Pictures are compared only if a source is read from files: generated examples contain no photographs, and the
    // comparison takes time.
    let reads = profile.sources.iter().any(|source| source.kind.reads());
    for suite in profile.suites().checked() {
        // The questions are the same under every protocol.
        let name = suite.benchmark_name().to_owned();
        if !seen.insert(name.clone()) {
            continue;
        }
        let registered = match suite.is_available() {
            true => {
                let shown = reads.then_some(&mut *likenesses);
                register(&suite, (&name, shown), &mut forbidden).map_err(|error| error.to_string())
            }
            false => Err("its data was not found".to_owned()),
        };
        if let Err(error) = registered {
            profile.sources.iter().for_each(|source| {
                report(Report::Clean {
                    source: source.name.clone(),
                    benchmark: name.clone(),
                    rule: format!("not checked: {error}"),
                    checked: 0,
                    overlapped: 0,
                });
            });
        }
    }
    forbidden
}

/// Registers the items of a benchmark: those of a published benchmark by question, choices and picture (the latter
/// where likenesses are wanted), those of another one as they are asked.
fn register(
    suite: &Suite,
    (name, likenesses): (&str, Option<&mut LikenessCache>),
    forbidden: &mut Forbidden,
) -> Result<(), SuiteError> {
    if !matches!(suite.data(), Data::Published(_)) {
        forbidden.register(name, suite.examples(None)?);
        return Ok(());
    }
    let items = suite.items(None)?;
    let likenesses = likenesses.map_or_else(Vec::new, |cache| {
        let shown: Vec<&Encoded> = items.iter().filter_map(|item| item.picture.as_ref()).collect();
        let before = cache.failed();
        let found = cache.of(&shown);
        if cache.failed() > before {
            let failed = cache.failed() - before;
            tracing::warn!(
                "{failed} pictures of {name} cannot be read, so training pictures are not compared with them"
            );
        }
        found
    });
    let texts = items
        .iter()
        .map(|item| (item.bare.as_slice(), item.picture.is_some()));
    forbidden.register_published(name, texts, likenesses);
    Ok(())
}

/// Returns the rows of law L6 for a source: how many examples were checked against each benchmark, and how many
/// overlapped.
pub fn checked(source: &str, forbidden: &Forbidden, count: u64, overlaps: &[u64]) -> Vec<Report> {
    let each = forbidden.benchmarks().iter().zip(overlaps);
    each.map(|(benchmark, &overlapped)| Report::Clean {
        source: source.to_owned(),
        benchmark: benchmark.clone(),
        rule: RULES.to_owned(),
        checked: count,
        overlapped,
    })
    .collect()
}
