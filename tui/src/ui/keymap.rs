//! Which key does what on which screen: the table behind the keys, the hints and the help.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::message::{Direction, Edit, Message, Motion};
use super::model::Layer;
use super::model::page::Subject;

/// What the keys act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// The list of requests.
    Timeline,
    /// A request's page.
    Request,
    /// A page about anything else.
    Page,
    /// A line of input.
    Prompt,
    /// The help.
    Help,
}

impl Context {
    /// The context of a layer.
    pub(crate) fn of(layer: &Layer) -> Self {
        match layer {
            Layer::Timeline(_) => Context::Timeline,
            Layer::Page(page) if matches!(page.subject, Subject::Request(_)) => Context::Request,
            Layer::Page(_) => Context::Page,
            Layer::Prompt(_) => Context::Prompt,
            Layer::Help { .. } => Context::Help,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Context::Timeline => "Requests",
            Context::Request => "Request",
            Context::Page => "Page",
            Context::Prompt => "Input",
            Context::Help => "Help",
        }
    }

    /// The tables that apply, the first match winning.
    fn tables(self) -> Vec<&'static [Binding]> {
        match self {
            Context::Timeline => vec![TIMELINE, MOVEMENT, EVERYWHERE],
            Context::Request => vec![REQUEST, PAGE, MOVEMENT, EVERYWHERE],
            Context::Page => vec![PAGE, MOVEMENT, EVERYWHERE],
            Context::Prompt => vec![PROMPT],
            Context::Help => vec![HELP, MOVEMENT, EVERYWHERE],
        }
    }
}

/// A key, with or without Control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    code: KeyCode,
    control: bool,
}

const fn key(code: KeyCode) -> Key {
    Key { code, control: false }
}

const fn letter(character: char) -> Key {
    key(KeyCode::Char(character))
}

const fn control(character: char) -> Key {
    Key { code: KeyCode::Char(character), control: true }
}

/// A row of the table.
struct Binding {
    keys: &'static [Key],
    /// The keys as the help shows them.
    shown: &'static str,
    message: Message,
    /// What it does, for the help.
    help: &'static str,
    /// What it does in a word, for the line of hints; empty to leave it out there.
    hint: &'static str,
}

const fn bind(
    keys: &'static [Key],
    shown: &'static str,
    message: Message,
    help: &'static str,
    hint: &'static str,
) -> Binding {
    Binding { keys, shown, message, help, hint }
}

static TIMELINE: &[Binding] = &[
    bind(&[key(KeyCode::Enter)], "Enter", Message::Open, "open the request", "open"),
    bind(&[letter('/')], "/", Message::AskFilter, "show only requests with this text", "filter"),
    bind(&[letter('f')], "f", Message::ToggleFailed, "show only failed requests, or all", "failed"),
    bind(&[letter('F')], "F", Message::ToggleFollow, "follow a live trace, or stop", "follow"),
];

static REQUEST: &[Binding] = &[
    bind(&[key(KeyCode::Enter)], "Enter", Message::Open, "open the statement, row or call", "open"),
    bind(&[letter(' ')], "Space", Message::ToggleFold, "fold or unfold the transaction", "fold"),
    bind(&[letter('z')], "z", Message::ToggleFolds, "fold or unfold all transactions", ""),
    bind(&[letter('h')], "h", Message::ToggleHeads, "show or hide headers and bodies", "heads"),
];

static PAGE: &[Binding] = &[
    bind(&[key(KeyCode::Enter)], "Enter", Message::Open, "open what the line names", "open"),
    bind(&[key(KeyCode::Tab)], "Tab", Message::Move(Motion::NextLink), "to the next line that opens", "next link"),
    bind(&[key(KeyCode::BackTab)], "Shift-Tab", Message::Move(Motion::PreviousLink), "to the previous one", ""),
    bind(
        &[letter('n')],
        "n",
        Message::Neighbour(Direction::Forward),
        "the next one of the list this was opened from",
        "next",
    ),
    bind(&[letter('p')], "p", Message::Neighbour(Direction::Back), "the previous one", "previous"),
    bind(&[key(KeyCode::Right), letter('l')], "→ l", Message::Pan(8), "scroll right", "scroll"),
    bind(&[key(KeyCode::Left)], "←", Message::Pan(-8), "scroll left", ""),
    bind(&[letter('b'), key(KeyCode::Backspace)], "b Esc", Message::Back, "back", "back"),
];

