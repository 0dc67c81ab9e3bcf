on_input() { echo "-- $1"; psql -X -f - 2>&1; echo "exit $?"; }
on_input "a unique violation" <<'SQL'
COPY customers (id, name) FROM STDIN;
1	twin
\.
SELECT 1;
SQL
on_input "a bad value in a block" <<'SQL'
BEGIN;
COPY journal FROM STDIN;
x	y
\.
SELECT 'refused';
ROLLBACK;
SELECT 1;
SQL
on_input "too many columns" <<'SQL'
COPY journal FROM STDIN;
1	a	too many
\.
SQL
on_input "too few columns" <<'SQL'
COPY journal FROM STDIN;
1
\.
SQL
on_input "no such table" <<'SQL'
COPY absent TO STDOUT;
SQL
on_input "a wrong header" <<'SQL'
COPY journal FROM STDIN (FORMAT csv, HEADER match);
wrong,header
1,x
\.
SQL
on_input "an error in the middle of the output" <<'SQL'
COPY (SELECT 1 / (3 - n) FROM generate_series(1, 5) n) TO STDOUT;
\copy journal FROM 'absent.txt'
COPY journal TO '/absent/file';
SELECT count(*) FROM journal WHERE at_step = 1 AND note IS NULL;
SQL
# the server sends its error while the client still sends
{ echo x; seq 1 300000; } | psql -X -c "\copy journal FROM pstdin" 2>&1
head -c 1000 /dev/zero | psql -X -c "\copy journal FROM pstdin WITH (FORMAT binary)" 2>&1
# in one message with others
psql -X -c "INSERT INTO journal VALUES (5, 'undone'); COPY journal FROM STDIN; SELECT 'never'" 2>&1 <<<'x'
psql -X -c "SELECT count(*) FROM journal WHERE at_step = 5 AND note = 'undone'"
echo "-- the client gives up"
psql -X -c "\copy journal FROM PROGRAM 'printf \"1\\\\tone\\\\n\"; exit 3'" 2>&1
psql -X -c "SELECT count(*) FROM journal WHERE note = 'one'"
