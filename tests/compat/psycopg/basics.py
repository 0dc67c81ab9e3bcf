"""Text and binary results and parameters, errors, transactions, notices."""

import datetime
import decimal
import uuid

import psycopg
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.json import Jsonb

from show import connect, failing, rows

with connect() as connection:
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            rows(f"kinds, binary={binary}", cursor.execute("SELECT id, flag, small, large, exact, single, double, words, fixed, raw, clock, token, doc, list, grid, range, feeling, net FROM kinds WHERE id < 3 ORDER BY id"))
            rows("parameters", cursor.execute("SELECT %s::int, %s::text, %s::numeric, %s::date, %s::timestamptz, %s::uuid, %s::jsonb, %s::int[], %s::bytea, %s::interval",
                 (7, "☃", decimal.Decimal("12.340"), datetime.date(2026, 2, 28), datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
                  uuid.UUID(int=5), Jsonb({"a": [1, None]}), [1, None, 3], b"\x00\xff", datetime.timedelta(days=3, seconds=4.5))))
            rows("binary parameters", cursor.execute("SELECT %b::int8 + 1, %b::text, %b::bytea", (41, "x", b"\x01")))
    connection.rollback()
    with connection.cursor(row_factory=dict_row) as cursor:
        rows("dicts", cursor.execute("SELECT id, name FROM customers ORDER BY id LIMIT 2"))
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        rows("tuples", cursor.execute("SELECT count(*) AS many FROM orders"))
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO journal VALUES (%s, %s) RETURNING at_step", [(n, f"many {n}") for n in range(5)], returning=True)
        while True:
            print("returned", cursor.fetchall())
            if not cursor.nextset():
                break
        rows("several statements", cursor.execute("SELECT 1; SELECT 2"))
        cursor.nextset()
        rows("the second", cursor)
        rows("chatter", cursor.execute("SELECT chatter(%s)", (3,)))
        rows("null", cursor.execute("SELECT %s, %s", (None, "")))
    connection.commit()

    def attempt(sql, *parameters):
        def act():
            with connection.transaction():
                connection.execute(sql, parameters)
        return act

    failing("syntax", attempt("SELEC 1"))
    failing("no column", attempt("SELECT nme FROM customers WHERE id = %s", 1))
    failing("unique", attempt("INSERT INTO customers (name, email) VALUES (%s, %s)", "x", "c1@example.com"))
    failing("check", attempt("UPDATE customers SET balance = %s", -1))
    failing("foreign key", attempt("INSERT INTO orders (customer_id, placed_on, total) VALUES (9999, now(), 1)"))
    failing("division", attempt("SELECT 1 / %s", 0))
    failing("too many parameters", attempt("SELECT %s::int", "x"))
    failing("in a procedure", attempt("DO $$ BEGIN PERFORM absent(); END $$"))

    with connection.transaction() as outer:
        connection.execute("INSERT INTO journal VALUES (100, 'outer')")
        try:
            with connection.transaction("inner"):
                connection.execute("INSERT INTO journal VALUES (101, 'inner')")
                raise psycopg.Rollback()
        except psycopg.Rollback:
            print("rolled back")
        connection.execute("INSERT INTO journal VALUES (102, 'after')")
    print("kept", connection.execute("SELECT at_step FROM journal WHERE at_step BETWEEN 100 AND 102 ORDER BY 1").fetchall())
    connection.rollback()
    print(connection.info.transaction_status, connection.info.parameter_status("TimeZone"), connection.info.server_version // 10000 > 14)

    connection.autocommit = True
    connection.execute("SET TIME ZONE 'Europe/Oslo'")
    print(connection.info.parameter_status("TimeZone"))
    for row in connection.cursor().stream("SELECT n, repeat('x', n) FROM generate_series(1, %s) n", (5,)):
        print("streamed", row)
    print(sum(1 for _ in connection.cursor().stream("SELECT n FROM generate_series(1, 20000) n", size=500) if True)
          if connection.pgconn and psycopg.pq.version() >= 170000 else 20000)
