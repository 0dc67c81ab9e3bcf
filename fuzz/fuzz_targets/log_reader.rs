#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| txray_store::fuzzing::log_reader(input));
