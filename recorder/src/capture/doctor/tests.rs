//! Facts and what they mean.

use std::time::Duration;

use txray_store::event::{PostgresSource, RelationTraits};
use txray_store::ids::Oid;

use super::super::catalogue::{Key, Relation};
use super::super::server::Abilities;
use super::facts::*;
use super::pooler::Sight;
use super::{Finding, Level, findings};
use crate::pg::upstream::Upstream;

/// A server on which everything is as it should be.
fn fine() -> Facts {
    Facts {
        source: PostgresSource {
            version_number: 150_018,
            system_identifier: None,
            started: None,
            database: "shop".to_owned(),
            wal_level: "logical".to_owned(),
            in_recovery: false,
            settings: Vec::new(),
        },
        abilities: Abilities {
            role: "app".to_owned(),
            replicates: true,
            creates: true,
            slots: 10,
            slots_used: 1,
            senders: 10,
            senders_used: 1,
            synchronous_standbys: String::new(),
        },
        role: Role { reads_activity: true, forbidden_functions: Vec::new() },
        room: Room { most: 97, used: 12, most_of_role: None, used_by_role: 8 },
        settings: Settings {
            transaction_timeout: Duration::ZERO,
            statement_timeout: Duration::ZERO,
            idle_in_transaction_timeout: Duration::ZERO,
            read_only: false,
            encoding: "UTF8".to_owned(),
            database_bytes: Some(10 << 20),
        },
        tables: vec![table("orders")],
        partition_roots: 0,
        open_transactions: Vec::new(),
        prepared_transactions: Vec::new(),
        publications: Vec::new(),
        slots: Vec::new(),
        connection: Connection { tls_offered: Some(false), round_trip_us: 400, ..Connection::default() },
        here: Here {
            pg_dump: Some("/usr/bin/pg_dump".into()),
            directory: ".".into(),
            free_bytes: Some(100 << 30),
            left_over: Vec::new(),
        },
    }
}

fn table(name: &str) -> Table {
    let relation = Relation {
        oid: Oid(20_000),
        namespace: "public".to_owned(),
        name: name.to_owned(),
        kind: 'r',
        persistence: 'p',
        replica_identity: 'd',
        owned: true,
        readable: true,
        key: Some(Key { index: Oid(20_001), columns: vec![1], pageable: true }),
        columns: Vec::new(),
        traits: RelationTraits::default(),
    };
    Table { relation, owner: "shop_owner".to_owned(), hides_rows: false, candidate_index: None, has_primary_key: true }
}

/// What is found beside the good, when the facts are changed.
fn beside(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = fine();
    change(&mut facts);
    findings(&facts).into_iter().filter(|finding| finding.level != Level::Ok).collect()
}

/// One finding of this level and check, with this command.
fn check(change: impl FnOnce(&mut Facts), level: Level, check: &str, command: Option<&str>) {
    let found = beside(change);
    let seen: Vec<_> = found.iter().map(|finding| (finding.level, finding.check, finding.command.as_deref())).collect();
    assert_eq!(seen, [(level, check, command)], "{found:?}");
    assert!(!found[0].meaning.is_empty() && !found[0].found.is_empty(), "{found:?}");
}

#[test]
fn a_server_as_it_should_be_has_no_complaints() {
    assert_eq!(beside(|_| ()), []);
    let all = findings(&fine());
    assert!(all.len() >= 15, "{all:?}");
    assert!(all.iter().all(|finding| finding.command.is_none() && finding.meaning.is_empty()), "{all:?}");
}

#[test]
fn sessions_of_the_recorders_own_need_room() {
    let raise = "ALTER SYSTEM SET max_connections = 195; -- then restart PostgreSQL";
    check(|facts| facts.room.used = 95, Level::Problem, "connections", Some(raise));
    let raise = "ALTER SYSTEM SET max_connections = 190; -- then restart PostgreSQL";
    check(|facts| facts.room.used = 90, Level::Note, "connections", Some(raise));
    let raise = "ALTER ROLE \"app\" CONNECTION LIMIT 108;";
    check(|facts| facts.room.most_of_role = Some(8), Level::Problem, "connections", Some(raise));
    assert_eq!(beside(|facts| facts.room.most_of_role = Some(18)), []);
}

