//! Fuzzing with hostile inputs (law L9): seeds are changed at random and passed to an interface, a "door". The cost of
//! each input is measured.
//!
//! The n-th input of a door depends on the seed and the door's name only, so a failure is reported by the number of its
//! input and can be reproduced. A test program that uses this module must count its memory with [`CountingAllocator`].
//!
//! | variable | effect |
//! | --- | --- |
//! | `DEMASK_FUZZ_INPUTS` | the number of inputs of each door |
//! | `DEMASK_FUZZ_SEED` | the seed; fixed by default |
//! | `DEMASK_FUZZ_ONLY` | the number of the only input to try |

use crate::dice::Dice;
use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes of memory that an input may cost.
const MOST_MEMORY: u64 = 256 << 20;
/// The most processor time of an input. One second is intended; the rest allows for slow or busy machines.
const LONGEST: Duration = Duration::from_secs(5);
/// The time after which an input that does not return ends the whole program, which names the input.
const STUCK: Duration = Duration::from_secs(120);
/// The most bytes of an input.
const MOST_BYTES: usize = 64 << 10;

static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);
/// A lock for one door at a time, because the memory of the whole process is counted.
static TURN: Mutex<()> = Mutex::new(());

/// The system's allocator with counters.
#[derive(Debug)]
pub struct CountingAllocator;

fn grown(bytes: usize) {
    let live = LIVE.fetch_add(bytes as u64, Relaxed) + bytes as u64;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: each call is passed to the system's allocator; only counters are updated besides.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        LIVE.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// The random choices of changes, determined by a seed.
#[derive(Clone, Debug)]
pub struct Changes(Dice);

impl Changes {
    /// Makes the choices of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Dice::new(seed))
    }

    fn next(&mut self) -> u64 {
        self.0.below(u64::MAX)
    }

    /// Returns a number below `limit`; 0 if the limit is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0.below((limit as u64).max(1)) as usize
    }

    /// Returns a number below 2 to the power of a random exponent below `powers`, so that small numbers are likely.
    fn mostly_small(&mut self, powers: usize) -> usize {
        let power = self.below(powers);
        self.below(1 << power)
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// Numbers at the limits of integer types, as text.
const NUMBERS: [&[u8]; 14] = [
    b"0",
    b"-1",
    b"1",
    b"255",
    b"65536",
    b"100000000",
    b"2147483648",
    b"4294967295",
    b"1099511627776",
    b"4611686018427387904",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1e308",
    b"-9223372036854775808",
];

/// Makes an input: a seed with a few changes.
#[must_use]
pub fn changed(seeds: &[Vec<u8>], words: &[&[u8]], dice: &mut Changes) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..1 << dice.below(4) {
        change(&mut bytes, seeds, words, dice);
        bytes.truncate(MOST_BYTES);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&[u8]], dice: &mut Changes) {
    let at = dice.below(bytes.len() + 1);
    let length = dice.mostly_small(10).min(bytes.len() - at);
    match dice.below(10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = dice.next() as u8,
        2 => drop(bytes.drain(at..at + length)),
        3 => {
            let part = bytes[at..at + length].repeat(1 + dice.mostly_small(8));
            bytes.splice(at..at, part.into_iter().take(MOST_BYTES));
        }
        4 if !words.is_empty() => {
            let word = dice.one(words).to_vec();
            bytes.splice(at..at + length.min(dice.below(2) * length), word);
        }
        5 => {
            let other = &seeds[dice.below(seeds.len())];
            let from = dice.below(other.len() + 1);
            let to = from + dice.below(other.len() - from + 1);
            bytes.splice(at..at + length, other[from..to].iter().copied());
        }
        6 => number(bytes, at, dice),
        7 => {
            let width = 1 << dice.below(4);
            let value = match dice.below(4) {
                0 => u64::MAX,
                1 => 1 << dice.below(64),
                2 => (1 << dice.below(64)) - 1,
                _ => dice.next(),
            };
            let mut written = value.to_le_bytes()[..width].to_vec();
            if dice.below(2) == 0 {
                written.reverse();
            }
            let end = (at + width).min(bytes.len());
            bytes.splice(at..end, written);
        }
        8 if dice.below(4) == 0 => bytes.truncate(at),
        _ if !words.is_empty() => {
            let word = dice.one(words);
            let word = word.repeat(1 + dice.mostly_small(12));
            bytes.splice(at..at, word.into_iter().take(MOST_BYTES));
        }
        _ => bytes.insert(at, dice.next() as u8),
    }
}

/// Replaces the first number after a position.
fn number(bytes: &mut Vec<u8>, at: usize, dice: &mut Changes) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(found) = bytes[at..].iter().position(is_digit) else {
        return;
    };
    let start = at + found;
    let length = bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
    bytes.splice(start..start + length, dice.one(&NUMBERS).iter().copied());
}

