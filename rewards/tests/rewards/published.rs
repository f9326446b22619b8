//! The published benchmarks on their embedded rows and on miniatures of the published file layouts
//! (`fixtures/benchmarks/`, made-up rows). Every layout gives the same questions, and an answer that the
//! benchmark's own scorer accepts counts as right.

use std::path::{Path, PathBuf};

use demask_api::PictureSize;
use demask_datasets::example::Kind;
use demask_rewards::benchmarks::published::embedded;
use demask_rewards::benchmarks::{
    Data, Item, ItemRequest, Judged, Response, Scoring, Suite, SuiteResult, Verdict,
};
use demask_rewards::judge::Completion;
use demask_rewards::verifiers::Verifiers;

const SIZE: PictureSize = PictureSize {
    width: 16,
    height: 16,
};

fn published() -> impl Iterator<Item = Suite> {
    Suite::all().filter(|suite| matches!(suite.data(), Data::Published(_)))
}

/// Writes the embedded rows to a folder.
fn laid_down() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    embedded::lay_down(folder.path()).unwrap();
    folder
}

fn completion(text: &str) -> Completion {
    Completion {
        text: text.to_owned(),
        picture: None,
        tokens: 1,
    }
}

/// Returns the verdict on a perfect model's response.
fn perfect(suite: &Suite, item: &Item) -> Verdict {
    let right = item.example.reference();
    let scored = match suite.request(item) {
        ItemRequest::Likelihood { choices, .. } => {
            let marked = [format!(" {right}"), format!(" ({right})")];
            let lettered = item
                .example
                .columns
                .get("options")
                .and_then(|options| options.get(&right));
            let named = lettered
                .and_then(|text| text.as_str())
                .map(|text| format!(" {text}"));
            let values: Vec<f64> = choices
                .iter()
                .map(|choice| {
                    if marked.contains(choice) || named.as_ref() == Some(choice) {
                        -0.1
                    } else {
                        -9.0
                    }
                })
                .collect();
            suite.score(item, &Response::Likelihood(&values), &Verifiers::default())
        }
        ItemRequest::Generate { .. } => {
            let said = match suite.name().split(':').next().unwrap() {
                "gsm8k" => format!("so it is\n#### {right}"),
                "math" | "math-500" => format!(
                    "\\boxed{{{right}}} Final Answer: The final answer is ${right}$. I hope it is correct."
                ),
                "gpqa" => format!("The correct answer is ({right})"),
                "mme" | "pope" => right[..1].to_uppercase() + &right[1..],
                _ => right.clone(),
            };
            suite.score(
                item,
                &Response::Completion(&completion(&said)),
                &Verifiers::default(),
            )
        }
    };
    match scored {
        Scoring::Done(verdict) => verdict,
        Scoring::AskNetwork { .. } => suite.score_reply(item, "0.3").unwrap(),
        Scoring::AskJudge { prompt, .. } => {
            assert!(prompt.contains(&item.example.prompt), "{prompt}");
            suite
                .score_reply(item, "Consistency: 2\nRealism: 2\nAesthetic Quality: 2\nScore: 1")
                .unwrap()
        }
        Scoring::AskDetector { classes, .. } => {
            let counted = item.example.prompt.contains("two");
            let one = "[0, 0, 9, 9, 0.95, \"red\"]";
            let boxes = if counted {
                format!("{one}, {one}")
            } else {
                one.to_owned()
            };
            let reply = format!("{{\"detections\": {{\"{}\": [{boxes}]}}}}", classes[0]);
            suite.score_reply(item, &reply).unwrap()
        }
        Scoring::AskReward { reward } => panic!("{reward}"),
    }
}

fn judged(suite: &Suite, verdict: impl Fn(&Suite, &Item) -> Verdict) -> (Vec<Judged>, SuiteResult) {
    let items = suite
        .items(None)
        .unwrap_or_else(|error| panic!("{}: {error}", suite.name()));
    let judged: Vec<Judged> = items
        .into_iter()
        .map(|item| {
            let item = suite.with_picture(&item, SIZE);
            assert_eq!(item.broken, None, "{}", suite.name());
            let verdict = verdict(suite, &item);
            Judged { item, verdict }
        })
        .collect();
    let result = suite.aggregate(&judged);
    (judged, result)
}