static HELP: &[Binding] = &[
    bind(&[key(KeyCode::Esc), key(KeyCode::Enter), letter('?')], "Esc", Message::Back, "close", "close"),
    bind(&[letter('b'), key(KeyCode::Backspace)], "b", Message::Back, "close", ""),
];

static MOVEMENT: &[Binding] = &[
    bind(&[key(KeyCode::Down), letter('j')], "↓ j", Message::Move(Motion::Down), "down", ""),
    bind(&[key(KeyCode::Up), letter('k')], "↑ k", Message::Move(Motion::Up), "up", ""),
    bind(
        &[key(KeyCode::PageDown), control('d'), control('f')],
        "PgDn ^D",
        Message::Move(Motion::PageDown),
        "a screen down",
        "",
    ),
    bind(
        &[key(KeyCode::PageUp), control('u'), control('b')],
        "PgUp ^U",
        Message::Move(Motion::PageUp),
        "a screen up",
        "",
    ),
    bind(&[key(KeyCode::Home), letter('g')], "Home g", Message::Move(Motion::Home), "to the start", ""),
    bind(&[key(KeyCode::End), letter('G')], "End G", Message::Move(Motion::End), "to the end", ""),
];

static EVERYWHERE: &[Binding] = &[
    bind(&[letter('r')], "r", Message::AskRow, "history of a row: table and key", "row"),
    bind(&[letter(':'), letter('@')], ": @", Message::AskPosition, "go to a position", "go to"),
    bind(&[letter('!')], "!", Message::ShowGaps, "what could not be recorded", ""),
    bind(&[letter('y')], "y", Message::CopyPosition, "copy the position, such as @stmt:12", ""),
    bind(&[letter('R'), control('l')], "R", Message::Reload, "ask the trace again", ""),
    bind(&[letter('?'), key(KeyCode::F(1))], "?", Message::ShowHelp, "this help", "help"),
    bind(&[key(KeyCode::Esc)], "Esc", Message::Back, "close, or clear the filter", ""),
    bind(&[letter('q'), control('c')], "q", Message::Quit, "quit", "quit"),
];

static PROMPT: &[Binding] = &[
    bind(&[key(KeyCode::Enter)], "Enter", Message::Open, "accept", "accept"),
    bind(&[key(KeyCode::Esc), control('c')], "Esc", Message::Back, "give up", "give up"),
    bind(&[key(KeyCode::Backspace), control('h')], "⌫", Message::Edit(Edit::Erase), "erase", ""),
    bind(&[control('w')], "^W", Message::Edit(Edit::EraseWord), "erase the word", "erase word"),
    bind(&[control('u')], "^U", Message::Edit(Edit::Clear), "erase everything", "clear"),
    bind(&[key(KeyCode::Left)], "←", Message::Edit(Edit::Left), "left", ""),
    bind(&[key(KeyCode::Right)], "→", Message::Edit(Edit::Right), "right", ""),
    bind(&[key(KeyCode::Home), control('a')], "Home", Message::Edit(Edit::Home), "to the start", ""),
    bind(&[key(KeyCode::End), control('e')], "End", Message::Edit(Edit::End), "to the end", ""),
];