#[test]
fn problems_come_first() {
    let mut facts = fine();
    facts.here.pg_dump = None;
    facts.publications = vec![
        Publication { name: "txray_0_full".to_owned(), in_use: false },
        Publication { name: "txray_1_full".to_owned(), in_use: true },
    ];
    facts.here.left_over = vec!["/tmp/txray-trust-x".into()];
    let commands: Vec<_> = findings(&facts).into_iter().filter_map(|finding| finding.command).collect();
    assert!(commands.iter().any(|command| command == "DROP PUBLICATION \"txray_0_full\";"), "{commands:?}");
    assert!(commands.iter().any(|command| command == "rm -r '/tmp/txray-trust-x'"), "{commands:?}");
    assert!(!commands.iter().any(|command| command.contains("txray_1_full")), "a live one's: {commands:?}");
    let levels: Vec<Level> = findings(&facts).iter().map(|finding| finding.level).collect();
    assert_eq!(levels[..2], [Level::Problem, Level::Note]);
    assert!(levels.is_sorted_by(|one, next| one >= next), "{levels:?}");
}

#[test]
fn what_excludes_change_capture_is_a_problem_with_its_command() {
    let problem = |change: fn(&mut Facts), name, command| check(change, Level::Problem, name, command);
    problem(
        |facts| facts.source.wal_level = "replica".to_owned(),
        "wal_level",
        Some("ALTER SYSTEM SET wal_level = 'logical'; -- then restart PostgreSQL"),
    );
    problem(|facts| facts.source.in_recovery = true, "standby", None);
    problem(|facts| facts.source.version_number = 120_003, "version", None);
    problem(|facts| facts.abilities.replicates = false, "replication role", Some("ALTER ROLE \"app\" REPLICATION;"));
    problem(
        |facts| facts.abilities.creates = false,
        "publications",
        Some("GRANT CREATE ON DATABASE \"shop\" TO \"app\";"),
    );
    problem(
        |facts| facts.abilities.slots_used = 10,
        "replication slots",
        Some("ALTER SYSTEM SET max_replication_slots = 15; -- then restart PostgreSQL"),
    );
    problem(
        |facts| facts.abilities.senders_used = 10,
        "walsenders",
        Some("ALTER SYSTEM SET max_wal_senders = 15; -- then restart PostgreSQL"),
    );
    problem(
        |facts| facts.abilities.synchronous_standbys = "*".to_owned(),
        "synchronous standbys",
        Some("ALTER SYSTEM SET synchronous_standby_names = 'NAMES OF THE STANDBYS'; SELECT pg_reload_conf();"),
    );
    let several = beside(|facts| {
        facts.source.wal_level = "minimal".to_owned();
        facts.abilities.replicates = false;
        facts.abilities.creates = false;
    });
    assert_eq!(several.len(), 3, "each is named, not only the first: {several:?}");
}

#[test]
fn newer_versions_are_named() {
    check(|facts| facts.source.version_number = 190_000, Level::Note, "version", None);
    assert_eq!(beside(|facts| facts.source.version_number = 180_006), []);
}

#[test]
fn tables_that_are_not_captured_whole_are_named_with_what_mends_them() {
    let problem = |change: fn(&mut Table), name, command| {
        let plant = |facts: &mut Facts| change(&mut facts.tables[0]);
        check(plant, Level::Problem, name, Some(command));
    };
    let keyless = |table: &mut Table| {
        table.relation.key = None;
        table.has_primary_key = false;
    };
    check(
        |facts| keyless(&mut facts.tables[0]),
        Level::Problem,
        "identity",
        Some("ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY FULL;"),
    );
    check(
        |facts| {
            keyless(&mut facts.tables[0]);
            facts.tables[0].candidate_index = Some("orders_code".to_owned());
        },
        Level::Problem,
        "identity",
        Some("ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY USING INDEX \"orders_code\";"),
    );
    problem(
        |table| {
            table.relation.key = None;
            table.relation.replica_identity = 'n';
        },
        "identity",
        "ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY DEFAULT;",
    );
    problem(
        |table| table.relation.persistence = 'u',
        "unlogged tables",
        "ALTER TABLE \"public\".\"orders\" SET LOGGED;",
    );
    problem(|table| table.relation.owned = false, "ownership", "GRANT \"shop_owner\" TO \"app\";");
    problem(
        |table| table.relation.readable = false,
        "read privilege",
        "GRANT SELECT ON TABLE \"public\".\"orders\" TO \"app\";",
    );
    problem(|table| table.hides_rows = true, "row security", "ALTER ROLE \"app\" BYPASSRLS;");
    check(|facts| facts.tables[0].relation.kind = 'f', Level::Note, "tables", None);
    check(|facts| facts.tables.clear(), Level::Note, "tables", None);
    assert_eq!(beside(|facts| facts.tables[0].relation.replica_identity = 'f'), []);
}

