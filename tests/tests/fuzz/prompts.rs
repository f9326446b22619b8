//! Files of a model folder that determine its prompts (the tokenizer, chat templates), and templates of rows.

use std::collections::BTreeMap;

use demask_datasets::prompts::chat_template::{JINJA_FILE, LLADA, TokenizerSettings, Turn, render};
use demask_datasets::prompts::row_template::RowTemplate;
use demask_datasets::prompts::template_worker;
use demask_datasets::prompts::text_tokenizer::{Family, Stated, TextTokenizer};
use demask_tests::fuzz::{Door, room};
use demask_tests::programs;
use serde_json::json;

const TEXT: &str = "a red circle <think>12 + 5</think> <|eot_id|> été 漢字 \u{1f600}";

/// Parts of tokenizers.
const PARTS: [&[u8]; 14] = [
    br#"{"type":"Prepend","prepend":"xxxxxxxxxxxxxxxx"}"#,
    br#"{"type":"Replace","pattern":{"Regex":"(a|b)*c|."},"content":"aaaa"}"#,
    br#"{"type":"Replace","pattern":{"String":""},"content":"aaaa"}"#,
    br#"{"type":"Precompiled","precompiled_charsmap":"CAAAAAAAAAAAAAAAYWI="}"#,
    br#"{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"},{"type":"StripAccents"}]}"#,
    br#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#,
    br#"{"type":"Metaspace","replacement":"_","prepend_scheme":"always","split":true}"#,
    br#"{"type":"BPE","dropout":0.5,"unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{"a":0,"<unk>":1},"merges":[]}"#,
    br#"{"type":"Unigram","unk_id":0,"vocab":[["a",-1.0],["b",-2.0]],"byte_fallback":false}"#,
    br#"{"type":"WordPiece","unk_token":"a","continuing_subword_prefix":"@@","max_input_chars_per_word":100,"vocab":{"a":0}}"#,
    br#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}}],"pair":[],"special_tokens":{}}"#,
    br#""padding":{"strategy":{"Fixed":1099511627776},"direction":"Right","pad_to_multiple_of":7,"pad_id":0,"pad_type_id":0,"pad_token":"x"}"#,
    br#""truncation":{"direction":"Right","max_length":1,"strategy":"LongestFirst","stride":4294967295}"#,
    br#"{"id":4294967295,"content":"<x>","single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":true}"#,
];

fn tokenizer() -> String {
    let texts: Vec<String> = (0..20)
        .map(|number| format!("a red circle and {number} blue squares, été"))
        .collect();
    TextTokenizer::train(&texts, 290).unwrap().to_json().unwrap()
}

fn words(tokenizer: &TextTokenizer) {
    if let Ok(ids) = tokenizer.encode(TEXT) {
        tokenizer.decode(&ids).ok();
    }
    tokenizer.encode_marked(&tokenizer.guarded(TEXT)).ok();
    tokenizer.decode(&[0, 1, 5, 1 << 30]).ok();
}

/// Hostile `tokenizer.json` files, read as Demask's and as a published one, and used to encode and decode.
#[test]
fn tokenizers() {
    let ours = tokenizer();
    let small = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "red": 1}, "unk_token": "a"}});
    let unigram = small.to_string().replace(
        r#"{"type":"WordLevel","vocab":{"a":0,"red":1},"unk_token":"a"}"#,
        r#"{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["a",-1.5],["red",-2.5]],"byte_fallback":false}"#,
    );
    Door {
        name: "tokenizer",
        inputs: 10_000,
        seeds: vec![ours.into(), small.to_string().into(), unigram.into()],
        words: &PARTS,
        spare: 0,
    }
    .tried(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(tokenizer) = TextTokenizer::from_json(&text) {
            words(&tokenizer);
        }
        let stated = Stated {
            mask: Some(3),
            eos: None,
        };
        if let Ok(tokenizer) = TextTokenizer::published(&text, Family::Llada, stated) {
            words(&tokenizer);
        }
    });
}

