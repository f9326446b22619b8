//! The dashboard's state: the model of what the daemon sent, and the screens with their own state.

use std::ops::{Deref, DerefMut};

use crate::keys::{Binding, bindings};
use crate::model::Model;
use crate::screens::{self, Event, Screen};

/// The model and the screens.
pub struct Dashboard {
    /// The state that every screen may show.
    pub model: Model,
    pub(crate) screens: Vec<Box<dyn Screen>>,
}

impl Default for Dashboard {
    fn default() -> Self {
        Model::default().into()
    }
}

impl From<Model> for Dashboard {
    fn from(model: Model) -> Self {
        let screens = screens::all();
        Self { model, screens }
    }
}

impl Deref for Dashboard {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

impl DerefMut for Dashboard {
    fn deref_mut(&mut self) -> &mut Model {
        &mut self.model
    }
}

impl Dashboard {
    /// Returns the screens' titles in order.
    #[must_use]
    pub fn titles(&self) -> Vec<&'static str> {
        self.screens.iter().map(|screen| screen.title()).collect()
    }

    /// Returns every key binding, including those of the screens.
    pub(crate) fn bindings(&self) -> Vec<Binding> {
        bindings(&self.titles())
    }

    /// Passes an event to every screen.
    pub(crate) fn tell(&mut self, event: &Event) {
        for screen in &mut self.screens {
            screen.on_event(&mut self.model, event);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ratatui::Frame;
    use ratatui::layout::Rect;
    use ratatui::widgets::Paragraph;

    use super::*;
    use crate::keys::Action;
    use crate::model::message::{Effect, Msg};
    use crate::pictures::Pictures;
    use crate::update::update;
    use crate::view::render_to_string;

    /// A screen that counts events, as a new file would define one.
    #[derive(Default)]
    struct Counter {
        ticks: usize,
    }

    impl Screen for Counter {
        fn title(&self) -> &'static str {
            "Counter"
        }

        fn on_event(&mut self, _: &mut Model, event: &Event) {
            self.ticks += usize::from(matches!(event, Event::Tick));
        }

        fn on_key(&mut self, _: &mut Model, action: Action) -> Vec<Effect> {
            self.ticks += if action == Action::Up { 10 } else { 0 };
            Vec::new()
        }

        fn draw(&self, _: &Model, _: &Pictures, frame: &mut Frame, area: Rect) {
            frame.render_widget(Paragraph::new(format!("{} ticks", self.ticks)), area);
        }
    }

    #[test]
    fn a_screen_that_is_added_has_its_key_its_state_and_its_place() {
        let mut dashboard = Dashboard::default();
        dashboard.screens.push(Box::<Counter>::default());
        let number = crate::keys::screen_key(dashboard.screens.len() - 1).to_owned();
        update(&mut dashboard, Msg::Size(120, 30));
        for msg in [Msg::Tick, Msg::Key(number.clone()), Msg::Key("up".into())] {
            update(&mut dashboard, msg);
        }
        let shown = render_to_string(&dashboard, 120, 30).unwrap();
        assert!(
            shown.contains(&format!("{number} Counter")) && shown.contains("11 ticks"),
            "{shown}"
        );
    }

    #[test]
    fn every_screen_has_a_file_or_a_folder_of_its_title() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/screens");
        for title in Dashboard::default().titles() {
            let name = title.to_lowercase();
            let places = [format!("{name}.rs"), format!("{name}/mod.rs")];
            assert!(places.iter().any(|place| folder.join(place).is_file()), "{name}");
        }
    }
}
