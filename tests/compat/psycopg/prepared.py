"""Statements that the driver prepares by itself after some executions, evicts, and loses to DISCARD and DDL."""

import psycopg

from show import connect, failing, rows

with connect(autocommit=True, prepare_threshold=2) as connection:
    connection.prepared_max = 3
    prepared = "SELECT count(*) FROM pg_prepared_statements"
    for n in range(6):
        rows(f"execution {n}", connection.execute("SELECT id, name FROM customers WHERE id = %s", (n + 1,)))
    for n in range(8):
        for _ in range(3):
            connection.execute(f"SELECT %s::int + {n}", (n,))
    print("prepared now", connection.execute(prepared, prepare=False).fetchone()[0] <= 3)
    rows("prepared at once", connection.execute("SELECT %s::text", ("now",), prepare=True))
    connection.execute("CREATE TABLE changing (a int)")
    connection.execute("INSERT INTO changing VALUES (1)")
    for _ in range(4):
        connection.execute("SELECT * FROM changing")
    connection.execute("ALTER TABLE changing ADD COLUMN b int DEFAULT 5")
    failing("changed result", lambda: print(connection.execute("SELECT * FROM changing").fetchall()))
    failing("again", lambda: print(connection.execute("SELECT * FROM changing").fetchall()))
    for _ in range(3):
        connection.execute("SELECT 'kept'")
    connection.execute("DEALLOCATE ALL")
    rows("after DEALLOCATE ALL", connection.execute("SELECT 'kept'"))
    connection.execute("DISCARD ALL")
    failing("after DISCARD ALL", lambda: rows("again", connection.execute("SELECT 'kept'")))
    rows("goes on", connection.execute("SELECT 1"))
