//! `make overload-test`: see [`txray_tests::overload`]. OVERLOAD_SECONDS (20) varies it.

use txray_tests::overload::{OverloadOptions, run};
use txray_tests::variable;

fn main() -> anyhow::Result<()> {
    let options = OverloadOptions { seconds: variable("OVERLOAD_SECONDS", 20)? };
    println!("memory under overload: {options:?}");
    let report = run(options)?;
    println!("{report}");
    report.verdict()
}
