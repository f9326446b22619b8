//! Evaluations outside runs that are killed and resumed item by item.

use std::process::{Child, Stdio};
use std::time::Duration;

use demask_tests::dice::Dice;
use demask_tests::processes::children;
use demask_tests::{Place, said};

use crate::Struck;

const EVALUATE: [&str; 6] = [
    "eval",
    "tabletop-sums",
    "tabletop-ask",
    "--limit",
    "200",
    "--json",
];
/// The least and most milliseconds from a start to its kill.
const FIRST_MS: u64 = 300;
const LAST_MS: u64 = 1500;

/// Returns what an undisturbed evaluation prints.
pub fn calm() -> Vec<String> {
    vec![printed(&Place::default())]
}

/// Returns the lines that it prints at its end.
fn printed(place: &Place) -> String {
    let out = place.run(&EVALUATE);
    assert!(out.status.success(), "{}", said(&out));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

pub fn round(dice: &mut Dice, most: u32, calm: &[String]) -> Struck {
    let place = Place::default();
    let mut struck = Struck::default();
    while struck.blows < most {
        let quiet = Stdio::null;
        let child = place.demask(&EVALUATE).stdout(quiet()).stderr(quiet()).spawn();
        let mut child = child.expect("the built demask");
        std::thread::sleep(Duration::from_millis(FIRST_MS + dice.below(LAST_MS - FIRST_MS)));
        if child.try_wait().expect("a child").is_some() {
            break;
        }
        strike(&mut child, dice);
        struck.blows += 1;
    }
    assert_eq!(
        [printed(&place)],
        calm,
        "not the result of an evaluation that nobody killed"
    );
    let twice = demask_tests::store::rows_in(
        place.path(),
        "SELECT run, suite, number FROM v_item GROUP BY 1, 2, 3 HAVING count(*) > 1",
    );
    assert!(twice.is_empty(), "items that were kept twice: {twice:?}");
    struck
}

/// Kills the command, or its engine, with which it ends.
fn strike(child: &mut Child, dice: &mut Dice) {
    let engine = i32::try_from(child.id()).ok().map(children);
    let engine = engine.and_then(|children| children.first().copied());
    match engine {
        Some(engine) if dice.below(2) == 0 => {
            // SAFETY: sends a signal to a process that its parent has not been seen to reap.
            unsafe { libc::kill(engine, libc::SIGKILL) };
        }
        _ => child.kill().expect("kill"),
    }
    child.wait().expect("wait");
}
