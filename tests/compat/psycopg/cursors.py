"""Server-side cursors: named, scrollable, held, with rows changed under them."""

from show import connect, failing, rows

with connect() as connection:
    with connection.cursor("walk") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT id, total FROM orders ORDER BY id LIMIT %s", (25,))
        print(sum(1 for _ in cursor))
    with connection.cursor("scroller", scrollable=True) as cursor:
        cursor.execute("SELECT id FROM customers ORDER BY id")
        print(cursor.fetchmany(3))
        cursor.scroll(10)
        print(cursor.fetchone())
        cursor.scroll(0, mode="absolute")
        print(cursor.fetchone(), len(cursor.fetchall()))
    with connection.cursor("binary", binary=True) as cursor:
        cursor.execute("SELECT id, exact, list FROM kinds ORDER BY id")
        print(cursor.fetchall())
    held = connection.cursor("held", withhold=True)
    held.execute("SELECT id FROM customers ORDER BY id LIMIT 5")
    connection.commit()
    print(held.fetchall())
    held.close()
    failing("not held", lambda: connection.execute("FETCH ALL FROM walk"))
    connection.rollback()
    with connection.cursor("lost") as cursor:
        cursor.execute("SELECT 10 / (5 - n) FROM generate_series(1, 9) n")
        failing("fails on the way", lambda: cursor.fetchall())
    connection.rollback()
    rows("still fine", connection.execute("SELECT 1"))
