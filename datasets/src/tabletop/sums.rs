//! Word problems of one to three steps with worked reasoning, and requests to draw as many objects as a sum.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::chance::{featured, pick, scene_for};
use super::draft::{Draft, split_of};
use crate::example::{Check, Split};
use crate::scene::request::{Category, SceneRequest, Want};

/// The largest value that a problem reaches.
pub const LARGEST: u32 = 99;
/// The number of sums in an exercise.
const EXERCISES: usize = 3;
/// The most objects that a sum asks to draw.
const MOST_DRAWN: u32 = 4;

#[derive(Clone, Copy)]
enum SumStep {
    Add(u32),
    Take(u32),
    Times(u32),
}

impl SumStep {
    fn apply(self, value: u32) -> Option<u32> {
        let result = match self {
            Self::Add(n) => value + n,
            Self::Take(n) => value.checked_sub(n)?,
            Self::Times(n) => value * n,
        };
        (result <= LARGEST).then_some(result)
    }

    /// Writes the step, as in "+ 3".
    fn sum(self) -> String {
        match self {
            Self::Add(n) => format!("+ {n}"),
            Self::Take(n) => format!("- {n}"),
            Self::Times(n) => format!("* {n}"),
        }
    }

    fn draw(rng: &mut ChaCha8Rng) -> Self {
        match rng.random_range(0..5) {
            0 | 1 => Self::Add(rng.random_range(1..=20)),
            2 | 3 => Self::Take(rng.random_range(1..=20)),
            _ => Self::Times(rng.random_range(2..=3)),
        }
    }
}

/// A problem: the first number, the steps, and all values on the way.
struct Sum {
    start: u32,
    steps: Vec<SumStep>,
    values: Vec<u32>,
}

impl Sum {
    fn draw(rng: &mut ChaCha8Rng, start: u32, count: usize) -> Self {
        let mut sum = Self {
            start,
            steps: vec![],
            values: vec![start],
        };
        while sum.steps.len() < count {
            let step = SumStep::draw(rng);
            if let Some(next) = step.apply(sum.result()) {
                sum.steps.push(step);
                sum.values.push(next);
            }
        }
        sum
    }

    fn result(&self) -> u32 {
        self.values.last().copied().unwrap_or(self.start)
    }

    /// Writes the worked steps: "12 + 5 = 17. 17 - 3 = 14."
    fn worked(&self) -> String {
        let lines: Vec<String> = self
            .steps
            .iter()
            .zip(self.values.windows(2))
            .map(|(step, pair)| format!("{} {} = {}.", pair[0], step.sum(), pair[1]))
            .collect();
        lines.join(" ")
    }

    /// Returns the numbers and operations, which alone decide the split.
    fn key(&self) -> String {
        let steps: Vec<String> = self.steps.iter().map(|step| step.sum()).collect();
        format!("sum {} {}", self.start, steps.join(" "))
    }
}

/// Drafts a word problem; `index` selects its number of steps.
pub(super) fn word_problem(rng: &mut ChaCha8Rng, index: u64) -> Draft {
    let steps = 1 + (index % 3) as usize;
    let start = rng.random_range(2..=40);
    let sum = Sum::draw(rng, start, steps);
    let answer = sum.result().to_string();
    Draft {
        category: ["one_step", "two_steps", "three_steps"][steps - 1],
        prompt: story(rng, &sum),
        scene: None,
        reasoning: Some(sum.worked()),
        answer: Some(answer.clone()),
        check: Check::Number { answer },
        keys: vec![sum.key()],
    }
}

