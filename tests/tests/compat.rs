//! A small part of `make compat` that runs with the other tests: psql on one server.

use txray_tests::compat::{Options, run};

#[test]
fn psql_cannot_tell_the_recorder_from_the_server() {
    let options = Options {
        client: Some("psql".to_owned()),
        behaviours: ["writes", "errors-with-positions", "copy", "pipeline", "cancel"].map(str::to_owned).to_vec(),
        server: Some(15),
        ..Options::default()
    };
    let (table, work) = run(&options).expect("the behaviours can be run");
    assert_eq!(table.differences(), 0, "\n{}\nsee {}", table.markdown(), work.display());
    assert_eq!(table.skipped() + table.equal(), 6, "\n{}", table.markdown());
}
