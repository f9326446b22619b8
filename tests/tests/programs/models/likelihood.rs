//! A benchmark by log-likelihoods of choices, on the shipped model through the built engine.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use demask_actors::engine::options::EngineOptions;
use demask_actors::engine::process::EngineProcess;
use demask_actors::inference::checkpoint_settings;
use demask_actors::inference::complete::Inference;
use demask_actors::inference::error::WorkError;
use demask_actors::inference::likelihood::LikelihoodRequest;
use demask_actors::inference::settings::SamplerSettings;
use demask_actors::pipeline::evaluation::Judges;
use demask_actors::pipeline::evaluation::evaluator::{SuiteRun, SuiteWatcher, run_suite};
use demask_actors::pipeline::evaluation::item_result::ItemResult;
use demask_actors::pipeline::evaluation::trial::{LikelihoodWay, Trial};
use demask_api::{LikelihoodEstimator, LoadOptions, LogLikelihood, ModelSource};
use demask_datasets::example::{Example, Kind, Mode, Split};
use demask_datasets::tabletop::Tabletop;
use demask_rewards::benchmarks::{
    Benchmark, Data, Item, ItemRequest, Protocol, Response, Scoring, Suite, SuiteError, Verdict,
};
use demask_rewards::verifiers::Verifiers;
use demask_tests::home::programs;

/// Questions about tabletop pictures with colours as choices; one item has a choice that is too long for this model.
struct Colours;

const COLOURS: [&str; 4] = ["red", "green", "blue", "yellow"];
const ITEMS: usize = 12;
/// The item whose choice is too long.
const TOO_LONG: usize = 5;

fn colour_questions() -> impl Iterator<Item = Example> {
    let all = (0..).map(|index| Tabletop::new(3).example(Kind::Question, Split::Test, index));
    all.filter(|example| COLOURS.contains(&example.reference().as_str()))
}

impl Benchmark for Colours {
    fn name(&self) -> &'static str {
        "colours"
    }

    fn about(&self) -> &'static str {
        "colours by likelihood"
    }

    fn data(&self) -> Data {
        Data::Generated
    }

    fn size(&self) -> usize {
        ITEMS
    }

    fn items(&self, _: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        let plain = |example| Example {
            held_out: false,
            ..example
        };
        Ok(colour_questions()
            .take(count)
            .map(plain)
            .map(Item::from)
            .collect())
    }

    fn request(&self, protocol: &Protocol, item: &Item) -> ItemRequest {
        let mut choices = COLOURS.map(str::to_owned).to_vec();
        // A choice of several tokens, whose likelihood is estimated.
        choices.push("small green triangle right".into());
        let items = self.items(protocol, ITEMS).unwrap();
        if items[TOO_LONG] == *item {
            choices.push("red ".repeat(400));
        }
        ItemRequest::Likelihood {
            choices,
            samples: 16,
            guidance: 0.0,
        }
    }

    fn score(&self, _: &Protocol, item: &Item, response: &Response, _: &Verifiers) -> Scoring {
        let Response::Likelihood(values) = response else {
            panic!("{response:?}")
        };
        let best = (0..COLOURS.len()).max_by(|&one, &other| values[one].total_cmp(&values[other]));
        Scoring::Done(Verdict {
            credit: f64::from(u8::from(COLOURS[best.unwrap()] == item.example.reference())),
            answer: COLOURS[best.unwrap()].into(),
        })
    }
}

/// The store of an evaluation: all judged items by number. It knows the items that it was given.
#[derive(Default)]
struct Kept {
    known: BTreeMap<usize, ItemResult>,
    judged: Vec<usize>,
}

impl SuiteWatcher for Kept {
    fn known(&mut self, number: usize, _: &Item) -> Option<ItemResult> {
        self.known.get(&number).cloned()
    }

    fn judged(&mut self, items: &[ItemResult]) -> Result<(), WorkError> {
        self.judged.extend(items.iter().map(|item| item.number));
        Ok(())
    }

    fn progress(&mut self, _: usize, _: usize) -> bool {
        true
    }
}

/// Runs `work` with the shipped model on an engine.
fn with_model(work: impl AsyncFnOnce(&Inference, &EngineProcess)) {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/shipped/tabletop");
    let inference = checkpoint_settings::inference(&dir).unwrap();
    let options = EngineOptions {
        program: Some(programs().join("demask-engine")),
        threads: Some(1),
        device: "cpu".into(),
        dtype: "f32".into(),
        ..EngineOptions::default()
    };
    let model = ModelSource::Checkpoint {
        dir,
        resume: false,
        average: false,
        image_tokenizer: None,
        options: LoadOptions::sampling(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let engine = EngineProcess::start(&options).await.unwrap();
        engine.ask(&demask_api::Request::Load { model }).await.unwrap();
        work(&inference, &engine).await;
        engine.stop().await;
    });
}

