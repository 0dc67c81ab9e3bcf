//! Colours: roles that text plays, and how each looks on a dark or light terminal.

use ratatui::style::{Color, Modifier, Style};
use serde::{Deserialize, Serialize};

/// What a piece of text is, independent of how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Ordinary text.
    #[default]
    Plain,
    /// Less important text: labels, times, punctuation.
    Muted,
    /// A heading.
    Title,
    /// Something that can be opened or named: ids, tables.
    Name,
    /// An SQL keyword.
    Keyword,
    /// An SQL literal or parameter.
    Literal,
    /// Success, inserted rows.
    Good,
    /// Uncertain or changed: inferred attribution, inexact snapshots, updated rows.
    Caution,
    /// Failure, deleted rows.
    Bad,
    /// The line under the selection.
    Selected,
}

/// How roles look. Only the 16 ANSI colours and modifiers, which terminals adapt to their background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Theme {
    colours: bool,
}

impl Theme {
    /// With colours, or with modifiers alone.
    pub(crate) fn new(colours: bool) -> Self {
        Theme { colours }
    }

    /// Colours unless `NO_COLOR` is set to anything (<https://no-color.org>).
    pub(crate) fn from_environment() -> Self {
        Theme::new(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    /// The look of a role.
    pub(crate) fn style(self, role: Role) -> Style {
        let style = Style::new();
        let (colour, modifier) = match role {
            Role::Plain => (None, Modifier::empty()),
            Role::Muted => (None, Modifier::DIM),
            Role::Title => (None, Modifier::BOLD),
            Role::Name => (Some(Color::Cyan), Modifier::empty()),
            Role::Keyword => (Some(Color::Magenta), Modifier::empty()),
            Role::Literal | Role::Good => (Some(Color::Green), Modifier::empty()),
            Role::Caution => (Some(Color::Yellow), Modifier::empty()),
            Role::Bad => (Some(Color::Red), Modifier::BOLD),
            Role::Selected => (None, Modifier::REVERSED),
        };
        let style = style.add_modifier(modifier);
        match colour {
            Some(colour) if self.colours => style.fg(colour),
            _ => style,
        }
    }
}
