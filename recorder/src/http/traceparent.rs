//! W3C Trace Context, version 00: `00-<32 hex trace id>-<16 hex parent id>-<2 hex flags>`.
//!
//! Source: <https://www.w3.org/TR/trace-context/#traceparent-header>.

/// Name of the header.
pub const HEADER: &str = "traceparent";

/// A new `traceparent` with random ids, sampled.
pub fn generate() -> String {
    // All zeroes are invalid ids; setting a bit that randomness leaves alone costs nothing.
    let trace_id = rand::random::<u128>() | 1;
    let parent_id = rand::random::<u64>() | 1;
    format!("00-{trace_id:032x}-{parent_id:016x}-01")
}

#[cfg(test)]
mod tests {
    #[test]
    fn generated_ones_are_well_formed_and_differ() {
        let (first, second) = (super::generate(), super::generate());
        let parts: Vec<&str> = first.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
        assert!(parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())));
        assert_ne!(first, second);
    }
}
