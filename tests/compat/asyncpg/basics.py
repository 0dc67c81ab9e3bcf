"""asyncpg: everything prepared and binary; cursors as portals with row limits, COPY, LISTEN, cancelling by time-out."""

import asyncio
import datetime
import decimal
import hashlib
import io
import os
import uuid

import asyncpg


async def failing(title, action):
    try:
        await action
        print(f"{title}: no error")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError) as error:
        fields = error.as_dict() if isinstance(error, asyncpg.PostgresError) else {}
        print(f"{title}: {type(error).__name__} {fields.get('sqlstate')} {fields.get('message')!r} at {fields.get('position')}")


async def types(connection):
    await connection.set_type_codec("jsonb", encoder=str, decoder=str, schema="pg_catalog")
    for row in await connection.fetch("SELECT id, flag, small, large, exact, single, double, words, fixed, raw, day, clock, moment, span, token, doc, list, grid, range, feeling, net, bits FROM kinds WHERE id IN (1, 2) ORDER BY id"):
        print([repr(value) for value in row.values()])
    print(await connection.fetchrow("SELECT $1::int, $2::text, $3::numeric, $4::date, $5::timestamptz, $6::uuid, $7::int[], $8::bytea, $9::interval",
          7, "☃", decimal.Decimal("12.340"), datetime.date(2026, 2, 28), datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
          uuid.UUID(int=5), [1, None, 3], b"\x00\xff", datetime.timedelta(days=3, seconds=4.5)))
    print(await connection.fetchval("SELECT ROW(1, 'x')::record"))
    print(await connection.fetchval("SELECT array_agg(feeling ORDER BY id) FROM kinds"))


async def statements(connection):
    statement = await connection.prepare("SELECT id, name FROM customers WHERE id = ANY($1::bigint[]) ORDER BY id")
    print(statement.get_parameters(), [attribute.name for attribute in statement.get_attributes()])
    print([dict(row) for row in await statement.fetch([3, 1])], statement.get_statusmsg())
    print(await connection.execute("INSERT INTO journal VALUES ($1, $2)", 1, "one"))
    await connection.executemany("INSERT INTO journal VALUES ($1, $2)", [(n, "many") for n in range(500)])
    print([tuple(row) for row in await connection.fetchmany("INSERT INTO journal VALUES ($1, $2) RETURNING at_step", [(n, "returned") for n in range(3)])])
    print(await connection.execute("SELECT 1; INSERT INTO journal VALUES (9, 'script'); SELECT 2"))
    for n in range(120):
        await connection.fetchval(f"SELECT {n} + $1::int", n)
    await failing("syntax", connection.fetch("SELEC 1"))
    await failing("unique", connection.execute("INSERT INTO customers (name, email) VALUES ($1, $2)", "x", "c1@example.com"))
    await failing("executemany", connection.executemany("INSERT INTO customers (id, name) VALUES ($1, 'x')", [(1000,), (1001,), (1,), (1002,)]))
    print(await connection.fetchval("SELECT count(*) FROM customers WHERE id >= 1000"))
    await failing("bad argument", connection.fetch("SELECT $1::int", "x"))
    await connection.execute("CREATE TABLE changing (a int)")
    await connection.fetch("SELECT * FROM changing")
    await connection.execute("ALTER TABLE changing ADD COLUMN b int")
    await failing("changed", connection.fetch("SELECT * FROM changing"))
    await failing("again", connection.fetch("SELECT * FROM changing"))
    await connection.execute("DISCARD ALL")
    await connection.reload_schema_state()
    print(await connection.fetchval("SELECT 'goes on'"))