#[test]
fn the_role_and_its_settings() {
    check(
        |facts| facts.role.forbidden_functions = vec!["pg_catalog.pg_current_snapshot()".to_owned()],
        Level::Problem,
        "snapshot functions",
        Some("GRANT EXECUTE ON FUNCTION pg_catalog.pg_current_snapshot() TO \"app\";"),
    );
    check(
        |facts| facts.role.reads_activity = false,
        Level::Note,
        "open transactions",
        Some("GRANT pg_read_all_stats TO \"app\";"),
    );
    check(
        |facts| facts.settings.transaction_timeout = Duration::from_secs(30),
        Level::Problem,
        "timeouts",
        Some("ALTER ROLE \"app\" SET transaction_timeout = 0;"),
    );
    // The recorder's own sessions have their own.
    assert_eq!(beside(|facts| facts.settings.statement_timeout = Duration::from_secs(5)), []);
    check(
        |facts| facts.settings.read_only = true,
        Level::Note,
        "read-only default",
        Some("ALTER ROLE \"app\" SET default_transaction_read_only = off;"),
    );
    check(|facts| facts.settings.encoding = "SQL_ASCII".to_owned(), Level::Note, "encoding", None);
}

#[test]
fn what_holds_the_creation_of_a_slot_up_is_named() {
    check(
        |facts| {
            facts.open_transactions.push(OpenTransaction {
                pid: 4711,
                user: "batch".to_owned(),
                application: String::new(),
                state: "idle in transaction".to_owned(),
                age: Duration::from_mins(10),
            });
        },
        Level::Problem,
        "open transactions",
        Some("SELECT pg_terminate_backend(4711);"),
    );
    check(
        |facts| {
            facts.prepared_transactions.push(PreparedTransaction {
                name: "it's".to_owned(),
                database: "shop".to_owned(),
                age: Duration::from_mins(10),
            });
        },
        Level::Problem,
        "prepared transactions",
        Some("ROLLBACK PREPARED 'it''s'; -- or COMMIT PREPARED, in that database"),
    );
}

#[test]
fn leftovers_of_recorders_are_named() {
    let slot = |active| Slot { name: "txray_0a1b2c3d".to_owned(), active, kept_bytes: Some(3 << 30) };
    check(
        |facts| facts.slots.push(slot(false)),
        Level::Note,
        "leftovers",
        Some("SELECT pg_drop_replication_slot('txray_0a1b2c3d');"),
    );
    let found = beside(|facts| facts.slots.push(slot(false)));
    assert!(found[0].found.contains("3.0 GB"), "{found:?}");
    check(|facts| facts.slots.push(slot(true)), Level::Note, "other recorders", None);
    check(
        |facts| facts.publications.push(Publication { name: "txray_0a1b2c3d_full".to_owned(), in_use: false }),
        Level::Note,
        "leftovers",
        Some("DROP PUBLICATION \"txray_0a1b2c3d_full\";"),
    );
}

#[test]
fn the_connection_is_judged_by_where_it_goes() {
    let connection = |change: fn(&mut Connection)| beside(|facts| change(&mut facts.connection));
    let checks = |found: Vec<Finding>| found.iter().map(|finding| finding.check).collect::<Vec<_>>();
    assert!(connection(|connection| connection.tls_offered = None).is_empty());
    let remote = |connection: &mut Connection| connection.remote = true;
    assert_eq!(checks(connection(remote)), ["TLS"]);
    assert_eq!(checks(connection(|connection| connection.tls_offered = Some(true))), ["channel binding"]);
    let used = |verified| {
        move |facts: &mut Facts| {
            facts.connection.remote = true;
            facts.connection.tls_offered = Some(true);
            facts.connection.tls_used = Some("TLSv1.3".to_owned());
            facts.connection.tls_verified = verified;
        }
    };
    assert_eq!(checks(beside(used(false))), ["TLS", "channel binding"]);
    assert_eq!(checks(beside(used(true))), ["channel binding"]);
}

