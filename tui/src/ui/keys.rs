//! Keys written as text, for tests and screenshots: `jj<enter>/pay<enter><esc>`.

use anyhow::{Context as _, bail};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Reads a key string: characters stand for themselves, `<name>` for a named key, `<c-x>` for Control-x, `<lt>` for `<`.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<KeyEvent>> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first != '<' {
            keys.push(KeyEvent::new(KeyCode::Char(first), KeyModifiers::NONE));
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let end = rest.find('>').with_context(|| format!("the key \"{rest}\" has no >"))?;
        keys.push(named(&rest[1..end])?);
        rest = &rest[end + 1..];
    }
    Ok(keys)
}

fn named(name: &str) -> anyhow::Result<KeyEvent> {
    let plain = |code| KeyEvent::new(code, KeyModifiers::NONE);
    Ok(match name.to_ascii_lowercase().as_str() {
        "enter" => plain(KeyCode::Enter),
        "esc" => plain(KeyCode::Esc),
        "tab" => plain(KeyCode::Tab),
        "s-tab" => plain(KeyCode::BackTab),
        "up" => plain(KeyCode::Up),
        "down" => plain(KeyCode::Down),
        "left" => plain(KeyCode::Left),
        "right" => plain(KeyCode::Right),
        "pgup" => plain(KeyCode::PageUp),
        "pgdn" => plain(KeyCode::PageDown),
        "home" => plain(KeyCode::Home),
        "end" => plain(KeyCode::End),
        "bs" => plain(KeyCode::Backspace),
        "space" => plain(KeyCode::Char(' ')),
        "lt" => plain(KeyCode::Char('<')),
        other => match other.strip_prefix("c-").map(|letter| letter.chars().collect::<Vec<_>>()).as_deref() {
            Some([letter]) => KeyEvent::new(KeyCode::Char(*letter), KeyModifiers::CONTROL),
            _ => bail!("\"<{name}>\" is not a key: use <enter>, <esc>, <tab>, <up>, <pgdn>, <c-u> and their like"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_keys_and_refuses_what_is_none() {
        let codes =
            |text: &str| -> Vec<KeyCode> { parse(text).expect("keys").into_iter().map(|key| key.code).collect() };
        assert_eq!(codes("j<enter><lt>"), [KeyCode::Char('j'), KeyCode::Enter, KeyCode::Char('<')]);
        assert_eq!(parse("<c-w>").expect("keys")[0].modifiers, KeyModifiers::CONTROL);
        for text in ["<", "<enter", "<nokey>", "<c->"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
