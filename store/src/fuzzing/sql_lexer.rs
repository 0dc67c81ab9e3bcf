//! The SQL scanner.

use crate::sql_lexer::{
    fingerprint, locks_rows, mask_secrets, normalized, sqlcommenter, statements, target_relation, tokens,
    transaction_control, verb,
};

/// Any text: tokens cover it, what lies between statements is blank, and nothing panics.
pub fn sql_lexer(input: &[u8]) {
    let sql = String::from_utf8_lossy(input);
    let mut at = 0;
    for token in tokens(&sql) {
        assert_eq!(token.span.start, at, "tokens follow each other");
        assert!(token.span.end > at && sql.is_char_boundary(token.span.end), "a token ends at a character's border");
        at = token.span.end;
    }
    assert_eq!(at, sql.len(), "tokens cover the text");
    let mut at = 0;
    for span in statements(&sql).chain(std::iter::once(sql.len()..sql.len())) {
        assert!(span.start >= at && span.end <= sql.len(), "statements follow each other");
        let between = &sql[at..span.start];
        let blank = tokens(between).all(|token| token.is_blank() || token.is_symbol(between, ';'));
        assert!(blank, "what lies between statements is blank");
        let statement = &sql[span.clone()];
        let _ = (verb(statement), transaction_control(statement), target_relation(statement));
        at = span.end;
    }
    let _ = (verb(&sql), transaction_control(&sql), locks_rows(&sql), sqlcommenter(&sql), target_relation(&sql));
    let _ = (fingerprint(&sql), normalized(&sql), mask_secrets(&sql));
}
