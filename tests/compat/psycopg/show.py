"""What the scripts of this client share: a connection from the environment, and printing of rows and errors."""

import logging

import psycopg

# what the library logs of an error that it ignores depends on which came first, the error or the end of a block
logging.disable(logging.CRITICAL)


def connect(**options):
    connection = psycopg.connect("", **options)
    connection.add_notice_handler(lambda notice: print("notice:", notice.severity, notice.message_primary, notice.message_hint))
    return connection


def rows(title, cursor):
    print(f"{title}: {cursor.statusmessage} {[column.name + ':' + str(column.type_code) for column in cursor.description or []]}")
    if cursor.description:
        for row in cursor.fetchall():
            print("  ", repr(row))


def failing(title, action):
    try:
        action()
        print(f"{title}: no error")
    except psycopg.Error as error:
        diag = error.diag
        print(f"{title}: {type(error).__name__} {error.sqlstate} {diag.message_primary!r} at {diag.statement_position} "
              f"{diag.constraint_name} {diag.message_detail!r} {diag.context!r}")
        if diag.message_primary is None:
            print("   ", str(error).splitlines()[:1])