#[test]
fn eighteen_benchmarks_are_there() {
    let mut names: Vec<String> = published()
        .map(|suite| suite.name().split(':').next().unwrap().to_owned())
        .collect();
    names.dedup();
    // MATH-500 is a part of MATH.
    assert_eq!(names.len(), 19, "{names:?}");
    for suite in published() {
        assert!(!suite.protocol().label().is_empty());
        assert!(
            suite.name() == "gsm8k" || suite.name().contains(':'),
            "{}",
            suite.name()
        );
    }
    assert_eq!(Suite::find("mmlu").unwrap().name(), "mmlu:llada-base");
    assert!(Suite::find("mmlu:none").is_none());
}

/// On every published suite, a perfect model reaches the best figure and a model that gives no answer scores
/// lower. A protocol that lost the right answers, or counted any answer as right, would fail.
#[test]
fn a_perfect_model_is_right_everywhere_and_a_mute_one_is_not() {
    let folder = laid_down();
    for suite in published() {
        let suite = suite.within(folder.path().to_owned());
        let name = suite.name();
        assert!(suite.is_available(), "{name}");
        let (all, result) = judged(&suite, perfect);
        assert!(!all.is_empty(), "{name}");
        assert_eq!(result.protocol, suite.protocol().label(), "{name}");
        assert!(
            result.low <= result.value && result.value <= result.high,
            "{name}: {result:?}"
        );
        let is_drawn = all.iter().all(|one| one.item.example.kind == Kind::TextToImage);
        if !is_drawn && !name.starts_with("flickr30k") && !name.starts_with("truthfulqa:llada-base") {
            for one in &all {
                assert_eq!(one.verdict.credit, 1.0, "{name}: {one:?}");
            }
        }
        match name.as_str() {
            "mme:official" => {
                // Three of the ten perception tasks, each with its full score.
                assert_eq!(result.figure, "600.0 of 2000, cognition 200.0 of 800");
            }
            name if name.starts_with("mme") => {
                assert!(result.figure.starts_with("600.0 of 2000"), "{}", result.figure)
            }
            name if name.starts_with("wise") => assert!(
                result.figure.starts_with("no overall score: 2 of 1000"),
                "{}",
                result.figure
            ),
            "clip-score:mmada" => assert_eq!(result.figure, "30.000 (clip_score_100)"),
            "clip-score:image-reward" => assert_eq!(result.figure, "0.300 (cosine)"),
            "clip-score:clipscore" => assert_eq!(result.figure, "0.750 (clip_score_2.5)"),
            "image-reward:official" => assert_eq!(result.figure, "0.300"),
            name if name.starts_with("flickr30k") => {
                assert!(result.figure.starts_with("CIDEr "), "{}", result.figure)
            }
            "truthfulqa:llada-base" => assert!(result.value > 0.4, "{result:?}"),
            _ => assert!(result.value > 0.999, "{name}: {result:?}"),
        }
        if !is_drawn {
            let mute = |suite: &Suite, item: &Item| match suite.request(item) {
                ItemRequest::Likelihood { choices, .. } => {
                    let right = item.example.reference();
                    let flat: Vec<f64> = choices
                        .iter()
                        .map(|choice| if choice.contains(&right) { -99.0 } else { -1.0 })
                        .collect();
                    let Scoring::Done(verdict) =
                        suite.score(item, &Response::Likelihood(&flat), &Verifiers::default())
                    else {
                        panic!()
                    };
                    verdict
                }
                ItemRequest::Generate { .. } => {
                    let said = completion("I do not wish to say.");
                    match suite.score(item, &Response::Completion(&said), &Verifiers::default()) {
                        Scoring::Done(verdict) => verdict,
                        Scoring::AskJudge { otherwise, .. } => otherwise.unwrap(),
                        other => panic!("{other:?}"),
                    }
                }
            };
            if !name.ends_with("ranking") {
                let (_, mute) = judged(&suite, mute);
                assert!(mute.value < result.value, "{name}: {mute:?}");
            }
        }
    }
}

