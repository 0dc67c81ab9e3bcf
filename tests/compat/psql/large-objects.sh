# Large objects go through fast-path function calls.
seq 1 200000 >numbers.txt
printf '' >empty.txt
psql -X <<'SQL'
\lo_import numbers.txt 'the numbers'
\set numbers :LASTOID
\lo_export :numbers copy.txt
\lo_import empty.txt
\lo_export :LASTOID empty-copy.txt
SELECT count(*) FROM pg_largeobject_metadata;
SELECT length(lo_get(:numbers)), encode(lo_get(:numbers, 10, 12), 'escape');
BEGIN;
SELECT lo_create(4711);
\lo_import numbers.txt
\lo_unlink 4711
ROLLBACK;
\lo_unlink :numbers
\lo_unlink 999
\lo_export 999 absent.txt
\lo_import absent.txt
SELECT count(*) FROM pg_largeobject_metadata;
BEGIN;
SELECT 1 / 0;
\lo_unlink 5
\lo_import numbers.txt
ROLLBACK;
SQL
cmp numbers.txt copy.txt && cmp empty.txt empty-copy.txt && echo same
