//! The one table of keys: what they do, where, and the words for help and footer.

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave; the daemon goes on.
    Quit,
    /// The next screen.
    NextScreen,
    /// A screen by its number.
    Screen(usize),
    /// Hold the run, or let it go on.
    PauseResume,
    /// End the run.
    Stop,
    /// Write a checkpoint.
    Checkpoint,
    /// Turn a knob.
    SetKnob,
    /// Sample a prompt.
    Sample,
    /// One step back in a denoising.
    Back,
    /// One step forward.
    Forward,
    /// The sample, group or line before.
    Up,
    /// The one after.
    Down,
    /// Ten before.
    PageUp,
    /// Ten after.
    PageDown,
    /// Close what is open.
    Close,
    /// Ask the store.
    Query,
    /// Open what is chosen: a sequence's lineage.
    Open,
    /// Only log lines that hold some words.
    Filter,
    /// Only log lines at least as loud as the next level.
    Level,
    /// Mark what is chosen, or no more: a metric that is drawn, a run that is laid over.
    Mark,
    /// Smooth curves more, or not at all.
    Smooth,
    /// Curves on a logarithmic scale, or on a linear one.
    Scale,
    /// Curves along time, or along steps.
    Across,
    /// A shorter part of the curves; a run that waits comes earlier.
    ZoomIn,
    /// A longer one; a run that waits comes later.
    ZoomOut,
    /// Take a run that waits off the queue.
    Cancel,
    /// Only items that are wrong, or all.
    Wrong,
    /// Find any of these by a few letters.
    Palette,
    /// Show or hide the help.
    Help,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The key, as it is shown.
    pub key: &'static str,
    /// What it means.
    pub action: Action,
    /// In words.
    pub help: &'static str,
    /// In the footer, in a word; empty: not there.
    pub footer: &'static str,
}

const fn bind(key: &'static str, action: Action, help: &'static str, footer: &'static str) -> Binding {
    Binding {
        key,
        action,
        help,
        footer,
    }
}

/// The keys that the screens' own stand after.
const FIRST: usize = 3;
/// The keys that lead to the screens.
const SCREEN_KEYS: [&str; 14] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "0", "f1", "f2", "f3", "f4",
];

/// The key that leads to a screen; empty where there are more screens than keys.
#[must_use]
pub fn screen_key(number: usize) -> &'static str {
    SCREEN_KEYS.get(number).copied().unwrap_or_default()
}

/// Every key but those of the screens.
const BINDINGS: [Binding; 30] = [
    bind("q", Action::Quit, "leave; the run goes on", "leave"),
    bind(
        "ctrl-c",
        Action::Quit,
        "the same; or give up what is being typed",
        "",
    ),
    bind("tab", Action::NextScreen, "next screen", "next"),
    bind(
        "p",
        Action::PauseResume,
        "pause or resume at the next step",
        "pause",
    ),
    bind("S", Action::Stop, "checkpoint and end the run", ""),
    bind("c", Action::Checkpoint, "checkpoint now", "checkpoint"),
    bind("k", Action::SetKnob, "turn a knob: KEY=VALUE", "knob"),
    bind(
        "n",
        Action::Sample,
        "sample a prompt now; begin with 'draw ' for a picture",
        "sample",
    ),
    bind(
        "left",
        Action::Back,
        "Denoise: one step back; Curves: earlier",
        "",
    ),
    bind(
        "right",
        Action::Forward,
        "Denoise: one step forward; Curves: later",
        "",
    ),
    bind("up", Action::Up, "the sample, group, row or line before", ""),
    bind("down", Action::Down, "the one after", ""),
    bind("pgup", Action::PageUp, "ten before", ""),
    bind("pgdn", Action::PageDown, "ten after", ""),
    bind(
        "enter",
        Action::Open,
        "open what is chosen: a sequence, an item, an actor, a run",
        "",
    ),
    bind("f", Action::Filter, "Log: only lines with these words", ""),
    bind("l", Action::Level, "Log: only warnings, only errors, all", ""),
    bind(
        "space",
        Action::Mark,
        "Curves: draw; Runs: lay over; Benchmarks: compare",
        "",
    ),
    bind("s", Action::Smooth, "Curves: smooth more, or not at all", ""),
    bind("g", Action::Scale, "Curves: logarithmic scale, or linear", ""),
    bind("x", Action::Across, "Curves: along time, or along steps", ""),
    bind(
        "+",
        Action::ZoomIn,
        "Curves: a shorter part; Runs: earlier in the queue",
        "",
    ),
    bind(
        "-",
        Action::ZoomOut,
        "Curves: a longer part, esc: all of it; Runs: later",
        "",
    ),
    bind(
        "X",
        Action::Cancel,
        "Runs: cancel a run that waits; asked twice",
        "",
    ),
    bind("w", Action::Wrong, "Benchmarks: only items that are wrong", ""),
    bind(
        "/",
        Action::Query,
        "ask the store: one SELECT; Actors: only these names",
        "query",
    ),
    bind(
        "esc",
        Action::Close,
        "close what is open; Denoise: back to the newest",
        "close",
    ),
    bind(
        ":",
        Action::Palette,
        "find a command by a few letters",
        "commands",
    ),
    bind("ctrl-p", Action::Palette, "the same", ""),
    bind("?", Action::Help, "this help", "help"),
];

/// Every key, where the screens have these titles.
#[must_use]
pub fn bindings(titles: &[&'static str]) -> Vec<Binding> {
    let screens = SCREEN_KEYS.iter().zip(titles).enumerate();
    let screens = screens.map(|(number, (key, title))| bind(key, Action::Screen(number), title, ""));
    let (first, others) = BINDINGS.split_at(FIRST);
    first
        .iter()
        .copied()
        .chain(screens)
        .chain(others.iter().copied())
        .collect()
}

/// What a key means, if anything.
#[must_use]
pub fn action(bindings: &[Binding], key: &str) -> Option<Action> {
    bindings
        .iter()
        .find(|binding| binding.key == key)
        .map(|binding| binding.action)
}