#[test]
fn a_limit_never_parts_a_group() {
    let folder = laid_down();
    let count = |name: &str, limit| {
        let suite = Suite::find(name).unwrap().within(folder.path().to_owned());
        suite.items(Some(limit)).unwrap().len()
    };
    assert_eq!(count("mme:official", 1), 2);
    assert_eq!(count("mme:official", 3), 4);
    assert_eq!(count("mmbench:mmada", 1), 4);
    assert_eq!(count("mmlu:llada-base", 3), 3);
    assert_eq!(count("geneval:official", 1), 4);
}

/// An item's prompt has five shots, drawn anew for each item, then the question. MMLU's shots are those of the item's
/// subject.
#[test]
fn shots_are_the_draws_of_pythons_generator() {
    let folder = laid_down();
    let suite = Suite::find("gsm8k:lm-eval")
        .unwrap()
        .within(folder.path().to_owned());
    let items = suite.items(None).unwrap();
    // lm-eval draws them by `sample(range(7), 5)` of one `random.Random(1234)`, once per item.
    let counts = |item: &Item| -> Vec<u32> {
        let shots = item.example.prompt.split("A table has ").skip(1);
        shots
            .map(|shot| shot.split(' ').next().unwrap().parse::<u32>().unwrap() - 2)
            .collect()
    };
    assert_eq!(counts(&items[0]), [6, 3, 0, 4, 5]);
    assert_eq!(counts(&items[1]), [6, 4, 0, 5, 3]);
    assert!(
        items[0]
            .example
            .prompt
            .ends_with("Question: Ann has 3 apples and gets 4 more. How many has she?\nAnswer:")
    );
    let mmlu = Suite::find("mmlu:llada-base")
        .unwrap()
        .within(folder.path().to_owned());
    let prompt = &mmlu.items(None).unwrap()[0].example.prompt;
    assert!(
        prompt.starts_with("The following are multiple choice questions (with answers) about elementary mathematics.\n\nWhat is 2 + 2?\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer: B\n\n"),
        "{prompt}"
    );
}

#[test]
fn our_own_protocol_of_gsm8k_reasons_and_published_ones_do_not() {
    let folder = laid_down();
    let first = |name: &str| {
        let suite = Suite::find(name).unwrap().within(folder.path().to_owned());
        let item = suite.items(Some(1)).unwrap().remove(0);
        (suite.request(&item), item)
    };
    let (request, item) = first("gsm8k");
    assert_eq!(request, ItemRequest::Generate { may_think: true });
    assert!(item.example.reasoning.is_some(), "{item:?}");
    assert_eq!(item.bare.concat(), item.example.prompt);
    let (request, item) = first("gsm8k:mmada");
    assert_eq!(request, ItemRequest::Generate { may_think: false });
    // L6: the question is kept from training, not the training rows that are shown before it.
    assert_eq!(item.bare, ["Ann has 3 apples and gets 4 more. How many has she?"]);
}

#[test]
fn secret_questions_are_marked() {
    let folder = laid_down();
    for name in ["gpqa:llada-base", "gpqa:lm-eval", "gpqa:llada-instruct"] {
        let suite = Suite::find(name).unwrap().within(folder.path().to_owned());
        let items = suite.items(None).unwrap();
        assert!(
            !items.is_empty() && items.iter().all(|item| item.is_secret),
            "{name}"
        );
    }
}

