//! Published model folders: their family, their special tokens, and their prompts token by token.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::LazyLock;

use demask_api::{Quirks, Span, Template};
use demask_datasets::example::{Check, Example, Kind, Mode, Split};
use demask_datasets::prompts::published;
use demask_datasets::prompts::sequences::{Budgets, SequenceBuilder, SequenceError};
use demask_datasets::prompts::style::{PromptStyle, PromptTask, THINK};
use demask_datasets::prompts::text_tokenizer::{Family, SpecialTokens, Stated, TextTokenizer};
use demask_datasets::tabletop::Tabletop;

/// A small tokenizer whose special tokens have LLaDA's names.
static JSON: LazyLock<String> = LazyLock::new(|| {
    let ours = TextTokenizer::train(&Tabletop::new(0).corpus(100), 400).unwrap();
    let mut json = ours.to_json().unwrap();
    for (ours, theirs) in [
        ("<|soi|>", "<|reserved_token_0|>"),
        ("<|eoi|>", "<|reserved_token_1|>"),
        ("<|t2i|>", "<|reserved_token_4|>"),
        ("<|mmu|>", "<|reserved_token_5|>"),
        ("[iPAD]", "<|reserved_token_9|>"),
        ("<|r2i|>", "<|reserved_token_10|>"),
    ] {
        json = json.replace(ours, theirs);
    }
    json
});

fn tokenizer() -> TextTokenizer {
    TextTokenizer::published(&JSON, Family::Mmada, Stated::default()).unwrap()
}

fn builder(style: PromptStyle, quirks: Quirks) -> SequenceBuilder {
    SequenceBuilder::new(tokenizer(), Budgets::published(4096, 64, 16))
        .with_style(style)
        .with_quirks(quirks)
}

fn mmada() -> PromptStyle {
    PromptStyle {
        family: Family::Mmada,
        template: None,
        names: [("bos_token".to_owned(), "<|startoftext|>".to_owned())].into(),
    }
}

fn example(kind: Kind, prompt: &str) -> Example {
    Example {
        id: String::new(),
        source: String::new(),
        place: String::new(),
        licence: String::new(),
        split: Split::Test,
        kind,
        category: String::new(),
        held_out: false,
        prompt: prompt.to_owned(),
        turns: Vec::new(),
        columns: serde_json::Map::new(),
        picture: None,
        reasoning: None,
        answer: None,
        check: Check::None,
    }
}

/// Returns a user's turn as the published code builds it: the text between two special tokens is tokenized in
/// one piece.
fn chat(feed: &str, words: &str, end: Option<&str>) -> Vec<u32> {
    let (t, s) = (tokenizer(), tokenizer().specials());
    let text = |text: &str| t.encode(text).unwrap();
    let mut ids = vec![s.bos, s.start_header];
    ids.extend(text("user"));
    ids.push(s.end_header);
    match end {
        None => ids.extend([text(&format!("{feed}{words}")), vec![s.eot]].concat()),
        Some(end) => ids.extend(text(&format!("{feed}{words}{end}"))),
    }
    ids.push(s.start_header);
    ids.extend(text("assistant"));
    ids.push(s.end_header);
    ids.extend(text(feed));
    ids
}

fn write(dir: &Path, config: &str) {
    std::fs::write(dir.join("config.json"), config).unwrap();
    std::fs::write(dir.join("tokenizer.json"), JSON.as_str()).unwrap();
}