/// Drafts an exercise of independent sums, none of which is a problem of another split. Each line of its reasoning must
/// be computed from that line alone.
pub(super) fn exercise(rng: &mut ChaCha8Rng, split: Split) -> Draft {
    let mut sums = Vec::new();
    while sums.len() < EXERCISES {
        let start = rng.random_range(1..=LARGEST);
        let sum = Sum::draw(rng, start, 1);
        if split_of(&sum.key()) == split {
            sums.push(sum);
        }
    }
    let lines: Vec<String> = sums.iter().map(Sum::worked).collect();
    Draft {
        category: "exercise",
        prompt: "write some sums".to_owned(),
        scene: None,
        reasoning: None,
        answer: Some(lines.join(" ")),
        check: Check::None,
        keys: sums.iter().map(Sum::key).collect(),
    }
}

/// Writes the problem in words, in one of three settings.
fn story(rng: &mut ChaCha8Rng, sum: &Sum) -> String {
    let (start, setting) = (sum.start, rng.random_range(0..3));
    let events: Vec<String> = sum.steps.iter().map(|&step| event(rng, setting, step)).collect();
    let events = events.join(", ");
    match setting {
        0 => {
            let (name, thing) = (
                pick(rng, &["Ana", "Ben", "Cleo", "Dan"]),
                pick(rng, &["pens", "coins", "cards", "apples"]),
            );
            format!("{name} has {start} {thing}, {events}. How many {thing}?")
        }
        1 => {
            let thing = pick(rng, &["birds", "cats", "boats"]);
            format!("There are {start} {thing}. {events}. How many {thing}?")
        }
        _ => {
            let (place, thing) = (
                pick(rng, &["box", "bag", "jar"]),
                pick(rng, &["nuts", "keys", "coins"]),
            );
            format!("A {place} holds {start} {thing}. We {events}. How many {thing}?")
        }
    }
}

fn event(rng: &mut ChaCha8Rng, setting: u32, step: SumStep) -> String {
    let times = |n| if n == 2 { "double" } else { "triple" };
    match (setting, step) {
        (0, SumStep::Add(n)) => format!("{} {n}", pick(rng, &["buys", "finds", "gets"])),
        (0, SumStep::Take(n)) => format!("{} {n}", pick(rng, &["loses", "sells", "gives"])),
        (0, SumStep::Times(n)) => format!("{}s them", times(n)),
        (1, SumStep::Add(n)) => format!("{n} {}", pick(rng, &["come", "join"])),
        (1, SumStep::Take(n)) => format!("{n} {}", pick(rng, &["leave", "go"])),
        (1, SumStep::Times(n)) => format!("they {}", times(n)),
        (_, SumStep::Add(n)) => format!("{} {n}", pick(rng, &["add", "put"])),
        (_, SumStep::Take(n)) => format!("{} {n}", pick(rng, &["take", "remove"])),
        (_, SumStep::Times(n)) => format!("{} them", times(n)),
    }
}

/// Drafts "draw as many red circles as 1 + 2": the sum is computed in words, then drawn.
pub(super) fn think_then_draw(rng: &mut ChaCha8Rng, held_out: bool) -> Draft {
    let count = rng.random_range(1..=MOST_DRAWN);
    let sum = small_sum(rng, count);
    let (shape, colour) = featured(rng, held_out);
    let want = Want {
        count: count as usize,
        shape,
        colour: Some(colour),
        size: None,
    };
    let request = SceneRequest {
        category: Category::Counting,
        wants: vec![want],
        relation: None,
    };
    let prompt = format!("draw as many {} {} as {sum}", colour.word(), shape.plural());
    Draft {
        category: "as_many_as",
        reasoning: Some(format!("{sum} = {count}. {}", request.words())),
        scene: Some(scene_for(rng, &request)),
        answer: None,
        keys: vec![prompt.clone()],
        prompt,
        check: Check::Scene { request },
    }
}

fn small_sum(rng: &mut ChaCha8Rng, result: u32) -> String {
    if rng.random_bool(0.5) {
        let first = rng.random_range(0..=result);
        format!("{first} + {}", result - first)
    } else {
        let second = rng.random_range(0..=9 - result);
        format!("{} - {second}", result + second)
    }
}
