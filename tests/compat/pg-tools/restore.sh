pg_dump -F c --no-publications -f ../archive.c
pg_dump -F d -j 2 --no-publications -f ../archive.d
psql -X -q -c "DROP VIEW open_orders" -c "DROP TABLE orders, journal, kinds, customers" -c "DROP TYPE mood" -c "DROP FUNCTION chatter, note_order"
pg_restore --no-publications -d "$PGDATABASE" ../archive.c; echo "exit $?"
psql -X -A -t -c "SELECT count(*), sum(total) FROM orders" -c "SELECT * FROM kinds ORDER BY id"
pg_restore --no-publications --clean --if-exists -j 3 -d "$PGDATABASE" ../archive.d; echo "exit $?"
psql -X -A -t -c "SELECT count(*), sum(total) FROM orders"
pg_restore --no-publications --single-transaction --data-only -t journal -d "$PGDATABASE" ../archive.c; echo "exit $?"
pg_restore --no-publications --exit-on-error -t customers -d "$PGDATABASE" ../archive.c 2>&1; echo "exit $?"
pg_dump --restrict-key=compat --no-publications | psql -X -q -v ON_ERROR_STOP=1 2>&1 | head -n 3
psql -X -A -t -c "SELECT count(*) FROM journal"
