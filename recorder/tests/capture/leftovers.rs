//! What killed recorders leave on a server goes with the next recording; what a live one has stays.

use txray_recorder::capture::{Capture, CaptureConfig};
use txray_store::event::Event;
use txray_store::ids::SourceId;
use txray_store::sink::EventSink;

use super::harness::{DEADLINE, Server};

async fn publications(server: &Server) -> Vec<String> {
    let client = server.client().await;
    let rows = client.query("SELECT pubname::text FROM pg_publication ORDER BY pubname", &[]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Waits until the server has no session of a recorder's.
async fn wait_until_gone(server: &Server) {
    let client = server.client().await;
    let began = std::time::Instant::now();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'txray'";
    while client.query_one(sql, &[]).await.expect("a row").get::<_, i64>(0) > 0 {
        assert!(began.elapsed() < DEADLINE, "the dropped capture's sessions do not end");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_of_a_killed_recorder_go_and_those_of_a_live_one_stay() {
    for server in Server::each(&[("wal_level", "logical")]) {
        server.run("CREATE TABLE t (a int PRIMARY KEY); CREATE PUBLICATION txray_mine; CREATE PUBLICATION other").await;
        let config = || CaptureConfig::new(SourceId(0), server.config());
        // Dropped as a whole, as a process that is killed: nothing is tidied up.
        let killed = Capture::start(config(), EventSink::in_memory().0).await.expect("a capture");
        let left = publications(&server).await;
        assert_eq!(left.len(), 4, "{left:?}");
        drop(killed);
        wait_until_gone(&server).await;
        assert_eq!(publications(&server).await, left);

        let mut live = server.capture().await;
        live.capture.wait_base_complete().await;
        let now = publications(&server).await;
        assert_eq!(now.len(), 4, "{now:?}");
        assert_eq!(now.iter().filter(|name| left.contains(name)).count(), 2, "only the user's own: {now:?}");
        let beside = server.capture().await;
        assert_eq!(publications(&server).await.len(), 6);
        beside.stop().await;
        assert_eq!(publications(&server).await, now);
        server.run("INSERT INTO t VALUES (1)").await;
        live.wait_for("a change", |event| matches!(event, Event::RowChanges(_))).await;
        live.stop().await;
        assert_eq!(publications(&server).await, ["other", "txray_mine"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_stay_while_only_a_session_tells_that_their_recorder_lives() {
    let server = Server::logical();
    server.run("CREATE PUBLICATION txray_0000abcd_full; CREATE PUBLICATION txray_ffffabcd_ins").await;
    let holder = server.client().await;
    holder.batch_execute("SET application_name = 'txray_ffffabcd'").await.expect("a name");
    let running = server.capture().await;
    let now = publications(&server).await;
    assert!(now.contains(&"txray_ffffabcd_ins".to_owned()), "{now:?}");
    assert!(!now.contains(&"txray_0000abcd_full".to_owned()), "{now:?}");
    running.stop().await;
    drop(holder);
}
