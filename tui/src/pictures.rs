//! Pictures in the terminal, by ratatui-image: Kitty, Sixel or iTerm2 if the terminal reports support, else half-block
//! characters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use demask_storage::Blobs;
use image::DynamicImage;
use ratatui::Frame;
use ratatui::crossterm::terminal::supports_keyboard_enhancement;
use ratatui::layout::{Rect, Size};
use ratatui_image::picker::cap_parser::QueryStdioOptions;
use ratatui_image::picker::{Picker, ProtocolType};
use ratatui_image::protocol::Protocol;
use ratatui_image::{Image, Resize};

use crate::ImageMode;

/// The time in which a terminal must report its support, even over a slow connection; otherwise half-blocks are used.
const PATIENCE: Duration = Duration::from_millis(500);
/// The time in which a local multiplexer answers.
const ANSWERED_WITHIN: Duration = Duration::from_millis(50);
/// The most encoded pictures that are cached.
const KEPT: usize = 96;

/// Encodes pictures for this terminal, with a cache.
pub struct Pictures {
    picker: Option<Picker>,
    blobs: Option<Blobs>,
    encoded: RefCell<HashMap<(String, u16, u16), Protocol>>,
}

impl Default for Pictures {
    fn default() -> Self {
        Self::new(Some(Picker::halfblocks()), None)
    }
}

/// Ends the picker's reader thread under tmux, which would otherwise swallow the first key. tmux answers some queries
/// itself but forwards the picker's query to a terminal that may be absent. Its answer to this status report ends the
/// thread.
fn feed_the_asker() {
    const STATUS_REPORT: &[u8] = b"\x1b[5n";
    let mut out = std::io::stdout();
    if out.write_all(STATUS_REPORT).and_then(|()| out.flush()).is_ok() {
        std::thread::sleep(ANSWERED_WITHIN);
    }
}

/// Whether this is a detached tmux session, in which a query would never be answered.
fn is_unwatched() -> bool {
    std::env::var_os("TMUX").is_some()
        && std::process::Command::new("tmux")
            .args(["display-message", "-p", "#{session_attached}"])
            .output()
            .is_ok_and(|said| said.stdout.trim_ascii() == b"0")
}

impl Pictures {
    fn new(picker: Option<Picker>, blobs: Option<PathBuf>) -> Self {
        Self {
            picker,
            blobs: blobs.map(Blobs::new),
            encoded: RefCell::default(),
        }
    }

    /// Sets up pictures for this terminal and queries its support: after the screen was taken over, before the first
    /// key is read. Without colours there are no half-blocks, which would be a pattern that means nothing.
    #[must_use]
    pub fn open(mode: ImageMode, is_colourless: bool, blobs: Option<PathBuf>) -> Self {
        // If the terminal does not answer, the picker's query leaves a thread behind that swallows the first key.
        // Therefore the terminal first gets a query that waits for a bounded time and leaves no thread.
        let asked = || match supports_keyboard_enhancement() {
            Ok(_) if is_unwatched() => Picker::halfblocks(),
            Ok(_) => {
                let options = QueryStdioOptions {
                    timeout: PATIENCE,
                    ..QueryStdioOptions::default()
                };
                let picker =
                    Picker::from_query_stdio_with_options(options).unwrap_or_else(|_| Picker::halfblocks());
                if picker.capabilities().is_empty() {
                    feed_the_asker();
                }
                picker
            }
            Err(_) => Picker::halfblocks(),
        };
        let forced = |kind| {
            let mut picker = asked();
            picker.set_protocol_type(kind);
            picker
        };
        let picker = match mode {
            ImageMode::Auto => Some(asked()),
            ImageMode::Halfblocks => Some(Picker::halfblocks()),
            ImageMode::Kitty => Some(forced(ProtocolType::Kitty)),
            ImageMode::Sixel => Some(forced(ProtocolType::Sixel)),
            ImageMode::Off => None,
        };
        let means_nothing =
            |picker: &Picker| is_colourless && matches!(picker.protocol_type(), ProtocolType::Halfblocks);
        Self::new(picker.filter(|picker| !means_nothing(picker)), blobs)
    }

    /// Whether pictures are drawn at all.
    #[must_use]
    pub fn shown(&self) -> bool {
        self.picker.is_some()
    }

    /// Draws hex-encoded RGB bytes as large as the area allows.
    pub fn draw(&self, frame: &mut Frame, area: Rect, (width, height, hex): &(u64, u64, String)) {
        self.encoded(frame, area, hex, || {
            let bytes: Option<Vec<u8>> = (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok())
                .collect();
            let (width, height) = (u32::try_from(*width).ok()?, u32::try_from(*height).ok()?);
            image::RgbImage::from_raw(width, height, bytes?).map(DynamicImage::ImageRgb8)
        });
    }

    /// Draws a picture of the store.
    pub fn draw_blob(&self, frame: &mut Frame, area: Rect, hash: &str) {
        self.encoded(frame, area, hash, || {
            image::load_from_memory(&self.blobs.as_ref()?.get(hash).ok()?).ok()
        });
    }

    fn encoded(&self, frame: &mut Frame, area: Rect, key: &str, read: impl FnOnce() -> Option<DynamicImage>) {
        let Some(picker) = self.picker.as_ref().filter(|_| area.width > 1 && area.height > 0) else {
            return;
        };
        let mut encoded = self.encoded.borrow_mut();
        let key = (key.to_owned(), area.width, area.height);
        if !encoded.contains_key(&key) {
            let Some(image) = read() else { return };
            // Small pictures are enlarged without smoothing, so that pixels stay visible.
            let size = Size::new(area.width, area.height);
            let fit = Resize::Scale(Some(image::imageops::FilterType::Nearest));
            let Ok(protocol) = picker.new_protocol(image, size, fit) else {
                return;
            };
            if encoded.len() >= KEPT {
                encoded.clear();
            }
            encoded.insert(key.clone(), protocol);
        }
        if let Some(protocol) = encoded.get(&key) {
            frame.render_widget(Image::new(protocol), area);
        }
    }
}
