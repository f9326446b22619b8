//! Masks being filled, shaded by confidence, in a text and in a picture.

use demask_storage::Frame as Denoising;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use crate::model::Model;
use crate::pictures::Pictures;
use crate::theme::{SHADES, accent, lines, panel, quiet, sure as sure_style};

pub(crate) fn draw(model: &Model, pictures: &Pictures, frame: &mut Frame, area: Rect) {
    let Some(shown) = model.present_frame() else {
        let text = "no sample was watched yet; n samples a prompt now";
        frame.render_widget(Paragraph::new(text).block(panel("denoising")), area);
        return;
    };
    let title = title(model, shown);
    let how = match model.frame {
        Some(_) => " held; left and right step, esc: the newest ",
        None => " left and right step, up and down: other samples ",
    };
    let block = panel(&title).title_bottom(Line::styled(how, quiet()));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let room = lines(&shown.prompt, inner.width).min(inner.height / 3);
    let prompt = Paragraph::new(Line::styled(shown.prompt.as_str(), accent(model))).wrap(Wrap { trim: true });
    let [above, _, inner] = Layout::vertical([
        Constraint::Length(room),
        Constraint::Length(1),
        Constraint::Min(1),
    ])
    .areas(inner);
    frame.render_widget(prompt, above);
    if shown.kind == "picture" {
        picture(model, pictures, shown, frame, inner);
    } else {
        let words = shown
            .tokens
            .iter()
            .zip(&shown.confidence)
            .map(|(token, &sure)| word(model, token, sure));
        frame.render_widget(
            Paragraph::new(Line::from_iter(words)).wrap(Wrap { trim: false }),
            inner,
        );
    }
}

/// What asked for the sample, where in it we are, how much of it is masked still, and which sample it is.
fn title(model: &Model, shown: &Denoising) -> String {
    let masked = shown.tokens.iter().filter(|token| token.is_empty()).count();
    format!(
        "{} · step {} of at most {} · {masked} of {} masked · sample {} of {}",
        shown.origin,
        shown.step + 1,
        shown.steps,
        shown.tokens.len(),
        model.samples.len() - model.sample.min(model.samples.len().saturating_sub(1)),
        model.samples.len(),
    )
}

fn word(model: &Model, token: &str, sure: u8) -> Span<'static> {
    if token.is_empty() {
        return Span::styled("░", quiet());
    }
    if model.no_color {
        return Span::raw(format!("{token}{}", SHADES[usize::from(sure) * 7 / 255]));
    }
    Span::styled(token.to_owned(), sure_style(model, sure))
}

fn picture(model: &Model, pictures: &Pictures, shown: &Denoising, frame: &mut Frame, area: Rect) {
    let side = shown.grid.max(1) as usize;
    let mut lines: Vec<Line> = Vec::new();
    for row in 0..side {
        let cells = (0..side).map(|column| {
            let at = row * side + column;
            let (masked, sure) = (
                shown.tokens.get(at).is_none_or(String::is_empty),
                shown.confidence.get(at).copied().unwrap_or(0),
            );
            if masked {
                Span::styled(" ░░░░", quiet())
            } else {
                let shade = SHADES[usize::from(sure) * 7 / 255];
                Span::styled(format!("{:>4}{shade}", shown.tokens[at]), sure_style(model, sure))
            }
        });
        lines.push(Line::from_iter(cells));
    }
    lines.push(Line::from(""));
    let [left, right] =
        Layout::horizontal([Constraint::Length(5 * side as u16 + 3), Constraint::Min(1)]).areas(area);
    frame.render_widget(Paragraph::new(lines), left);
    if let Some(guess) = shown.picture.as_ref().filter(|_| !model.no_color) {
        pictures.draw(frame, right, guess);
    }
}
