//! The corpora of `fuzz/`, and a short run of seeded mutations of them.

use std::path::PathBuf;

use super::mutation::{corpus, exercise, write_corpus};
use super::{Instructions, log_reader, put_piece, sql_lexer, sql_reading};
use crate::event::Event;
use crate::test_events;

fn directory(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus", target].iter().collect()
}

#[test]
fn logs_from_the_corpus_and_mutations_of_them() {
    exercise(&corpus(&directory("log_reader")), 1, 3_000, log_reader);
}

#[test]
fn sql_from_the_corpus_and_mutations_of_it() {
    exercise(&corpus(&directory("sql_lexer")), 2, 3_000, sql_lexer);
}

#[test]
fn statements_from_the_corpus_and_mutations_of_them_are_read() {
    exercise(&corpus(&directory("sql_reading")), 3, 500, sql_reading);
}

#[test]
fn instructions_give_back_the_pieces_that_were_put() {
    for length in [0, 1, 254, 255, 256, 65_535] {
        let mut bytes = Vec::new();
        put_piece(&mut bytes, &vec![7; length]);
        bytes.push(9);
        let mut instructions = Instructions::new(&bytes);
        assert_eq!((instructions.piece().len(), instructions.byte(), instructions.byte()), (length, 9, 0));
    }
}

/// A trace of a few events: undamaged, then each kind of damage.
fn logs() -> Vec<Vec<u8>> {
    let mut events = vec![test_events::session_started(1, 5), test_events::relation_described(6)];
    events.extend([test_events::request_started(3, 7), test_events::request_finished(3, 9)]);
    events.extend(test_events::insert(4, 8));
    events.push(test_events::session_ended(1, 10));
    let contents: Vec<Vec<u8>> =
        events.iter().map(|event: &Event| postcard::to_stdvec(event).expect("an event")).collect();
    let mut inputs = Vec::new();
    for damage in [&[0][..], &[1, 0, 90, 0, 0, 0], &[1, 0x10, 200, 0, 0, 0], &[2, 4, 50, 1, 0, 0, 0, 0, 2, 0, 0]] {
        let mut input = vec![2];
        input.extend_from_slice(damage);
        for content in &contents {
            put_piece(&mut input, content);
        }
        inputs.push(input);
    }
    inputs.extend([b"\0TXRAYLOG".to_vec(), b"\x01\x04\0\0\0abcd".to_vec()]);
    inputs
}

#[test]
#[ignore = "writes seeds into the corpora; for a new target, or when the events' form has changed"]
fn write_seeds() {
    write_corpus(&directory("log_reader"), &logs());
    let mut texts = Vec::new();
    for line in include_str!("../sql_lexer/tests.rs").lines().filter(|line| line.contains("check(")) {
        texts.extend(line.split('"').filter(|part| part.len() > 6).map(|part| part.as_bytes().to_vec()));
    }
    write_corpus(&directory("sql_lexer"), &texts);
    let texts =
        include_str!("../ingest/exactness/tests.rs").lines().flat_map(|line| line.split('"').skip(1).step_by(2));
    let texts: Vec<Vec<u8>> = texts.filter(|text| text.len() > 12).map(|text| text.as_bytes().to_vec()).collect();
    write_corpus(&directory("sql_reading"), &texts);
}
