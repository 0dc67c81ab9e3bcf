//! `make kill-test`: see [`txray_tests::kill`]. KILL_ROUNDS (200), KILL_SEED (from the clock) and KILL_CLIENTS (8) vary it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use txray_tests::kill::{KillOptions, run};
use txray_tests::variable;

fn main() -> anyhow::Result<()> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let options = KillOptions {
        rounds: variable("KILL_ROUNDS", 200)?,
        seed: variable("KILL_SEED", clock)?,
        clients: variable("KILL_CLIENTS", 8)?,
    };
    println!("kill test: {options:?}");
    let began = Instant::now();
    let report = run(options)?;
    println!("{report}took {} s", began.elapsed().as_secs());
    report.verdict()
}
