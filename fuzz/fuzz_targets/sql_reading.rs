#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| txray_store::fuzzing::sql_reading(input));
