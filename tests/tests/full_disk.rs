//! A short run of the fault test; `make fault-test` is the long one.

use txray_tests::fault::{FaultOptions, run_cases};

#[test]
fn full_disks_and_a_stopped_sealer_are_not_the_applications_problem() -> anyhow::Result<()> {
    println!("{}", run_cases(FaultOptions { seconds: 6, rounds: 1, paced: None, keeps_up: false })?);
    Ok(())
}
