//! Body of the fuzz target for what is read out of statements' texts.

use super::reading::{Reading, read};

/// Any text: nothing panics or exhausts the stack, and what a statement is said to read or write stands in its text.
pub fn sql_reading(input: &[u8]) {
    let sql = String::from_utf8_lossy(input);
    let Reading::Relations(found) = read(&sql) else { return };
    let text = sql.to_lowercase();
    for relation in found.read.iter().chain(&found.written) {
        for name in relation.schema.iter().chain([&relation.name]) {
            // A quote in a quoted name is written twice.
            let written = name.replace('"', "\"\"").to_lowercase();
            assert!(text.contains(&written), "{name} stands in the text");
        }
    }
}