/// The message of a key.
pub(crate) fn message(context: Context, event: &KeyEvent) -> Option<Message> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    if event.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SUPER | KeyModifiers::META) {
        return None;
    }
    let pressed = Key { code: event.code, control: event.modifiers.contains(KeyModifiers::CONTROL) };
    let bound = context.tables().into_iter().flatten().find(|binding| binding.keys.contains(&pressed));
    match (bound, pressed) {
        (Some(binding), _) => Some(binding.message.clone()),
        (None, Key { code: KeyCode::Char(character), control: false }) if context == Context::Prompt => {
            Some(Message::Edit(Edit::Insert(character)))
        }
        _ => None,
    }
}

/// The main keys with what they do in a word.
pub(crate) fn hints(context: Context) -> Vec<(&'static str, &'static str)> {
    let mut hints: Vec<(&str, &str)> = Vec::new();
    for binding in context.tables().into_iter().flatten().filter(|binding| !binding.hint.is_empty()) {
        let key = binding.shown.split(' ').next().unwrap_or(binding.shown);
        if !hints.iter().any(|(known, _)| *known == key) {
            hints.push((key, binding.hint));
        }
    }
    hints
}

/// The help: headings (without a second part), keys with what they do.
pub(crate) fn help_lines(context: Context) -> Vec<(&'static str, &'static str)> {
    let mut lines = vec![(context.name(), "")];
    let mut shown: Vec<&str> = Vec::new();
    for (index, table) in context.tables().into_iter().enumerate() {
        if index > 0 && !(context == Context::Request && index == 1) {
            let movement = table.iter().any(|binding| binding.message == Message::Move(Motion::Down));
            lines.push((if movement { "Movement" } else { "Everywhere" }, ""));
        }
        for binding in table {
            if !shown.contains(&binding.shown) {
                shown.push(binding.shown);
                lines.push((binding.shown, binding.help));
            }
        }
    }
    lines.extend(LEGEND);
    lines
}

/// What the marks mean.
const LEGEND: [(&str, &str); 7] = [
    ("Marks", ""),
    ("✗", "failed: status 500 or more, no whole answer, an error"),
    ("=", "what the statement saw is known exactly"),
    ("≈", "it saw at least this, perhaps more"),
    ("⇄", "external call"),
    ("+ ~ -", "row inserted, updated, deleted"),
    ("!", "gap: something could not be recorded"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_tables_say() {
        let check = |context, code, modifiers, expected: Option<Message>| {
            assert_eq!(message(context, &KeyEvent::new(code, modifiers)), expected, "{context:?} {code:?}");
        };
        let none = KeyModifiers::NONE;
        check(Context::Timeline, KeyCode::Char('j'), none, Some(Message::Move(Motion::Down)));
        check(Context::Timeline, KeyCode::Char('G'), KeyModifiers::SHIFT, Some(Message::Move(Motion::End)));
        check(Context::Timeline, KeyCode::Char('c'), KeyModifiers::CONTROL, Some(Message::Quit));
        check(Context::Timeline, KeyCode::Char('j'), KeyModifiers::ALT, None);
        check(Context::Timeline, KeyCode::Char('h'), none, None);
        check(Context::Request, KeyCode::Char('h'), none, Some(Message::ToggleHeads));
        check(Context::Page, KeyCode::Char('b'), none, Some(Message::Back));
        check(Context::Prompt, KeyCode::Char('q'), none, Some(Message::Edit(Edit::Insert('q'))));
        check(Context::Prompt, KeyCode::Char('w'), KeyModifiers::CONTROL, Some(Message::Edit(Edit::EraseWord)));
        check(Context::Prompt, KeyCode::Char('x'), KeyModifiers::CONTROL, None);
        check(Context::Help, KeyCode::Char('?'), none, Some(Message::Back));
    }

    #[test]
    fn no_key_is_bound_twice_in_a_table() {
        for table in [TIMELINE, REQUEST, PAGE, HELP, MOVEMENT, EVERYWHERE, PROMPT] {
            let keys: Vec<Key> = table.iter().flat_map(|binding| binding.keys).copied().collect();
            for (index, key) in keys.iter().enumerate() {
                assert!(!keys[index + 1..].contains(key), "{key:?}");
            }
        }
    }
}
