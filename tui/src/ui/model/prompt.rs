//! A line of input.

use serde::{Deserialize, Serialize};

use crate::ui::message::Edit;

/// Characters that a prompt takes at most.
const MAX_CHARACTERS: usize = 500;

/// What the input is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// The timeline's filter; holds the text that was in force before.
    Filter {
        /// The text before.
        before: String,
    },
    /// A row: `TABLE KEY`.
    Row,
    /// A position: `@stmt:12`.
    Position,
}

impl Purpose {
    /// What stands before the input.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Purpose::Filter { .. } => "filter: ",
            Purpose::Row => "row: ",
            Purpose::Position => "go to: ",
        }
    }

    /// What stands in an empty prompt.
    pub(crate) fn example(&self) -> &'static str {
        match self {
            Purpose::Filter { .. } => "a part of method, path, client's name or status",
            Purpose::Row => "TABLE KEY, as in: posts 3, or COLUMN=VALUE, as in: users email=ann@example.org",
            Purpose::Position => "@req:12, @stmt:7, @txn:3, @call:2, @2026-04-25T14:32:00Z, @-5m, @end",
        }
    }
}

/// A prompt's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prompt {
    /// What it is for.
    pub(crate) purpose: Purpose,
    /// Its characters.
    pub(crate) text: Vec<char>,
    /// Characters before the insertion point.
    pub(crate) at: usize,
}

impl Prompt {
    /// With a text, the insertion point behind it.
    pub(crate) fn new(purpose: Purpose, text: &str) -> Self {
        let text: Vec<char> = text.chars().collect();
        Prompt { purpose, at: text.len(), text }
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// Edits; says whether the text changed.
    pub(crate) fn edit(&mut self, edit: Edit) -> bool {
        let before = self.text.len();
        match edit {
            Edit::Insert(character) if before < MAX_CHARACTERS && !character.is_control() => {
                self.text.insert(self.at, character);
                self.at += 1;
            }
            Edit::Erase if self.at > 0 => {
                self.at -= 1;
                self.text.remove(self.at);
            }
            Edit::Insert(_) | Edit::Erase => {}
            Edit::EraseWord => {
                let blanks = self.text[..self.at].iter().rposition(|c| !c.is_whitespace()).map_or(0, |at| at + 1);
                let start = self.text[..blanks].iter().rposition(|c| c.is_whitespace()).map_or(0, |at| at + 1);
                self.text.drain(start..self.at);
                self.at = start;
            }
            Edit::Clear => {
                self.text.clear();
                self.at = 0;
            }
            Edit::Left => self.at = self.at.saturating_sub(1),
            Edit::Right => self.at = (self.at + 1).min(self.text.len()),
            Edit::Home => self.at = 0,
            Edit::End => self.at = self.text.len(),
        }
        self.text.len() != before
    }
}

/// Words parted by blanks; quotes of either kind hold blanks together.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_as_a_shell_does() {
        let check = |text: &str, edits: &[Edit], expected: &str, at: usize| {
            let mut prompt = Prompt::new(Purpose::Row, text);
            for edit in edits {
                prompt.edit(*edit);
            }
            assert_eq!((prompt.text().as_str(), prompt.at), (expected, at), "{text:?} {edits:?}");
        };
        check("", &[Edit::Erase, Edit::Left, Edit::EraseWord], "", 0);
        check("ab", &[Edit::Left, Edit::Insert('ß')], "aßb", 2);
        check("ab", &[Edit::Home, Edit::Insert('x'), Edit::End, Edit::Erase], "xa", 2);
        check("posts 3  ", &[Edit::EraseWord], "posts ", 6);
        check("posts 3", &[Edit::EraseWord, Edit::EraseWord], "", 0);
        check("ab", &[Edit::Clear], "", 0);
        check("a", &[Edit::Insert('\u{1b}')], "a", 1);
        check("a", &[Edit::Right, Edit::Right], "a", 1);
    }

    #[test]
    fn words_keep_quoted_blanks() {
        let check = |text: &str, expected: &[&str]| assert_eq!(words(text), expected, "{text:?}");
        check("", &[]);
        check("  posts   3 ", &["posts", "3"]);
        check("t 'a b' \"c d\"", &["t", "a b", "c d"]);
        check("t name='a b' ''", &["t", "name=a b", ""]);
        check("t 'open", &["t", "open"]);
    }
}