async def cursors(connection):
    async with connection.transaction():
        print([row["id"] async for row in connection.cursor("SELECT id FROM orders ORDER BY id LIMIT 25", prefetch=7)])
        cursor = await connection.cursor("SELECT id FROM customers ORDER BY id")
        print(len(await cursor.fetch(5)), await cursor.forward(10), (await cursor.fetchrow())["id"], len(await cursor.fetch(1000)), await cursor.fetch(1))
    for level in ("read_committed", "repeatable_read", "serializable"):
        async with connection.transaction(isolation=level, readonly=True):
            print(await connection.fetchval("SHOW transaction_isolation"))
            await connection.fetchval("SELECT count(*) FROM orders")
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO journal VALUES (1, 'outer')")
            try:
                async with connection.transaction():
                    await connection.execute("INSERT INTO journal VALUES (2, 'inner')")
                    await connection.fetch("SELECT 1 / $1::int", 0)
            except asyncpg.DivisionByZeroError:
                print("inner rolled back")
            print(await connection.fetchval("SELECT count(*) FROM journal WHERE note IN ('outer', 'inner')"))
            raise KeyError
    except KeyError:
        print(await connection.fetchval("SELECT count(*) FROM journal WHERE note IN ('outer', 'inner')"))


async def copying(connection):
    print(await connection.copy_records_to_table("journal", records=[(n, f"record {n}") for n in range(20000)]))
    print(await connection.copy_to_table("journal", source=io.BytesIO(b"1,csv\n2,csv\n"), format="csv"))
    out = io.BytesIO()
    print(await connection.copy_from_query("SELECT at_step, note FROM journal WHERE note LIKE $1 ORDER BY at_step", "record%", output=out))
    print(hashlib.sha256(out.getvalue()).hexdigest())
    out = io.BytesIO()
    print(await connection.copy_from_table("kinds", columns=["id", "words"], output=out, format="binary"), out.getvalue())
    await failing("bad copy", connection.copy_to_table("journal", source=io.BytesIO(b"x,y\n"), format="csv"))

    async def broken():
        yield b"1,fine\n"
        raise asyncpg.InterfaceError("the client gives up")
    await failing("client gives up", connection.copy_to_table("journal", source=broken(), format="csv"))


async def listening(connection, other):
    heard = asyncio.Queue()
    await connection.add_listener("news", lambda _, pid, channel, payload: heard.put_nowait((channel, payload)))
    connection.add_log_listener(lambda _, message: print("log:", message.severity, message.message))
    await other.execute("NOTIFY news, 'from the other'")
    print(await asyncio.wait_for(heard.get(), 60))
    await connection.execute("SELECT chatter(4)")
    await failing("time-out", connection.execute("SELECT pg_sleep(100)", timeout=0.3))
    print(await connection.fetchval("SELECT 'after the time-out'"))
    task = asyncio.create_task(connection.execute("SELECT 'x', pg_sleep(100)"))
    while not await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT ''x''%' AND datname = current_database()"):
        await asyncio.sleep(0.02)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("task cancelled")
    print(await connection.fetchval("SELECT 'after the cancel'"))
    await other.fetchval("SELECT pg_terminate_backend($1)", connection.get_server_pid())
    while not connection.is_closed():
        await asyncio.sleep(0.02)
    await failing("terminated", connection.fetch("SELECT 1"))
    print(connection.is_closed())


async def pool():
    async with asyncpg.create_pool(min_size=2, max_size=5, max_queries=20) as pool:
        async def work(n):
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("INSERT INTO journal VALUES ($1, 'pooled')", n)
                return await connection.fetchval("SELECT $1::int * 2", n)
        print(sum(await asyncio.gather(*(work(n) for n in range(100)))))


async def main():
    connection, other = await asyncpg.connect(), await asyncpg.connect(os.environ["DATABASE_URL"], statement_cache_size=0)
    print(other.get_settings().client_encoding, await other.fetchval("SELECT 'no cache'"))
    for step in (types, statements, cursors, copying):
        print("--", step.__name__)
        await step(connection)
    print("-- listening")
    await listening(connection, other)
    print("-- pool")
    await pool()
    await other.close()


asyncio.run(main())