/// Copies one layout of a benchmark's fixture files to a data folder.
fn form(benchmark: &str, form: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/benchmarks")
        .join(benchmark)
        .join(form);
    let to = folder.path().join("benchmarks").join(benchmark);
    copy(&from, &to);
    (folder, to)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Every published file layout of a benchmark yields items with a prompt, a reference and a picture that
/// decodes. The snapshot holds the number of items of each suite.
#[test]
fn every_form_of_a_benchmarks_files_gives_its_questions() {
    let forms = [
        ("pope", "official", 12),
        ("pope", "hub", 12),
        ("pope", "vlmevalkit", 0),
        ("mme", "official", 6),
        ("mme", "hub", 6),
        ("mme", "vlmevalkit", 6),
        ("gqa", "official", 0),
        ("gqa", "hub", 0),
        ("gqa", "vlmevalkit", 0),
        ("vqav2", "official", 0),
        ("vqav2", "hub", 0),
        ("flickr30k", "hub", 0),
        ("flickr30k", "vlmevalkit-caption-form", 0),
        ("mmbench", "hub", 0),
        ("mmbench", "legacy", 0),
        ("mmbench", "vlmevalkit", 0),
        ("mmmu", "hub", 0),
        ("mmmu", "vlmevalkit", 0),
        ("seed", "official", 0),
        ("seed", "hub", 0),
        ("seed", "vlmevalkit", 0),
    ];
    let mut found = Vec::new();
    for (benchmark, kind, count) in forms {
        let (folder, _) = form(benchmark, kind);
        let suites = published().filter(|suite| suite.name().split(':').next() == Some(benchmark));
        for suite in suites {
            let suite = suite.within(folder.path().to_owned());
            let items = suite
                .items(None)
                .unwrap_or_else(|error| panic!("{benchmark} {kind}: {error}"));
            if count > 0 {
                assert_eq!(items.len(), count, "{benchmark} {kind}");
            }
            for item in &items {
                let item = suite.with_picture(item, SIZE);
                assert_eq!(item.broken, None, "{} {kind}", suite.name());
                assert!(item.example.picture.is_some(), "{} {kind}", suite.name());
                assert!(!item.example.prompt.is_empty() && !item.example.reference().is_empty());
            }
            found.push(format!("{} {kind} {}", suite.name(), items.len()));
        }
    }
    insta::assert_snapshot!(found.join("\n"));
}

/// A benchmark with too many broken rows is refused with the first of them. A single one among many is an
/// item that counts as wrong.
#[test]
fn broken_rows_are_named_and_too_many_are_refused() {
    let (folder, _) = form("pope", "official");
    let of = folder.path().join("benchmarks/pope/coco/coco_pope_random.json");
    let text = std::fs::read_to_string(&of).unwrap();
    std::fs::write(&of, format!("{text}no row\n")).unwrap();
    let suite = Suite::find("pope").unwrap().within(folder.path().to_owned());
    let error = suite.items(None).unwrap_err().to_string();
    assert!(
        error.contains("1 of 13 rows are broken") && error.contains("coco_pope_random.json:5"),
        "{error}"
    );
    // One row in 200 is broken. It is not asked, and counts as wrong.
    let more = text.repeat(60);
    std::fs::write(&of, format!("{more}no row\n")).unwrap();
    let (fresh, _) = form("pope", "official");
    std::fs::write(
        fresh.path().join("benchmarks/pope/coco/coco_pope_random.json"),
        format!("{more}no row\n"),
    )
    .unwrap();
    let suite = Suite::find("pope").unwrap().within(fresh.path().to_owned());
    let broken: Vec<String> = suite
        .items(None)
        .unwrap()
        .into_iter()
        .filter_map(|item| item.broken)
        .collect();
    assert_eq!(broken.len(), 1);
    assert!(broken[0].contains("coco_pope_random.json:241"), "{broken:?}");
}

/// The release has both splits, and the training split is nearly three times as large.
#[test]
fn the_validation_split_of_vqav2_is_read_also_beside_the_training_split() {
    let (folder, files) = form("vqav2", "official");
    let suite = || Suite::find("vqav2").unwrap().within(folder.path().to_owned());
    let validation = suite().items(None).unwrap();
    for name in [
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "v2_mscoco_train2014_annotations.json",
    ] {
        std::fs::write(files.join(name), "not read").unwrap();
    }
    assert_eq!(suite().items(None).unwrap().len(), validation.len());
}

/// Reading a pipe would never end.
#[test]
fn l10_a_pipe_among_the_files_of_a_benchmark_is_none_of_them() {
    for (benchmark, kind, pipe, count) in [
        ("pope", "official", "coco/coco_pope_more.json", 12),
        ("mme", "official", "more.txt", 6),
    ] {
        let (folder, files) = form(benchmark, kind);
        let made = std::process::Command::new("mkfifo")
            .arg(files.join(pipe))
            .status()
            .unwrap();
        assert!(made.success());
        let suite = Suite::find(benchmark).unwrap().within(folder.path().to_owned());
        assert_eq!(suite.items(None).unwrap().len(), count, "{benchmark}");
    }
}

/// Items that are read back from the store, of a continued or merged evaluation, have the reply as the answer if nothing
/// was parsed. The figure is the same as of items that were judged just now.
#[test]
fn stored_replies_without_a_letter_give_the_same_figure() {
    let folder = laid_down();
    let suite = Suite::find("mmbench:vlmevalkit")
        .unwrap()
        .within(folder.path().to_owned());
    // The present version of VLMEvalKit takes a letter near the end only, MMaDA's copy anywhere.
    let said = |item: &Item| format!("{} would be what I take it to be here", item.example.reference());
    let (fresh, result) = judged(&suite, |suite, item| {
        match suite.score(
            item,
            &Response::Completion(&completion(&said(item))),
            &Verifiers::default(),
        ) {
            Scoring::AskJudge { otherwise, .. } => otherwise.unwrap(),
            other => panic!("{other:?}"),
        }
    });
    assert!(fresh.iter().all(|one| one.verdict.answer.is_empty()));
    let stored: Vec<Judged> = fresh
        .into_iter()
        .map(|mut one| {
            one.verdict.answer = said(&one.item);
            one
        })
        .collect();
    assert_eq!(result.value, 0.0);
    assert_eq!(suite.aggregate(&stored), result);
}

/// The files decide how many items a full run has, not the published number: a list of prompts may be the user's.
#[test]
fn every_row_of_the_files_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let of = folder.path().join("benchmarks/clip-score");
    std::fs::create_dir_all(&of).unwrap();
    let prompts: Vec<String> = (0..50).map(|number| format!("{number} red circles")).collect();
    std::fs::write(of.join("prompts.txt"), prompts.join("\n")).unwrap();
    let suite = Suite::find("clip-score")
        .unwrap()
        .within(folder.path().to_owned());
    assert_eq!(suite.size(), 31);
    assert_eq!(suite.items(None).unwrap().len(), 50);
    assert_eq!(suite.items(Some(40)).unwrap().len(), 40);
}

