"""COPY in text, CSV and binary, row by row and block by block, both ways, failing on either side."""

import hashlib

import psycopg

from show import connect, failing

with connect() as connection:
    cursor = connection.cursor()
    with cursor.copy("COPY journal FROM STDIN") as copy:
        for n in range(1000):
            copy.write_row((n, f"row\t{n}\\ \n☃" if n % 7 else None))
    print(cursor.statusmessage, cursor.rowcount)
    with cursor.copy("COPY journal (at_step, note) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        for n in range(1000, 1500):
            copy.write_row((n, "binary"))
    print(cursor.statusmessage)
    with cursor.copy("COPY journal FROM STDIN (FORMAT csv)") as copy:
        for _ in range(50):
            copy.write(b'1,"quoted, ""x"""\n' * 1000)
    print(cursor.statusmessage)
    connection.commit()
    digest = hashlib.sha256()
    with cursor.copy("COPY (SELECT * FROM journal ORDER BY at_step, note) TO STDOUT") as copy:
        for block in copy:
            digest.update(bytes(block))
    print(cursor.statusmessage, digest.hexdigest())
    with cursor.copy("COPY (SELECT id, words, exact, list FROM kinds ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int4", "text", "numeric", "int4[]"])
        for row in copy.rows():
            print(row)
    with cursor.copy("COPY (SELECT 1 WHERE false) TO STDOUT") as copy:
        print(list(copy))
    with cursor.copy("COPY customers (id, name) FROM STDIN") as copy:
        pass
    print(cursor.statusmessage)
    with cursor.copy("COPY (SELECT n FROM generate_series(1, %s) n) TO STDOUT", (3,)) as copy:
        print([bytes(block) for block in copy])

    def twin():
        with connection.cursor().copy("COPY customers (id, name) FROM STDIN") as copy:
            for n in range(1, 60000):
                copy.write_row((n, "twin"))
    failing("server refuses", twin)
    connection.rollback()

    def given_up():
        with connection.cursor().copy("COPY journal FROM STDIN") as copy:
            copy.write_row((1, "given up"))
            raise psycopg.errors.DataError("the client gives up")
    failing("client gives up", given_up)
    connection.rollback()

    def broken_off():
        with connection.cursor().copy("COPY (SELECT 1 / (1000 - n) FROM generate_series(1, 2000) n) TO STDOUT") as copy:
            for _ in copy:
                pass
    failing("fails in the middle", broken_off)
    connection.rollback()
    print(connection.execute("SELECT count(*) FROM journal WHERE note = 'given up'").fetchone())