/// An interface under test, with its inputs.
pub struct Door<'a> {
    /// Its name, which also determines its inputs.
    pub name: &'static str,
    /// The default number of inputs.
    pub inputs: u64,
    /// The seeds that are changed.
    pub seeds: Vec<Vec<u8>>,
    /// The words that are inserted.
    pub words: &'a [&'a [u8]],
    /// Bytes of memory that an input may cost beyond the usual limit.
    pub spare: u64,
}

/// The costliest input.
#[derive(Clone, Copy, Debug, Default)]
struct Costliest {
    cost: u64,
    input: u64,
}

impl Costliest {
    fn saw(&mut self, cost: u64, input: u64) {
        if cost > self.cost {
            *self = Self { cost, input };
        }
    }
}

fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Returns the processor time of this thread.
fn spent() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is valid for writing the result.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Returns a temporary folder for a door's files, in memory if there is such a file system.
///
/// # Panics
/// If no folder can be created.
#[must_use]
pub fn room() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a folder")
}

impl Door<'_> {
    /// Returns an input by its number: first the seeds unchanged, then changed ones.
    fn input(&self, seed: u64, number: u64) -> Vec<u8> {
        if let Some(plain) = usize::try_from(number).ok().and_then(|at| self.seeds.get(at)) {
            return plain.clone();
        }
        let name = self
            .name
            .bytes()
            .fold(seed, |sum, byte| sum.wrapping_mul(257) ^ u64::from(byte));
        changed(&self.seeds, self.words, &mut Changes::new(name ^ (number << 20)))
    }

    /// Tries the inputs of the door.
    ///
    /// # Panics
    /// If an input panics or exceeds its limits; the input is named and saved.
    pub fn tried(&self, mut door: impl FnMut(&[u8])) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = asked("DEMASK_FUZZ_SEED").unwrap_or(1);
        let only = asked("DEMASK_FUZZ_ONLY");
        let inputs = asked("DEMASK_FUZZ_INPUTS").unwrap_or(self.inputs);
        let (mut slowest, mut largest) = (Costliest::default(), Costliest::default());
        let begun = Instant::now();
        let watched = Watched::start(self.name, seed);
        for number in only.map_or(0..inputs, |only| only..only + 1) {
            let input = self.input(seed, number);
            watched.at(number);
            let live = LIVE.load(Relaxed);
            PEAK.store(live, Relaxed);
            let before = spent();
            let outcome = catch_unwind(AssertUnwindSafe(|| door(&input)));
            let time = spent() - before;
            let memory = PEAK.load(Relaxed).saturating_sub(live);
            slowest.saw(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), number);
            largest.saw(memory, number);
            let wrong = match outcome {
                Err(_) => Some("it panicked".to_owned()),
                Ok(()) if time > LONGEST => Some(format!("it took {time:?} of processor time")),
                Ok(()) if memory > MOST_MEMORY + self.spare => {
                    Some(format!("it took {memory} bytes of memory"))
                }
                Ok(()) => None,
            };
            if let Some(wrong) = wrong {
                let kept = self.keep(&input, number);
                panic!(
                    "{}: input {number} of seed {seed}: {wrong}; the input is kept in {}",
                    self.name,
                    kept.display()
                );
            }
        }
        eprintln!(
            "fuzz {}: {inputs} inputs of seed {seed} in {:.1} s; slowest {:.1} ms (input {}), most memory {:.1} MiB (input {})",
            self.name,
            begun.elapsed().as_secs_f64(),
            slowest.cost as f64 / 1e6,
            slowest.input,
            largest.cost as f64 / f64::from(1 << 20),
            largest.input,
        );
    }

    fn keep(&self, input: &[u8], number: u64) -> PathBuf {
        let path = std::env::temp_dir().join(format!("demask-fuzz-{}-{number}", self.name));
        std::fs::write(&path, input).ok();
        path
    }
}

/// A watchdog that ends the program if an input does not return.
struct Watched(std::sync::Arc<AtomicU64>);

impl Watched {
    fn start(name: &'static str, seed: u64) -> Self {
        let at = std::sync::Arc::new(AtomicU64::new(u64::MAX));
        let seen = std::sync::Arc::downgrade(&at);
        std::thread::spawn(move || {
            let (mut last, mut since) = (u64::MAX, Instant::now());
            while let Some(at) = seen.upgrade() {
                let now = at.load(Relaxed);
                drop(at);
                if now != last {
                    (last, since) = (now, Instant::now());
                } else if since.elapsed() > STUCK && now != u64::MAX {
                    eprintln!("fuzz {name}: input {now} of seed {seed} did not come back within {STUCK:?}");
                    std::process::abort();
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Self(at)
    }

    fn at(&self, number: u64) {
        self.0.store(number, Relaxed);
    }
}
