"""psycopg2: the simple protocol, server-side cursors, COPY, notifications, cancelling, large objects, two-phase commit."""

import io
import select
import threading
import time

import psycopg2
import psycopg2.extensions
import psycopg2.extras


def failing(title, action):
    try:
        action()
        print(f"{title}: no error")
    except psycopg2.Error as error:
        print(f"{title}: {type(error).__name__} {error.pgcode} {error.diag.message_primary!r} {error.diag.statement_position}")


connection = psycopg2.connect("")
cursor = connection.cursor()
cursor.execute("SELECT * FROM kinds WHERE id = 1")
print([bytes(value) if isinstance(value, memoryview) else value for value in cursor.fetchone()], [column.name for column in cursor.description])
cursor.execute("SELECT %s, %s, %s::jsonb", (1, "it's ☃", psycopg2.extras.Json({"a": 1})))
print(cursor.fetchone())
psycopg2.extras.execute_values(cursor, "INSERT INTO journal VALUES %s", [(n, "values") for n in range(250)], page_size=100)
psycopg2.extras.execute_batch(cursor, "INSERT INTO journal VALUES (%s, %s)", [(n, "batch") for n in range(250)], page_size=100)
connection.commit()
failing("syntax", lambda: cursor.execute("SELEC 1"))
failing("aborted", lambda: cursor.execute("SELECT 1"))
connection.rollback()
with connection, connection.cursor("named") as named:
    named.itersize = 10
    named.execute("SELECT id FROM orders ORDER BY id LIMIT 35")
    print(sum(row[0] for row in named))
cursor.copy_expert("COPY journal FROM STDIN", io.StringIO("1\tcopied\n2\t\\N\n"))
out = io.StringIO()
cursor.copy_expert("COPY (SELECT id, name FROM customers ORDER BY id LIMIT 3) TO STDOUT WITH CSV", out)
print(out.getvalue())
failing("bad copy", lambda: cursor.copy_expert("COPY journal FROM STDIN", io.StringIO("x\ty\n")))
connection.rollback()
cursor.execute("SELECT chatter(2)")
print(connection.notices[-2:])
large = connection.lobject(0, "wb")
large.write(b"large " * 100000)
number = large.oid
large.close()
large = connection.lobject(number, "rb")
large.seek(6)
print(large.read(12), large.seek(0, 2))
large.unlink()
connection.commit()
for level in ("REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED"):
    connection.set_session(isolation_level=level)
    cursor.execute("SHOW transaction_isolation")
    print(cursor.fetchone())
    connection.rollback()
xid = connection.xid(1, "psycopg2", "branch")
connection.tpc_begin(xid)
cursor.execute("INSERT INTO journal VALUES (1, 'prepared')")
connection.tpc_prepare()
connection.reset()
connection.tpc_commit(xid)
connection.autocommit = True
cursor.execute("LISTEN news")
cursor.execute("NOTIFY news, 'own'")
connection.poll()
print([(notify.channel, notify.payload) for notify in connection.notifies])
other = psycopg2.connect("")
other.autocommit = True
connection.notifies.clear()
other.cursor().execute("NOTIFY news, 'other'")
while not connection.notifies:
    select.select([connection], [], [], 60)
    connection.poll()
print([(notify.channel, notify.payload) for notify in connection.notifies])


def cancel_when_asleep():
    with other.cursor() as looking:
        while True:
            looking.execute("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%' AND datname = current_database()")
            if looking.fetchone()[0]:
                break
            time.sleep(0.02)
    connection.cancel()


thread = threading.Thread(target=cancel_when_asleep)
thread.start()
failing("cancelled", lambda: cursor.execute("SELECT pg_sleep(100)"))
thread.join()
cursor.execute("SELECT 'goes on'")
print(cursor.fetchone())
asynchronous = psycopg2.connect("", async_=1)
psycopg2.extras.wait_select(asynchronous)
async_cursor = asynchronous.cursor()
async_cursor.execute("SELECT count(*) FROM customers")
psycopg2.extras.wait_select(asynchronous)
print(async_cursor.fetchone())
