//! Chat templates against renderings written by hand, and what a tokenizer's settings may contain.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use demask_datasets::prompts::chat_template::{LLADA, MMADA, TokenizerSettings, Turn, render};

fn turn(role: &str, content: &str) -> Turn {
    Turn {
        role: role.into(),
        content: content.into(),
    }
}

fn names() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("bos_token".into(), "<|startoftext|>".into()),
        ("eos_token".into(), "<|endoftext|>".into()),
    ])
}

fn rendered(source: &str, turns: &[Turn]) -> String {
    render(source, turns, &names()).unwrap()
}

#[test]
fn lladas_has_two_line_feeds_and_mmadas_one() {
    let asked = [turn("user", "  What is 2 + 2?\n")];
    assert_eq!(
        rendered(LLADA, &asked),
        "<|startoftext|><|start_header_id|>user<|end_header_id|>\n\nWhat is 2 + 2?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
    assert_eq!(
        rendered(MMADA, &asked),
        "<|startoftext|><|start_header_id|>user<|end_header_id|>\nWhat is 2 + 2?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n"
    );
}

#[test]
fn every_turn_is_written() {
    let turns = [
        turn("system", "Be short."),
        turn("user", "Hi"),
        turn("assistant", "Hello!"),
        turn("user", "Bye"),
    ];
    assert_eq!(
        rendered(MMADA, &turns),
        "<|startoftext|><|start_header_id|>system<|end_header_id|>\nBe short.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\nHello!<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\nBye<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n"
    );
}

/// A template in the style of Llama 3.1's: blocks on lines of their own, a separate system turn, and
/// namespaces.
const LLAMA: &str = r#"{{- bos_token }}
{%- if tools is not none %}
    {{- raise_exception("no tools here") }}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{#- The system message comes first, said or not #}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- set ns = namespace(turns=0) %}
{%- for message in messages %}
    {%- set ns.turns = ns.turns + 1 %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if ns.turns == 0 %}
    {{- raise_exception("no turn") }}
{%- endif %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

#[test]
fn one_in_the_manner_of_llama_3() {
    let turns = [turn("system", "You add.\n"), turn("user", "1 + 1?")];
    assert_eq!(
        rendered(LLAMA, &turns),
        "<|startoftext|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nYou \
         add.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n1 + 1?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
    let message = render(LLAMA, &[turn("system", "alone")], &names())
        .unwrap_err()
        .to_string();
    assert!(message.contains("no turn"), "{message}");
}

#[test]
fn blocks_on_their_own_lines_leave_no_lines() {
    let source = "{% for message in messages %}\n  {% if message.role == 'user' %}\nQ: {{ message.content }}\n  {% endif %}\n{% endfor %}\nA:";
    assert_eq!(rendered(source, &[turn("user", "why")]), "Q: why\nA:");
}

/// Methods, filters and tags that chat templates take from Python and transformers render as there.
#[test]
fn what_templates_take_from_python() {
    let content = "<think>so</think> 4 ";
    for (source, expected) in [
        ("{{ messages[-1].content.split('</think>')[-1].strip() }}", "4"),
        ("{{ messages[0]['content'].startswith('<think>') }}", "True"),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x{% endfor %}",
            "",
        ),
        (
            "{% for key, value in messages[0].items() %}{{ key }};{% endfor %}",
            "role;content;",
        ),
        (
            "{{ {'b': [1, 2.5, none], 'a': '<é>'} | tojson }}",
            r#"{"b": [1, 2.5, null], "a": "<é>"}"#,
        ),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{{ missing is defined }}{{ missing }}", "False"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        (
            "a{% generation %}{{ eos_token }}{%- endgeneration -%} b",
            "a<|endoftext|>b",
        ),
        ("{% macro say(x) %}[{{ x }}]{% endmacro %}{{ say(1) }}", "[1]"),
    ] {
        assert_eq!(rendered(source, &[turn("user", content)]), expected, "{source}");
    }
}

#[test]
fn a_template_that_is_none_is_told_of() {
    for (source, words) in [
        ("a\n{% if %}", "line 2"),
        (
            "{{ raise_exception('only the user speaks') }}",
            "only the user speaks",
        ),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
            "fuel",
        ),
        ("{% include 'other' %}", "other"),
        ("{{ strftime_now('%!') }}", "time format"),
    ] {
        let message = render(source, &[turn("user", "x")], &names())
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("chat template: ") && message.contains(words),
            "{message}"
        );
    }
}

/// A chat template is a text, the `default` of a list, or a file beside the settings, which takes
/// precedence. Special tokens are texts or objects.
#[test]
fn settings_hold_a_text_a_list_or_a_file_beside() {
    let dir = tempfile::tempdir().unwrap();
    let read = || TokenizerSettings::read(dir.path());
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    assert_eq!(read().unwrap(), TokenizerSettings::default());
    write(
        "tokenizer_config.json",
        r#"{"chat_template": "one", "bos_token": "<s>", "eos_token": {"content": "</s>", "special": true}, "pad_token": null}"#,
    );
    let one = read().unwrap();
    assert_eq!(one.template.as_deref(), Some("one"));
    let found: Vec<_> = one
        .names
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    assert_eq!(found, [("bos_token", "<s>"), ("eos_token", "</s>")]);
    write(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "two"}]}"#,
    );
    assert_eq!(read().unwrap().template.as_deref(), Some("two"));
    write("chat_template.jinja", "three");
    assert_eq!(read().unwrap().template.as_deref(), Some("three"));
    std::fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    for (text, words) in [
        (
            r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#,
            "expected one named default, found rag",
        ),
        (r#"{"chat_template": 3}"#, "found 3"),
        ("{", "tokenizer_config.json: EOF"),
    ] {
        write("tokenizer_config.json", text);
        let message = read().unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
}
