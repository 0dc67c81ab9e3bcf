"""Async connections at once, a pool, notifications, cancelling."""

import asyncio

import psycopg
from psycopg_pool import AsyncConnectionPool


async def work(pool, n):
    async with pool.connection() as connection:
        async with connection.cursor() as cursor:
            await cursor.execute("INSERT INTO journal VALUES (%s, 'async') RETURNING at_step", (n,))
            row = await cursor.fetchone()
            async with connection.pipeline():
                await cursor.execute("SELECT %s::int * 2", (row[0],))
                return (await cursor.fetchone())[0]


async def main():
    async with AsyncConnectionPool("", min_size=2, max_size=6, open=False) as pool:
        print(sum(await asyncio.gather(*(work(pool, n) for n in range(60)))))
    async with await psycopg.AsyncConnection.connect("", autocommit=True) as listener:
        async with await psycopg.AsyncConnection.connect("", autocommit=True) as sender:
            await listener.execute("LISTEN news")
            for n in range(3):
                await sender.execute("SELECT pg_notify('news', %s)", (f"item {n}",))
            seen = []
            async for notify in listener.notifies(timeout=60, stop_after=3):
                seen.append((notify.channel, notify.payload))
            print(seen)
            # one that comes while a statement runs
            task = asyncio.create_task(listener.execute("SELECT 'slept' FROM pg_sleep(0.3)"))
            await sender.execute("NOTIFY news, 'while busy'")
            print(await (await task).fetchall())
            async for notify in listener.notifies(timeout=60, stop_after=1):
                print(notify.payload)

            sleeping = asyncio.create_task(listener.execute("SELECT 'to be cancelled', pg_sleep(100)"))
            while not (await (await sender.execute("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT ''to be cancelled%%' AND datname = current_database()")).fetchone())[0]:
                await asyncio.sleep(0.02)
            await listener.cancel_safe(timeout=30)
            try:
                await sleeping
            except psycopg.errors.QueryCanceled as error:
                print("cancelled:", error.sqlstate, error.diag.message_primary)
            print(await (await listener.execute("SELECT 'goes on'")).fetchall())
            task = asyncio.create_task(listener.execute("SELECT pg_sleep(100)"))
            await asyncio.sleep(0.05)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                print("task cancelled")
            print(await (await listener.execute("SELECT 'goes on too'")).fetchall())


asyncio.run(main())
