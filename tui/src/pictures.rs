//! Pictures in the terminal, through ratatui-image: kitty, sixel or iTerm2 where the terminal says that it can, half-block
//! characters everywhere else.

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

/// A terminal answers sooner, at the far end of a slow line too; who does not gets half-blocks.
const PATIENCE: Duration = Duration::from_millis(500);
/// A multiplexer on this machine answers sooner.
const ANSWERED_WITHIN: Duration = Duration::from_millis(50);
/// Encoded pictures that are kept.
const KEPT: usize = 96;

/// Encodes pictures for this terminal, and remembers them.
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

/// tmux answers for itself, but hands the picker's question to a terminal that may not be there: what it answers to this one
/// ends the thread that would swallow the first key.
fn feed_the_asker() {
    const STATUS_REPORT: &[u8] = b"\x1b[5n";
    let mut out = std::io::stdout();
    if out.write_all(STATUS_REPORT).and_then(|()| out.flush()).is_ok() {
        std::thread::sleep(ANSWERED_WITHIN);
    }
}

/// Whether this is a tmux session that no terminal is attached to: its question would go nowhere.
fn nobody_looks() -> bool {
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

    /// For this terminal, which is asked what it can: after the screen was taken over, before the first key is read.
    #[must_use]
    pub fn open(mode: ImageMode, blobs: Option<PathBuf>) -> Self {
        // Where no answer comes, the picker's own question leaves a thread behind that swallows the first key: a terminal
        // is first asked something that waits for a bounded time and leaves nothing.
        let asked = || match supports_keyboard_enhancement() {
            Ok(_) if nobody_looks() => Picker::halfblocks(),
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
        Self::new(picker, blobs)
    }

    /// Whether pictures are drawn at all.
    #[must_use]
    pub fn shown(&self) -> bool {
        self.picker.is_some()
    }

    /// Draws RGB bytes in hex as large as the area takes them.
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
            // Pixels stay pixels: small pictures are enlarged without smoothing.
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
