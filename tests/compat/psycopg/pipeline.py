"""Pipeline mode: many statements before any answer, errors in the middle, nested syncs."""

import psycopg
from psycopg import pq

from show import connect, failing, rows

with connect(autocommit=True) as connection:
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("INSERT INTO journal VALUES (%s, 'pipeline') RETURNING at_step", (n,)) for n in range(30)]
        pipeline.sync()
        print([cursor.fetchone() for cursor in cursors][:3], pipeline.status)
    print(connection.execute("SELECT count(*) FROM journal WHERE note = 'pipeline'").fetchone())

    def broken():
        with connection.pipeline():
            connection.execute("INSERT INTO journal VALUES (1, 'before the error')")
            connection.execute("SELECT 1 / %s", (0,))
            connection.execute("INSERT INTO journal VALUES (2, 'behind the error')")
    failing("broken pipeline", broken)
    print(connection.execute("SELECT count(*) FROM journal WHERE note LIKE '%the error'").fetchone())

    with connection.pipeline() as pipeline:
        first = connection.execute("INSERT INTO journal VALUES (3, 'synced') RETURNING note")
        pipeline.sync()
        bad = connection.cursor()
        failing("in the middle", lambda: (bad.execute("SELECT absent()"), pipeline.sync()))
        last = connection.execute("INSERT INTO journal VALUES (4, 'synced') RETURNING note")
        pipeline.sync()
        print(first.fetchone(), last.fetchone())
    with connection.pipeline():
        with connection.transaction():
            cursor = connection.cursor()
            cursor.executemany("INSERT INTO journal VALUES (%s, %s) RETURNING at_step", [(n, "many") for n in range(100)], returning=True)
            print(cursor.rowcount, cursor.fetchone())
        with connection.transaction(force_rollback=True):
            connection.execute("DELETE FROM journal")
        with connection.transaction():
            rows("large", connection.execute("SELECT length(repeat(%s, 200000))", ("wide",)))
    print(connection.execute("SELECT note, count(*) FROM journal WHERE note IN ('synced', 'many') GROUP BY 1 ORDER BY 1").fetchall())

# without the driver's help: libpq's own calls, with a flush request, and results as they come
with connect(autocommit=True) as connection:
    pg = connection.pgconn
    pg.enter_pipeline_mode()
    pg.send_query_params(b"SELECT $1::int", [b"1"], result_format=1)
    pg.send_prepare(b"named", b"SELECT $1::text || '!'")
    pg.send_query_prepared(b"named", [b"a"])
    pg.send_describe_prepared(b"named")
    pg.send_flush_request()
    pg.flush()
    seen = 0
    while seen < 4:
        pg.consume_input()
        if pg.is_busy():
            continue
        result = pg.get_result()
        if result is None:
            continue
        print(pq.ExecStatus(result.status).name, result.get_value(0, 0) if result.ntuples else None, result.nparams)
        seen += 1
    pg.send_query_params(b"SELECT 'behind the flush'", [])
    pg.pipeline_sync()
    pg.flush()
    while True:
        pg.consume_input()
        if pg.is_busy():
            continue
        result = pg.get_result()
        if result is None:
            continue
        print(pq.ExecStatus(result.status).name, result.get_value(0, 0) if result.ntuples else None)
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            break
    pg.exit_pipeline_mode()
    print(connection.execute("SELECT 'out of it'").fetchone())
