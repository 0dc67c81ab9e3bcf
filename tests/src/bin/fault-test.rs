//! `make fault-test`: see [`txray_tests::fault`]. FAULT_SECONDS (9), FAULT_ROUNDS (3) and FAULT_RATE (500, transactions a second of the
//! paced load) vary it.

use txray_tests::fault::{FaultOptions, run_cases};
use txray_tests::variable;

fn main() -> anyhow::Result<()> {
    let options = FaultOptions {
        seconds: variable("FAULT_SECONDS", 9)?,
        rounds: variable("FAULT_ROUNDS", 3)?,
        paced: Some(variable("FAULT_RATE", 500)?),
        keeps_up: true,
    };
    println!("full disks and a stopped sealer: {options:?}");
    println!("{}", run_cases(options)?);
    Ok(())
}
