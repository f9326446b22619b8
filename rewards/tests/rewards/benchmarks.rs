//! The list of benchmarks: one new file and one line add a benchmark, with any items, protocols and verdicts.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use demask_datasets::example::{Example, Kind, Split};
use demask_datasets::tabletop::Tabletop;
use demask_rewards::benchmarks::{
    BENCHMARKS, Benchmark, Data, Item, ItemRequest, Judged, Protocol, Response, Scoring, Suite, SuiteError,
    SuiteResult, Verdict,
};
use demask_rewards::judge::Completion;
use demask_rewards::verifiers::Verifiers;

/// The benchmark of the new file: choices in circular orders that count only together, judged by likelihood
/// or by a judge model.
struct Circular;

const BY_LIKELIHOOD: Protocol = Protocol::accuracy("");
const BY_JUDGE: Protocol = Protocol::accuracy("judged");

impl Benchmark for Circular {
    fn name(&self) -> &'static str {
        "circular"
    }

    fn about(&self) -> &'static str {
        "a question counts when both orders of its choices are answered right"
    }

    fn protocols(&self) -> &'static [Protocol] {
        &[BY_LIKELIHOOD, BY_JUDGE]
    }

    fn data(&self) -> Data {
        Data::Generated
    }

    fn size(&self) -> usize {
        4
    }

    fn items(&self, _: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        let example = |index| Tabletop::new(1).example(Kind::Question, Split::Test, index);
        let item = |at: usize| {
            let mut item = Item::from(Example {
                category: String::new(),
                held_out: false,
                ..example(at as u64 / 2)
            });
            item.group = Some((at / 2).to_string());
            item
        };
        Ok((0..count).map(item).collect())
    }

    fn request(&self, protocol: &Protocol, _: &Item) -> ItemRequest {
        let choices = ["yes", "no"].map(str::to_owned).to_vec();
        match *protocol == BY_LIKELIHOOD {
            true => ItemRequest::likelihood(choices, 1),
            false => ItemRequest::Generate { may_think: false },
        }
    }

    fn score(&self, _: &Protocol, _: &Item, response: &Response, _: &Verifiers) -> Scoring {
        match response {
            Response::Likelihood(choices) => Scoring::Done((choices[0] > choices[1]).into()),
            Response::Completion(completion) => Scoring::AskJudge {
                system: String::new(),
                prompt: format!("is this right: {}", completion.text),
                otherwise: None,
            },
        }
    }

    fn score_reply(&self, _: &Protocol, _: &Item, reply: &str) -> Option<Verdict> {
        Some((reply == "right").into())
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let mut groups: BTreeMap<_, bool> = BTreeMap::new();
        for Judged { item, verdict } in judged {
            *groups.entry(item.group.clone()).or_insert(true) &= verdict.credit >= 1.0;
        }
        let right = groups.values().filter(|right| **right).count();
        SuiteResult {
            suite: String::new(),
            protocol: protocol.label().to_owned(),
            figure: String::new(),
            metric: protocol.metric.to_owned(),
            value: right as f64 / groups.len() as f64,
            low: 0.0,
            high: 1.0,
            n: groups.len(),
            parts: BTreeMap::new(),
            networks: BTreeMap::new(),
        }
    }
}

fn judged(suite: &Suite, answer: impl Fn(usize, &Item) -> Verdict) -> SuiteResult {
    let items = suite.items(None).unwrap();
    let one = |(at, item): (usize, Item)| Judged {
        verdict: answer(at, &item),
        item,
    };
    let judged: Vec<_> = items.into_iter().enumerate().map(one).collect();
    suite.aggregate(&judged)
}

/// The added benchmark runs under both of its protocols, by likelihood and by a judge, and aggregates its
/// circular orders.
#[test]
fn a_benchmark_that_is_added_is_run_like_the_others_under_each_protocol() {
    let suites: Vec<Suite> = Suite::of(&Circular).collect();
    let names: Vec<_> = suites.iter().map(Suite::name).collect();
    assert_eq!(names, ["circular", "circular:judged"]);
    let verifiers = Verifiers::default();
    let by_likelihood = judged(&suites[0], |at, item| {
        assert!(matches!(suites[0].request(item), ItemRequest::Likelihood { .. }));
        // The last of the four orders is answered wrong, so its question does not count.
        let said = [if at == 3 { -2.0 } else { -0.5 }, -1.0];
        match suites[0].score(item, &Response::Likelihood(&said), &verifiers) {
            Scoring::Done(verdict) => verdict,
            asked => unreachable!("{asked:?}"),
        }
    });
    assert_eq!((by_likelihood.value, by_likelihood.n), (0.5, 2));
    let by_judge = judged(&suites[1], |_, item| {
        let completion = Completion::default();
        let scoring = suites[1].score(item, &Response::Completion(&completion), &verifiers);
        assert!(matches!(scoring, Scoring::AskJudge { .. }));
        suites[1].score_reply(item, "right").unwrap()
    });
    assert_eq!(
        (by_judge.suite.as_str(), by_judge.value),
        ("circular:judged", 1.0)
    );
}