async fn run((inference, engine): (&Inference, &EngineProcess), batch: usize, kept: &mut Kept) -> SuiteRun {
    let trial = Trial {
        limit: None,
        samples: 1,
        mode: Mode::Think,
        samplers: SamplerSettings::default(),
        seed: 11,
        networks: None,
        external: None,
        judges: Judges::default(),
        size: None,
        cuts: false,
        likelihood: LikelihoodWay::default(),
        shard: None,
        batch,
    };
    let suite = Suite::of(&Colours).next().unwrap();
    run_suite(inference, engine, &suite, &trial, kept).await.unwrap()
}

/// Returns what does not depend on time: values to two decimals, as displayed.
fn shown(run: &SuiteRun) -> Vec<(usize, String, String, usize)> {
    let one = |item: &ItemResult| {
        let verdict = item.judged.verdict.answer.clone();
        (item.number, item.output.clone(), verdict, item.forwards)
    };
    run.items.iter().map(one).collect()
}

/// Choices are scored by log-likelihood: exactly for one token, with an error estimate for several. A choice
/// that is too long is not asked and counts as wrong. Continuing a half-finished evaluation in other batches
/// gives the same result.
#[test]
fn choices_are_scored_kept_and_gone_on_with() {
    with_model(async |inference, engine| {
        let mut whole = Kept::default();
        let first = run((inference, engine), 384, &mut whole).await;
        assert_eq!(whole.judged.len(), ITEMS);
        // Chance is a quarter. The model was trained on answers that are filled up after the word.
        assert!(first.result.value > 0.5, "{:?}", first.result);
        for item in &first.items {
            if item.number == TOO_LONG {
                assert!(
                    item.output.starts_with("not asked: the prompt and a choice have"),
                    "{}",
                    item.output
                );
                assert_eq!((item.forwards, item.judged.verdict.credit), (0, 0.0));
                continue;
            }
            let lines: Vec<&str> = item.output.lines().collect();
            assert_eq!(lines.len(), 5, "{}", item.output);
            assert!(
                lines[0].starts_with("red -") && lines[0].ends_with(" ± 0.00"),
                "one token is exact"
            );
            assert!(!lines[4].ends_with(" ± 0.00"), "{}", lines[4]);
            // One forward pass per colour, and at most one per sample of the long choice.
            assert!((6..=20).contains(&item.forwards), "{}", item.forwards);
        }
        // Other batches, half of them known already, give the same result.
        let mut other = Kept {
            known: first.items[..6]
                .iter()
                .map(|item| (item.number, item.clone()))
                .collect(),
            judged: Vec::new(),
        };
        let again = run((inference, engine), 4, &mut other).await;
        assert_eq!(other.judged, (6..ITEMS).collect::<Vec<_>>());
        assert_eq!(shown(&again), shown(&first));
        assert_eq!(again.result, first.result);
    });
}

/// Plain text is not wrapped in a chat, and the spaces at its end belong to the choice.
#[test]
fn spaces_at_the_end_of_a_context_move_to_the_choice() {
    with_model(async |inference, engine| {
        let asked = |prompt: &str, choice: &str| LikelihoodRequest {
            example: Example {
                kind: Kind::Text,
                prompt: prompt.into(),
                ..Tabletop::new(3).example(Kind::WordProblem, Split::Test, 0)
            },
            choices: vec![choice.into(), "nothing of the kind".into()],
            estimator: LikelihoodEstimator::Chain,
            guidance: 0.0,
            seed: 0,
        };
        let all = [
            asked("a red circle left of a blue", " square"),
            asked("a red circle left of a blue ", "square"),
            asked("a red circle left of a green", " square"),
        ];
        let values = inference.log_likelihoods(engine, &all).await.unwrap();
        let first = |at: usize| -> LogLikelihood { values[at][0] };
        assert_eq!(first(0), first(1));
        assert_ne!(first(0), first(2));
        assert!(values.iter().all(|values| values.len() == 2));
        let builder = inference.builder();
        let tokens = builder.choices(&all[1].example, &all[1].choices, &[]).unwrap();
        let whole = builder
            .tokenizer()
            .encode("a red circle left of a blue square")
            .unwrap();
        assert_eq!([tokens.prompt, tokens.choices[0].clone()].concat(), whole);
        let empty = builder
            .choices(&all[0].example, &[String::new()], &[])
            .unwrap_err();
        assert_eq!(
            empty.to_string(),
            "the choice \"\" has no tokens, expected at least 1"
        );
    });
}
