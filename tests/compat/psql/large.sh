# Statements and results far beyond what is kept of them.
psql -X -A -t <<'SQL'
SELECT length(repeat('x', 50000000));
SELECT n, md5(n::text) FROM generate_series(1, 300000) n \g rows.txt
SELECT repeat('wide ', 4000000) \g wide.txt
SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200000) n \g aggregated.txt
SQL
{ printf "SELECT length('"; head -c 30000000 /dev/zero | tr '\0' y; printf "');\n"; } | psql -X -A -t
{ printf 'INSERT INTO journal VALUES'; seq -s, -f " (%.0f, 'seq')" 1 100000; printf ';SELECT count(*), sum(at_step) FROM journal;\n'; } | psql -X -A -t
{ printf 'SELECT 1 WHERE 5 IN (0'; seq -f ',%.0f' 1 50000 | tr -d '\n'; printf ');\n'; } | psql -X -A -t
cksum rows.txt wide.txt aggregated.txt; rm rows.txt wide.txt aggregated.txt