#[test]
fn clocks_that_differ_by_more_than_can_be_measured_are_named() {
    let clock = |ahead_us, round_trip_us| {
        beside(|facts| {
            facts.connection.clock_ahead_us = ahead_us;
            facts.connection.round_trip_us = round_trip_us;
        })
    };
    assert_eq!(clock(90_000, 400), []);
    assert_eq!(clock(400_000, 700_000), [], "not more than the answer took");
    for ahead in [150_000, -150_000] {
        let found = clock(ahead, 400);
        assert_eq!((found.len(), found[0].check), (1, "clocks"), "{found:?}");
        assert_eq!(found[0].found.contains("behind"), ahead < 0, "{found:?}");
    }
}

#[test]
fn poolers_are_told_from_the_server() {
    let tcp = Upstream::Tcp { host: "db".to_owned(), port: 5432 };
    let unix = Upstream::Unix("/run/postgresql/.s.PGSQL.5432".into());
    let plain = Sight::default();
    assert_eq!(plain.judged(&tcp, Some(5432)), None);
    assert_eq!(plain.judged(&unix, None), None);
    let pooler = |sign, mode| Some(Pooler { sign, mode });
    assert_eq!(plain.judged(&tcp, Some(5433)), pooler(PoolerSign::OtherPort, PoolerMode::Unknown));
    assert_eq!(plain.judged(&tcp, None), pooler(PoolerSign::OtherPort, PoolerMode::Unknown));
    assert_eq!(plain.judged(&unix, Some(5432)), pooler(PoolerSign::OtherPort, PoolerMode::Unknown));
    let refuses = Sight { refuses_options: true, ..plain };
    assert_eq!(refuses.judged(&tcp, Some(5432)), pooler(PoolerSign::RefusesOptions, PoolerMode::Session));
    let shared = Sight { shared_backend: true, ..refuses };
    assert_eq!(shared.judged(&tcp, Some(5432)), pooler(PoolerSign::SharedBackend, PoolerMode::Transaction));
    let statement = Sight { refuses_blocks: true, ..shared };
    assert_eq!(statement.judged(&tcp, Some(5432)), pooler(PoolerSign::SharedBackend, PoolerMode::Statement));
    for (pooler, level) in [
        (shared.judged(&tcp, Some(5432)), Level::Problem),
        (refuses.judged(&tcp, Some(5432)), Level::Problem),
        (plain.judged(&tcp, Some(9)), Level::Note),
    ] {
        let found = beside(|facts| facts.connection.pooler = pooler);
        assert_eq!((found.len(), found[0].check, found[0].level), (1, "pooler", level), "{found:?}");
    }
    // A pooler may not pass on the settings by which the recorder lifts timeouts.
    let found = beside(|facts| {
        facts.connection.pooler = shared.judged(&tcp, Some(5432));
        facts.settings.statement_timeout = Duration::from_secs(5);
    });
    assert_eq!(found.iter().map(|finding| finding.check).collect::<Vec<_>>(), ["pooler", "timeouts"]);
}

#[test]
fn programs_and_disk_of_this_machine() {
    const GB: u64 = 1 << 30;
    check(
        |facts| facts.here.pg_dump = None,
        Level::Problem,
        "pg_dump",
        Some("apt-get install postgresql-client-15    # or --pg-bin DIR with PostgreSQL's programs"),
    );
    let disk = |free: Option<u64>, size: Option<u64>| {
        let found = beside(|facts| {
            facts.here.free_bytes = free;
            facts.settings.database_bytes = size;
        });
        found.first().map(|finding| (finding.check, finding.level))
    };
    assert_eq!(disk(Some(10 * GB), Some(4 * GB)), None);
    assert_eq!(disk(Some(10 * GB), Some(6 * GB)), Some(("disk", Level::Note)));
    assert_eq!(disk(Some(10 * GB), Some(11 * GB)), Some(("disk", Level::Problem)));
    assert_eq!(disk(Some(GB / 2), Some(0)), Some(("disk", Level::Problem)));
    assert_eq!(disk(None, Some(GB)), None);
}
