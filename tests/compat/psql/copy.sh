psql -X <<'SQL'
\copy customers TO 'customers.txt'
\copy (SELECT * FROM kinds ORDER BY id) TO 'kinds.csv' WITH (FORMAT csv, HEADER, FORCE_QUOTE *)
\copy kinds TO 'kinds.bin' WITH (FORMAT binary)
\copy customers (id, name) TO STDOUT WITH (DELIMITER '|', NULL '?')
CREATE TABLE again (LIKE kinds INCLUDING ALL);
\copy again FROM 'kinds.bin' WITH (FORMAT binary)
SELECT count(*) FROM (TABLE again INTERSECT TABLE kinds) both_have;
TRUNCATE again;
\copy again FROM 'kinds.csv' WITH (FORMAT csv, HEADER)
SELECT * FROM again ORDER BY id;
COPY journal FROM STDIN;
1	tab\tescaped
2	\N
3	back\\slash
\.
SELECT * FROM journal WHERE at_step < 4 ORDER BY at_step;
COPY (SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 20000) n) TO STDOUT \g long.txt
CREATE TABLE long (n int PRIMARY KEY, words text);
\copy long FROM 'long.txt'
SELECT count(*), sum(length(words)) FROM long;
BEGIN;
\copy long TO '/dev/null'
COPY journal FROM STDIN;
\.
COMMIT;
COPY journal TO STDOUT WHERE false;
COPY (SELECT 1 WHERE false) TO STDOUT;
COPY customers TO STDOUT (FORMAT csv)\; SELECT 'after the copy' AS told;
SQL
psql -X -c "COPY journal (note) FROM STDIN" -c "SELECT note FROM journal WHERE at_step IS NULL" <<'EOT'
from standard input
EOT
seq 1 100000 | psql -X -c "CREATE TABLE many (n int)" -c "\copy many FROM pstdin" -c "SELECT count(*), sum(n) FROM many"
