"""Two-phase commit by the DB-API's calls, and isolation levels with the retry that applications make."""

import psycopg

from show import connect, failing

with connect() as connection, connect() as other:
    for number, end in ((1, "commit"), (2, "rollback")):
        xid = connection.xid(42, f"global {number}", "branch")
        connection.tpc_begin(xid)
        connection.execute("INSERT INTO journal VALUES (%s, 'two-phase')", (number,))
        connection.tpc_prepare()
        print([(x.gtrid, x.bqual) for x in other.tpc_recover()])
        if end == "commit":
            connection.tpc_commit()
        else:
            # by another session, as after a crash
            connection.close()
            other.tpc_rollback(xid)
            connection = other
    print(connection.execute("SELECT at_step FROM journal WHERE note = 'two-phase'").fetchall())
    connection.rollback()

a, b = connect(), connect()
for level in (psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE):
    a.isolation_level = b.isolation_level = level
    print(level.name, a.execute("SELECT sum(balance) FROM customers").fetchone())
    b.execute("UPDATE customers SET balance = balance + 1 WHERE id = 1")
    b.commit()
    print(a.execute("SELECT sum(balance) FROM customers").fetchone())
    failing("conflict", lambda: a.execute("UPDATE customers SET balance = balance + 2 WHERE id = 1"))
    a.rollback()
    print(a.execute("UPDATE customers SET balance = balance + 2 WHERE id = 1 RETURNING balance").fetchone())
    a.commit()
    a.read_only = True
    failing("read only", lambda: a.execute("DELETE FROM journal"))
    a.rollback()
    a.read_only = None
a.deferrable, a.read_only = True, True
print(a.execute("SHOW transaction_deferrable").fetchone())
a.rollback()

# write skew: one of two must fail, and the retry succeeds
a.deferrable = a.read_only = None
tries = 0
for attempt in range(3):
    tries += 1
    try:
        a.execute("SELECT sum(total) FROM orders WHERE customer_id = 3").fetchone()
        if attempt == 0:
            b.execute("SELECT sum(total) FROM orders WHERE customer_id = 4").fetchone()
        a.execute("UPDATE orders SET total = total + 1 WHERE customer_id = 4")
        if attempt == 0:
            b.execute("UPDATE orders SET total = total + 1 WHERE customer_id = 3")
            b.commit()
        a.commit()
        break
    except psycopg.errors.SerializationFailure as error:
        print("retry:", error.sqlstate, error.diag.message_primary)
        a.rollback()
print("tries", tries)
a.close()
b.close()