#[test]
fn every_benchmark_has_a_name_of_its_own_and_a_file_of_that_name() {
    let names: BTreeSet<_> = BENCHMARKS.iter().map(|benchmark| benchmark.name()).collect();
    assert_eq!(names.len(), BENCHMARKS.len());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/benchmarks");
    for benchmark in BENCHMARKS {
        let file = format!("{}.rs", benchmark.name().replace('-', "_"));
        let rooms = [
            "",
            "published/text",
            "published/understanding",
            "published/generation",
        ];
        let found = rooms.iter().any(|room| folder.join(room).join(&file).is_file());
        assert!(found, "{file}");
        assert!(Suite::find(benchmark.name()).is_some() && !benchmark.about().is_empty());
    }
}

#[test]
fn the_names_and_measures_that_users_know_stay() {
    let listed: Vec<_> = Suite::all()
        .filter(|suite| suite.protocol().name.is_empty())
        .map(|suite| (suite.name(), suite.metric(), suite.size()))
        .collect();
    let expected = [
        ("tabletop-draw", "mean_of_categories", 600),
        ("tabletop-ask", "accuracy", 400),
        ("tabletop-sums", "accuracy", 400),
        ("fashion-ask", "accuracy", 1000),
        ("fashion-draw", "accuracy", 1000),
        ("gsm8k", "accuracy", 1319),
    ];
    assert_eq!(
        listed,
        expected.map(|(name, metric, size)| (name.to_owned(), metric, size))
    );
}

#[test]
fn held_out_compositions_are_a_part_and_count_nowhere_else() {
    let suite = Suite::find("tabletop-draw").unwrap();
    let items = suite.items(Some(48)).unwrap();
    let judged: Vec<_> = items
        .into_iter()
        .map(|item| Judged {
            verdict: (!item.example.held_out).into(),
            item,
        })
        .collect();
    let result = suite.aggregate(&judged);
    assert_eq!(
        (result.value, result.n, result.parts["composition"]),
        (1.0, 48, 0.0)
    );
    assert_eq!(result.parts.len(), 7);
}

/// Results of several samples are averaged, with `pass@N` as the share of items that one sample has right,
/// without held-out items. A single sample gives the plain result.
#[test]
fn several_samples_are_averaged_and_an_item_passes_that_one_of_them_has_right() {
    let suite = Suite::find("tabletop-ask").unwrap();
    let items = suite.items(Some(30)).unwrap();
    let sample = |period: usize| -> Vec<Judged> {
        let one = |(at, item): (usize, Item)| Judged {
            verdict: at.is_multiple_of(period).into(),
            item,
        };
        items.iter().cloned().enumerate().map(one).collect()
    };
    let (second, third) = (sample(2), sample(3));
    let result = suite.aggregate_samples(&[second.clone(), third.clone()]);
    let (half, third) = (suite.aggregate(&second), suite.aggregate(&third));
    let near = |value: f64, expected: f64| (value - expected).abs() < 1e-12;
    assert!(
        near(result.value, f64::midpoint(half.value, third.value)),
        "{result:?}"
    );
    assert!(near(result.low, f64::midpoint(half.low, third.low)), "{result:?}");
    let counted = items
        .iter()
        .enumerate()
        .filter(|(_, item)| !item.example.held_out);
    let passed = counted
        .clone()
        .filter(|(at, _)| at % 2 == 0 || at % 3 == 0)
        .count();
    assert!(
        near(result.parts["pass@2"], passed as f64 / counted.count() as f64),
        "{result:?}"
    );
    assert_eq!(result.n, half.n);
    assert!(result.protocol.ends_with("mean of 2 samples"), "{result:?}");
    assert_eq!(suite.aggregate_samples(std::slice::from_ref(&second)), half);
}

#[test]
fn pictures_are_drawn_in_one_size_and_shown_as_squares() {
    let takes = |name: &str, width, height| Suite::find(name).unwrap().takes(width, height);
    assert_eq!(
        takes("tabletop-draw", 48, 32).unwrap_err(),
        "drawings of tabletop-draw are judged at 32x32 pixels only"
    );
    assert_eq!(
        takes("fashion-ask", 48, 32).unwrap_err(),
        "the pictures of fashion-ask are square, so the size must be square"
    );
    assert!(takes("tabletop-ask", 48, 48).is_ok() && takes("gsm8k", 48, 32).is_ok());
}
