//! The table of keys: what they do, where, and their texts in help and footer.

/// The meaning of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave the dashboard; the daemon continues.
    Quit,
    /// Show the next screen.
    NextScreen,
    /// Show a screen by its number.
    Screen(usize),
    /// Pause or resume the run.
    PauseResume,
    /// Stop the run.
    Stop,
    /// Write a checkpoint.
    Checkpoint,
    /// Set a knob.
    SetKnob,
    /// Sample a prompt.
    Sample,
    /// Go one denoising step back.
    Back,
    /// Go one denoising step forward.
    Forward,
    /// Select the previous sample, group or line.
    Up,
    /// Select the next one.
    Down,
    /// Select the tenth previous one.
    PageUp,
    /// Select the tenth next one.
    PageDown,
    /// Close what is open.
    Close,
    /// Query the store.
    Query,
    /// Open the selected item, such as a sequence's lineage.
    Open,
    /// Show only log lines with certain words.
    Filter,
    /// Raise the lowest level of shown log lines.
    Level,
    /// Mark or unmark the selected item: a metric to draw, a run to overlay.
    Mark,
    /// Smooth curves more, or not at all.
    Smooth,
    /// Switch between logarithmic and linear scale.
    Scale,
    /// Switch between time and steps.
    Across,
    /// Show a shorter part of the curves; move a waiting run earlier.
    ZoomIn,
    /// Show a longer part of the curves; move a waiting run later.
    ZoomOut,
    /// Remove a waiting run from the queue.
    Cancel,
    /// Show only wrong items, or all.
    Wrong,
    /// Find an action by a few letters.
    Palette,
    /// Show or hide the help.
    Help,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The key as displayed.
    pub key: &'static str,
    /// The action of the key.
    pub action: Action,
    /// The text in the help.
    pub help: &'static str,
    /// The word in the footer; empty if the key is not shown there.
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

/// The number of bindings before those of the screens.
const FIRST: usize = 3;
/// The keys of the screens.
const SCREEN_KEYS: [&str; 14] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "0", "f1", "f2", "f3", "f4",
];

/// Returns the key of a screen; empty if there are more screens than keys.
#[must_use]
pub fn screen_key(number: usize) -> &'static str {
    SCREEN_KEYS.get(number).copied().unwrap_or_default()
}

/// Every key except those of the screens.
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

/// Returns every key binding, for screens with these titles.
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

/// Returns the meaning of a key, if it has one.
#[must_use]
pub fn action(bindings: &[Binding], key: &str) -> Option<Action> {
    bindings
        .iter()
        .find(|binding| binding.key == key)
        .map(|binding| binding.action)
}