/// Evaluations are compared item by item, so the same question about another picture is another item. The same question
/// about the same picture, which is in several splits, stays one.
#[test]
fn an_items_id_tells_its_picture() {
    let (folder, of) = form("pope", "official");
    let row = |picture: &str| {
        format!(
            r#"{{"question_id": 1, "image": "COCO_val2014_{picture}.jpg", "text": "Is there a cat?", "label": "yes"}}"#
        )
    };
    let rows = [row("000000000073"), row("000000000042"), row("000000000073")];
    std::fs::write(of.join("coco/coco_pope_random.json"), rows.join("\n")).unwrap();
    let suite = Suite::find("pope").unwrap().within(folder.path().to_owned());
    let items = suite.items(None).unwrap();
    let random = items.iter().filter(|item| item.example.category == "random");
    let ids: Vec<&str> = random.map(|item| item.example.id.as_str()).collect();
    assert_eq!(ids.len(), 3);
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
}

#[test]
fn what_is_not_there_says_how_to_get_it() {
    let nowhere = tempfile::tempdir().unwrap();
    let suite = Suite::find("mmlu").unwrap().within(nowhere.path().to_owned());
    assert!(!suite.is_available());
    let error = suite.items(None).unwrap_err().to_string();
    assert!(error.contains("demask pull --benchmark mmlu"), "{error}");
    let wise = Suite::find("wise").unwrap().within(nowhere.path().to_owned());
    let error = wise.items(None).unwrap_err().to_string();
    assert!(error.contains("PKU-YuanGroup/WISE"), "{error}");
}