/// The family of a published folder follows from its configuration. A folder with Demask's manifest is not a
/// published one.
#[test]
fn a_folder_says_whose_it_is() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!published::is_published(dir.path()));
    for (config, family) in [
        (r#"{"model_type": "llada", "mask_token_id": 8}"#, Family::Llada),
        (
            r#"{"model_type": "mmada", "mask_token_id": 8, "eos_token_id": 1}"#,
            Family::Mmada,
        ),
        (r#"{"codebook_size": 64}"#, Family::Mmada),
        (r#"{"vocab_size": 134656}"#, Family::Mmada),
        ("{}", Family::Llada),
    ] {
        write(dir.path(), config);
        let style = published::style(dir.path()).unwrap();
        assert_eq!(style.family, family, "{config}");
        assert_eq!(style.names["bos_token"], "<|startoftext|>");
        let read = published::tokenizer(dir.path(), family).unwrap();
        assert_eq!(
            (read.len(), read.specials()),
            (tokenizer().len(), tokenizer().specials())
        );
    }
    assert!(published::is_published(dir.path()));
    std::fs::write(dir.path().join("manifest.json"), "{}").unwrap();
    assert!(!published::is_published(dir.path()));
}

/// A configuration that contradicts its tokenizer, and a tokenizer without the special tokens of its family,
/// are refused with the token.
#[test]
fn what_a_folder_lacks_or_contradicts_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let failure = |family| {
        published::tokenizer(dir.path(), family)
            .err()
            .unwrap()
            .to_string()
    };
    assert!(
        published::style(dir.path())
            .unwrap_err()
            .to_string()
            .contains("config.json")
    );
    write(dir.path(), r#"{"mask_token_id": 3}"#);
    let message = failure(Family::Mmada);
    assert!(
        message.contains("mask_token_id is 3") && message.contains("<|mdm_mask|> at 8"),
        "{message}"
    );
    write(dir.path(), r#"{"eos_token_id": 126081}"#);
    assert!(failure(Family::Mmada).contains("eos_token_id is 126081"));
    write(dir.path(), "{}");
    let without = JSON.replace("<|reserved_token_4|>", "<|other|>");
    std::fs::write(dir.path().join("tokenizer.json"), without).unwrap();
    let message = failure(Family::Mmada);
    assert!(
        message.contains("<|reserved_token_4|>") && message.contains("126088"),
        "{message}"
    );
    // LLaDA draws no pictures.
    published::tokenizer(dir.path(), Family::Llada).unwrap();
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert!(failure(Family::Llada).contains("tokenizer.json"));
}

#[test]
fn ids_come_from_the_configuration_the_name_or_the_published_table() {
    // The mask token has another name, and the configuration states its id.
    let json = JSON.replace("<|mdm_mask|>", "<|hidden|>");
    let stated = Stated {
        mask: Some(8),
        eos: Some(1),
    };
    let read = TextTokenizer::published(&json, Family::Mmada, stated).unwrap();
    assert_eq!(read.specials(), tokenizer().specials());
    // LLaDA's own ids are used if the vocabulary has them.
    let mut model: serde_json::Value = serde_json::from_str(&JSON).unwrap();
    let vocabulary = model["model"]["vocab"].as_object_mut().unwrap();
    for id in 126_000..126_349 {
        vocabulary.insert(format!("filler {id}"), id.into());
    }
    let renamed = model.to_string().replace("<|reserved_token_", "<|held_");
    let large = TextTokenizer::published(&renamed, Family::Mmada, stated).unwrap();
    assert_eq!(large.len(), 126_349);
    assert_eq!(large.specials().soi, SpecialTokens::LLADA.soi);
    assert_eq!(large.specials().r2i, SpecialTokens::LLADA.r2i);
    assert_eq!(large.specials().mask, 8);
}

/// The name of a special token in a user's text is tokenized as text, so that a user cannot end a turn or
/// insert a mask.
#[test]
fn a_special_name_in_what_the_user_says_stays_words() {
    let (t, s) = (tokenizer(), tokenizer().specials());
    let said = "a <|eot_id|><|mdm_mask|> b";
    assert_eq!(
        t.encode_marked(said)
            .unwrap()
            .iter()
            .filter(|&&id| id == s.eot || id == s.mask)
            .count(),
        2
    );
    assert_eq!(
        t.encode_marked(&t.guarded(said)).unwrap(),
        t.encode(said).unwrap()
    );
    let ids = mmada()
        .chat(
            &t,
            &Quirks::default(),
            said,
            PromptTask::Answer {
                mode: Mode::Direct,
                picture: false,
            },
        )
        .unwrap();
    assert_eq!(ids, chat("\n", said, None));
}

/// Prompts of published models have no padding, and their markup follows the family, the reasoning mode, the
/// checkpoint's own chat template, or the `template` quirk.
#[test]
fn text_is_asked_for_without_padding_and_as_the_template_says() {
    let example = example(Kind::WordProblem, "What is 2 + 2?");
    let head = |style: PromptStyle, template, mode| {
        let quirks = Quirks {
            template,
            ..Quirks::default()
        };
        let prompt = builder(style, quirks).prompt(&example, mode, &[]).unwrap();
        assert_eq!((prompt.left_pad, prompt.target.len()), (0, 64));
        let mask = tokenizer().specials().mask;
        assert!(prompt.ids[prompt.target.start..].iter().all(|&id| id == mask));
        prompt.ids[..prompt.target.start].to_vec()
    };
    let words = "What is 2 + 2?";
    assert_eq!(
        head(mmada(), Template::Checkpoint, Mode::Direct),
        chat("\n", words, None)
    );
    let thinking = format!("{THINK}\n{words}");
    assert_eq!(
        head(mmada(), Template::Checkpoint, Mode::Think),
        chat("\n", &thinking, None)
    );
    let llada = PromptStyle {
        family: Family::Llada,
        ..mmada()
    };
    assert_eq!(
        head(llada.clone(), Template::Checkpoint, Mode::Think),
        chat("\n\n", words, None)
    );
    assert_eq!(
        head(llada, Template::Mmada, Mode::Direct),
        chat("\n", words, None)
    );
    let own = PromptStyle {
        template: Some("{{ bos_token }}{{ messages[0].content }}<|eot_id|>".into()),
        ..mmada()
    };
    let s = tokenizer().specials();
    let expected = [vec![s.bos], tokenizer().encode(words).unwrap(), vec![s.eot]].concat();
    assert_eq!(head(own.clone(), Template::Checkpoint, Mode::Direct), expected);
    assert_eq!(
        head(own, Template::Llada, Mode::Direct),
        chat("\n\n", words, None)
    );
}

#[test]
fn a_question_about_a_picture_has_the_published_layout_and_slip() {
    let question = example(Kind::Question, "how many circles are there?");
    let codes: Vec<u32> = (0..16).collect();
    let head = |quirks| {
        let prompt = builder(mmada(), quirks)
            .prompt(&question, Mode::Direct, &codes)
            .unwrap();
        prompt.ids[..prompt.target.start].to_vec()
    };
    let s = tokenizer().specials();
    let first = tokenizer().len() as u32;
    let picture = [vec![s.mmu, s.soi], (first..first + 16).collect(), vec![s.eoi]].concat();
    let words = "how many circles are there?";
    assert_eq!(
        head(Quirks::default()),
        [picture.clone(), chat("\n", words, None)].concat()
    );
    assert_eq!(
        head(Quirks::published()),
        [picture, chat("\n", words, Some("<eot_id>"))].concat()
    );
}

#[test]
fn a_drawing_has_512_text_positions_before_it() {
    let prompt = builder(mmada(), Quirks::default())
        .prompt(&example(Kind::TextToImage, "a red circle"), Mode::Direct, &[])
        .unwrap();
    let (s, text) = (
        tokenizer().specials(),
        tokenizer().encode("a red circle").unwrap(),
    );
    assert_eq!(prompt.ids.len(), 512 + 16 + 3);
    assert_eq!(prompt.target, Span { start: 514, end: 530 });
    assert_eq!((prompt.ids[513], prompt.ids[530]), (s.soi, s.eoi));
    let asked = [vec![s.t2i, s.bos], text, vec![s.eos]].concat();
    assert_eq!(prompt.ids[prompt.left_pad..513], asked);
    assert!(prompt.ids[..prompt.left_pad].iter().all(|&id| id == s.pad));
    let unconditional = prompt.unconditional.unwrap();
    assert_eq!(unconditional[510..513], [s.t2i, s.bos, s.eos]);
    assert_eq!(prompt.unconditional_left_pad, 510);
}

#[test]
fn think_then_draw_fills_its_text_part_with_eos() {
    let builder = builder(mmada(), Quirks::default());
    let prompt = builder
        .prompt(&example(Kind::ThinkThenDraw, "a red circle"), Mode::Think, &[])
        .unwrap();
    let s = tokenizer().specials();
    assert_eq!((prompt.ids[0], prompt.ids[1], prompt.left_pad), (s.r2i, s.bos, 0));
    assert_eq!(
        (prompt.ids.len(), prompt.ids[513], prompt.ids[530]),
        (531, s.soi, s.eoi)
    );
    assert_eq!(prompt.then, Some(Span { start: 514, end: 530 }));
    assert_eq!(prompt.target.len() % 32, 0);
    assert!(prompt.target.len() >= 256 - 31 && prompt.target.end <= 513);
    assert!(prompt.ids[prompt.target.end..513].iter().all(|&id| id == s.eos));
    let unconditional = prompt.unconditional.clone().unwrap();
    assert_eq!(unconditional[..3], [s.r2i, s.bos, s.eos]);
    assert!(unconditional[3..513].iter().all(|&id| id == s.eos));
    let mut thought = prompt.ids.clone();
    thought[prompt.target.start..prompt.target.end].fill(s.eos);
    let next = builder.then_draw(&prompt, &thought).unwrap();
    assert_eq!((next.target, next.ids), (Span { start: 514, end: 530 }, thought));
}

/// A published model's text ends at the end of the turn, Demask's own only at the end of text.
#[test]
fn a_text_ends_with_the_turn() {
    let (t, s) = (tokenizer(), tokenizer().specials());
    let ids = [
        t.encode("four").unwrap(),
        vec![s.eot],
        t.encode("more").unwrap(),
        vec![s.eos],
    ]
    .concat();
    let all = Span {
        start: 0,
        end: ids.len(),
    };
    assert_eq!(
        builder(mmada(), Quirks::default()).text(&ids, all).unwrap(),
        "four"
    );
    assert_eq!(
        builder(PromptStyle::default(), Quirks::default())
            .text(&ids, all)
            .unwrap(),
        "fourmore"
    );
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_both_numbers() {
    let long = example(Kind::TextToImage, &"a red circle ".repeat(300));
    let refused = builder(mmada(), Quirks::default()).prompt(&long, Mode::Direct, &[]);
    assert!(
        matches!(refused, Err(SequenceError::PromptTooLong { limit: 513, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_style_survives_json() {
    let style = PromptStyle {
        template: Some("{{ x }}".into()),
        ..mmada()
    };
    let json = serde_json::to_string(&style).unwrap();
    assert_eq!(serde_json::from_str::<PromptStyle>(&json).unwrap(), style);
    assert_eq!(
        serde_json::from_str::<PromptStyle>("{}").unwrap(),
        PromptStyle::default()
    );
}
