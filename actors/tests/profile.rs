//! What a profile may say of the teacher and the gate, and what is refused before anything is started.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_actors::profile::{Gate, Profile};

const STAGE: &str = "[[stage]]\nname = \"a\"\nkind = \"pretrain\"\n";

fn parsed(sections: &str) -> Result<Profile, String> {
    let text = format!("name = \"x\"\n{sections}{STAGE}");
    Profile::parse(&text, "x.toml").map_err(|error| error.to_string())
}

#[test]
fn a_teacher_that_cannot_be_asked_is_refused_with_its_line() {
    let whole = "[teacher]\nurl = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n";
    let teacher = parsed(whole).unwrap().teacher.unwrap();
    assert_eq!(
        (teacher.share, teacher.concurrency, teacher.token_cap),
        (1.0, 4, 1_000_000)
    );
    for (section, line, word) in [
        ("[teacher]\nmodel = \"m\"\n", 2, "url"),
        ("[teacher]\nurl = \"http://127.0.0.1:1/v1\"\n", 2, "model"),
        (
            "[teacher]\nurl = \"localhost\"\nmodel = \"m\"\n",
            3,
            "url of the teacher",
        ),
        (
            "[teacher]\nurl = \"http://a\"\nmodel = \" \"\n",
            4,
            "model of the teacher",
        ),
        (
            "[teacher]\nurl = \"http://a\"\nmodel = \"m\"\nshare = 1.5\n",
            5,
            "share is 1.5",
        ),
        (
            "[teacher]\nurl = \"http://a\"\nmodel = \"m\"\ncap = 1\n",
            5,
            "cap",
        ),
    ] {
        let error = parsed(section).unwrap_err();
        assert!(
            error.contains(&format!("line {line}")) && error.contains(word),
            "{section}: {error}"
        );
    }
}

#[test]
fn the_gate_has_defaults_and_knows_the_suites() {
    assert_eq!(parsed("").unwrap().gate, Gate::default());
    let gate = parsed("[gate]\nrollback = true\nsuites = [\"tabletop-ask\"]\n")
        .unwrap()
        .gate;
    assert!(gate.rollback && gate.enabled && gate.suites == ["tabletop-ask"]);
    let error = parsed("[gate]\nsuites = [\"tabletop-asc\"]\n").unwrap_err();
    assert!(
        error.contains("line 3") && error.contains("tabletop-asc"),
        "{error}"
    );
}

#[test]
fn two_of_a_name_are_refused_at_the_second() {
    let source = |name: &str| format!("[[source]]\nname = \"{name}\"\nkind = \"tabletop_sums\"\n");
    assert!(parsed(&(source("sums") + &source("more"))).is_ok());
    let error = parsed(&(source("sums") + &source("sums"))).unwrap_err();
    assert!(
        error.contains("line 6") && error.contains("source names sums again"),
        "{error}"
    );
    let error = parsed(STAGE).unwrap_err();
    assert!(
        error.contains("line 6") && error.contains("stage names a again"),
        "{error}"
    );
}

#[test]
fn reward_networks_that_are_named_weigh_as_published_unless_the_profile_says_otherwise() {
    let without = parsed("").unwrap();
    assert!(without.reward_networks.is_empty());
    assert!(!without.rewards.contains_key("clip") && !without.rewards.contains_key("image_reward"));
    assert!(
        !serde_json::to_string(&without)
            .unwrap()
            .contains("reward_networks")
    );
    let clip = parsed("[reward_networks]\nclip = \"a\"\n").unwrap();
    assert_eq!(
        (clip.rewards["clip"], clip.rewards.get("image_reward")),
        (0.1, None)
    );
    let both = parsed(
        "[rewards]\ndraw = 1.0\nimage_reward = 0.7\n[reward_networks]\nclip = \"a\"\nimage_reward = \"b\"\n",
    )
    .unwrap();
    assert_eq!(
        (
            both.rewards["clip"],
            both.rewards["image_reward"],
            both.rewards.len()
        ),
        (0.1, 0.7, 3)
    );
    let error = parsed("[reward_networks]\nblip = \"a\"\n").unwrap_err();
    assert!(error.contains("line 3") && error.contains("blip"), "{error}");
}

#[test]
fn an_adapter_has_defaults_and_what_makes_none_is_refused_with_its_line() {
    assert!(parsed("").unwrap().lora.is_none());
    let lora = parsed("[lora]\nrank = 4\n").unwrap().lora.unwrap();
    assert_eq!((lora.rank, lora.alpha, lora.target_modules.len()), (4, 16.0, 7));
    for (section, line, word) in [
        ("[lora]\nrank = 0\n", 3, "rank is 0"),
        ("[lora]\nalpha = 8.0\ndropout = 1.0\n", 4, "dropout is 1"),
        ("[lora]\nranks = 4\n", 3, "ranks"),
    ] {
        let error = parsed(section).unwrap_err();
        assert!(
            error.contains(&format!("line {line}")) && error.contains(word),
            "{section}: {error}"
        );
    }
}
