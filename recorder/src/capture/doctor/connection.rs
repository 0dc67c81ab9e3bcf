//! What stands between the recorder and the server: TLS, poolers, clocks.

use super::Finding;
use super::facts::{Connection, Facts, Pooler, PoolerMode, PoolerSign};

/// Difference of the clocks from which on the order of what two machines tell gets doubtful, in microseconds.
const CLOCK_NOTE_US: u64 = 100_000;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let connection = &facts.connection;
    vec![tls(connection), channel_binding(connection), pooler(connection.pooler.as_ref()), clock(connection)]
}

fn tls(connection: &Connection) -> Finding {
    let check = "TLS";
    match (&connection.tls_used, connection.tls_offered) {
        (Some(version), _) if connection.tls_verified => {
            Finding::ok(check, format!("{version}, and the server's certificate is verified"))
        }
        (Some(version), _) => {
            let meaning = "who answers is not known for certain; a recording is whole all the same";
            Finding::note(check, format!("{version}, but the server's certificate is not verified"), meaning)
                .mended_by("sslmode=verify-full&sslrootcert=FILE in the URL")
        }
        (None, Some(true)) if connection.remote => {
            let meaning =
                "the recorder's connection to the server, and the application's through it, can be read on the way";
            Finding::note(check, "the server offers TLS, and the connection does not use it", meaning)
                .mended_by("sslmode=verify-full&sslrootcert=FILE in the URL")
        }
        (None, Some(false)) if connection.remote => {
            let meaning = "the connection can be read on the way";
            Finding::note(check, "the server offers no TLS", meaning).mended_by(
                "ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf(); -- with server.crt and server.key in place",
            )
        }
        (None, Some(true)) => Finding::ok(check, "offered by the server, and not used on this machine"),
        (None, Some(false)) => Finding::ok(check, "not offered by the server, and not needed on this machine"),
        (None, None) => Finding::ok(check, "a Unix socket needs none"),
    }
}

fn channel_binding(connection: &Connection) -> Finding {
    let check = "channel binding";
    if connection.tls_offered != Some(true) {
        return Finding::ok(check, "not possible without TLS");
    }
    let meaning = "a client that insists on it (channel_binding=require) sees that it does not speak with the server itself, and \
                   refuses; the default, prefer, works";
    Finding::note(check, "the recorder cannot pass channel binding on", meaning)
        .mended_by("channel_binding=prefer in the application's URL")
}

/// What stands before the server.
pub(super) fn pooler(found: Option<&Pooler>) -> Finding {
    let check = "pooler";
    let Some(Pooler { sign, mode }) = found else {
        return Finding::ok(check, "connections reach the server itself");
    };
    let certain = *sign != PoolerSign::OtherPort;
    let sign = match sign {
        PoolerSign::RefusesOptions => "startup options are refused, as PgBouncer does",
        PoolerSign::SharedBackend => "two connections were served by one backend",
        PoolerSign::OtherPort => "the server sees another address than was connected to",
    };
    let meaning = match mode {
        PoolerMode::Transaction => {
            "it pools by transaction: a session's statements run on many backends, so questions for snapshots and SET may reach \
             another one, and replication connections do not pass"
        }
        PoolerMode::Statement => {
            "it pools by statement: nothing of a session holds together, and replication connections do not pass"
        }
        PoolerMode::Session => {
            "it pools by session: statements and snapshots are recorded; replication connections may not pass"
        }
        PoolerMode::Unknown => "a pooler or a forwarded port: if it is a pooler, replication connections do not pass",
    };
    let finding = if certain { Finding::problem } else { Finding::note };
    finding(check, format!("something stands before the server: {sign}"), meaning).mended_by(
        "give txray the server's own host and port, and have the pooler, or the application, connect to txray",
    )
}

fn clock(connection: &Connection) -> Finding {
    let check = "clocks";
    let apart = connection.clock_ahead_us.unsigned_abs();
    let direction = if connection.clock_ahead_us >= 0 { "ahead of" } else { "behind" };
    let half = connection.round_trip_us / 2;
    let text = |value: u64| format!("{:.1} ms", value as f64 / 1e3);
    if apart > CLOCK_NOTE_US + half {
        let found = format!("the server's clock is {} {direction} this machine's (± {})", text(apart), text(half));
        let meaning = "commit times and this machine's times differ by that: positions given as a time may fall beside what is meant";
        return Finding::note(check, found, meaning).mended_by("timedatectl set-ntp true    # on both machines");
    }
    Finding::ok(check, format!("at most {} apart", text(apart + half)))
}
