//! A short run of the kill test; `make kill-test` is the long one.

use txray_tests::kill::{KillOptions, run};

#[test]
fn a_recorder_killed_under_load_loses_only_what_was_in_flight() -> anyhow::Result<()> {
    let options = KillOptions { rounds: 5, seed: 3, clients: 4 };
    let report = run(options)?;
    println!("{report}");
    report.verdict()
}