/// Parts of templates.
const TAGS: [&[u8]; 20] = [
    b"{{ ",
    b" }}",
    b"{% ",
    b" %}",
    b"{#",
    b"{% raw %}",
    b"{% endraw %}",
    b"{% for a in range(10000) %}",
    b"{% endfor %}",
    b"{% set x = x ~ x %}",
    b"{% set x %}{{ x }}{{ x }}{% endset %}",
    b"{% if not ",
    b"{% endif %}",
    b"{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}",
    b" * 100000",
    b" | replace('a', 'aaaaaaaa')",
    b" | join('xxxx')",
    b"[::-1]",
    b"-",
    b"(",
];

/// Registers the built command, which renders templates that could exhaust the memory.
fn use_the_command() {
    template_worker::use_program(programs().join("demask"));
}

/// A template that would exhaust memory ends its own process only (L9), and the next template is rendered.
#[test]
fn l9_a_template_that_doubles_a_text_ends_its_own_process_and_nothing_else() {
    use_the_command();
    let row = json!({"word": "four"}).as_object().unwrap().clone();
    let doubles = "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x | length }}";
    let captures = "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}";
    let replaces = "{{ ('a' * 100000) | replace('a', 'a' * 100000) | length }}";
    // Either limit may be reached first.
    let ends =
        |words: &str| words.contains("more than 512 MiB of memory") || words.contains("ran out of fuel");
    for source in [doubles, captures, replaces] {
        let refused = RowTemplate::new(source).unwrap().render(&row).unwrap_err();
        assert!(ends(&refused), "{refused}");
        let refused = render(source, &[], &BTreeMap::new()).unwrap_err().to_string();
        assert!(ends(&refused), "{refused}");
        // The next template is rendered, with the same text as in this process.
        let joins = RowTemplate::new("{% set twice = word ~ word %}{{ twice }}").unwrap();
        assert_eq!(joins.render(&row).unwrap(), "fourfour");
        let missing = RowTemplate::new("{{ wrod ~ word }}")
            .unwrap()
            .render(&row)
            .unwrap_err();
        assert!(missing.contains("the row has the columns word"), "{missing}");
    }
}

#[test]
fn row_templates() {
    use_the_command();
    let seeds = [
        "{{ question }}{% for one in choices %}\n{{ \"ABCD\"[loop.index0] }}. {{ one }}{% endfor %}",
        "{% set x = question %}{{ x | upper }}{% if choices %}{{ choices | join(', ') }}{% endif %}",
        "{{ answer.split('####')[1].strip() }}{{ row[\"the id\"] * 3 }}",
        "{% macro one(a) %}<{{ a }}>{% endmacro %}{% for c in choices %}{{ one(c) }}{% endfor %}",
    ];
    let row = json!({"question": "Which of them?", "choices": ["red", "blue"], "the id": 7, "answer": "work #### 12"});
    let row = row.as_object().unwrap().clone();
    Door {
        name: "row-template",
        inputs: 10_000,
        seeds: seeds.map(|seed| seed.as_bytes().to_vec()).to_vec(),
        words: &TAGS,
        spare: 0,
    }
    .tried(|bytes| {
        if let Ok(template) = RowTemplate::new(&String::from_utf8_lossy(bytes)) {
            template.render(&row).ok();
        }
    });
}

/// Hostile chat templates, rendered for a conversation.
#[test]
fn chat_templates() {
    use_the_command();
    let long = "{%- set ns = namespace(text='') -%}{%- for m in messages -%}{%- if m.role == 'system' -%}{%- set ns.text = ns.text + m.content -%}\
        {%- else -%}{% generation %}{{ '<|' ~ m.role ~ '|>' + (m.content | trim | tojson) }}{% endgeneration %}{%- endif -%}{%- endfor -%}\
        {{- raise_exception('no') if not messages else ns.text -}}{{ strftime_now('%Y') }}";
    let turns = [
        Turn {
            role: "user".into(),
            content: "What is a red circle?".into(),
        },
        Turn {
            role: "system".into(),
            content: "Be brief.".into(),
        },
    ];
    let room = room();
    let names = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    Door {
        name: "chat-template",
        inputs: 10_000,
        seeds: vec![LLADA.into(), long.into()],
        words: &TAGS,
        spare: 0,
    }
    .tried(|bytes| {
        std::fs::write(room.path().join(JINJA_FILE), bytes).unwrap();
        let Ok(settings) = TokenizerSettings::read(room.path()) else {
            return;
        };
        if let Some(template) = settings.template {
            render(&template, &turns, &names).ok();
        }
    });
}