/// MMBench's fallbacks, in order: what the reply says, what the judge says about the reply, and a random
/// choice that depends on the question only.
#[test]
fn mmbench_asks_a_judge_only_about_what_it_cannot_match() {
    let folder = laid_down();
    let suite = Suite::find("mmbench:vlmevalkit").unwrap();
    assert!(suite.may_be_judged() && !Suite::find("seed").unwrap().may_be_judged());
    let within = |suite: &Suite| suite.clone().within(folder.path().to_owned());
    let item = within(&suite).items(None).unwrap().remove(0);
    let score = |reply: &str| {
        suite.score(
            &item,
            &Response::Completion(&completion(reply)),
            &Verifiers::default(),
        )
    };
    assert_eq!(
        score("A"),
        Scoring::Done(Verdict {
            credit: 1.0,
            answer: "A".to_owned()
        })
    );
    assert_eq!(
        score("it is blue"),
        Scoring::Done(Verdict {
            credit: 0.0,
            answer: "B".to_owned()
        })
    );
    let Scoring::AskJudge {
        prompt, otherwise, ..
    } = score("the colour of blood")
    else {
        panic!()
    };
    assert_eq!(otherwise, Some(Verdict::default()));
    assert!(
        prompt.contains("Question: Which colour is the circle??")
            && prompt.contains("A. red\nB. blue")
            && prompt.ends_with("Answer: the colour of blood\nYour output: "),
        "{prompt}"
    );
    assert_eq!(suite.score_reply(&item, "A").unwrap().credit, 1.0);
    assert_eq!(suite.score_reply(&item, "Z").unwrap().answer, "Z");
    assert_eq!(suite.score_reply(&item, "who knows"), None);
    let drawn = suite.unread_reply(&item).unwrap();
    assert_eq!(suite.unread_reply(&item), Some(drawn.clone()));
    assert!(
        ["A", "B", "C", "D", "Z"].contains(&drawn.answer.as_str()),
        "{drawn:?}"
    );
    // A custom judge prompt. Text that is inserted is not expanded again.
    let own = folder.path().join("benchmarks/mmbench/judge_prompt.txt");
    std::fs::write(own, "{QUESTION} {x} {OPTIONS} / {ANSWER}").unwrap();
    let item = within(&suite).items(None).unwrap().remove(0);
    let Scoring::AskJudge { prompt, .. } = suite.score(
        &item,
        &Response::Completion(&completion("an {OPTIONS}")),
        &Verifiers::default(),
    ) else {
        panic!()
    };
    assert_eq!(
        prompt,
        "Which colour is the circle? {x} A. red\nB. blue\nC. green\nD. black / an {OPTIONS}"
    );
}

/// MMaDA's copy of VLMEvalKit reads a picture from the JPEG file that it wrote, unless the table names the
/// file as PNG.
#[test]
fn the_protocol_mmada_shows_pictures_through_jpeg() {
    let folder = laid_down();
    let shown = |suite: &str| {
        let suite = Suite::find(suite).unwrap().within(folder.path().to_owned());
        let item = suite.items(None).unwrap().remove(0);
        suite.with_picture(&item, SIZE).example.picture.unwrap()
    };
    assert_ne!(shown("mmbench:mmada"), shown("mmbench:vlmevalkit"));
    // MME's files are PNG here.
    assert_eq!(shown("mme:mmada"), shown("mme:official"));
}

/// Protocols for base models continue a text, those for chat models answer in a chat.
#[test]
fn base_protocols_ask_without_a_chat() {
    let folder = laid_down();
    let kind = |suite: &str| {
        let suite = Suite::find(suite).unwrap().within(folder.path().to_owned());
        suite.items(None).unwrap()[0].example.kind
    };
    for plain in [
        "gsm8k:lm-eval",
        "gsm8k:lm-eval-strict",
        "math:llada-base",
        "math:lm-eval",
        "math-500:llada-base",
    ] {
        assert_eq!(kind(plain), Kind::Text, "{plain}");
    }
    for chat in ["gsm8k:mmada", "gsm8k:llada-instruct", "math:llada-instruct"] {
        assert_eq!(kind(chat), Kind::WordProblem, "{chat}");
    }
}
