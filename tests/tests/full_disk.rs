//! A short run of the fault test; `make fault-test` is the long one.

use txray_tests::fault::{FaultOptions, run_cases, run_limited};

#[test]
fn full_disks_and_a_stopped_sealer_are_not_the_applications_problem() -> anyhow::Result<()> {
    println!("{}", run_cases(FaultOptions { seconds: 6, rounds: 1, paced: None, keeps_up: false })?);
    Ok(())
}

#[test]
fn files_that_may_not_grow_are_not_the_applications_problem() -> anyhow::Result<()> {
    println!("{}", run_limited(5)?);
    Ok(())
}
