SET application_name = 'renamed';
SHOW application_name;
SET TIME ZONE 'Asia/Kolkata';
SELECT TIMESTAMPTZ '2026-01-01 00:00:00Z';
SET DateStyle = 'German';
SELECT DATE '2026-02-03';
SET client_encoding = 'LATIN1';
SELECT 'plain';
SELECT '☃';
RESET client_encoding;
SET ROLE postgres;
SET SESSION AUTHORIZATION postgres;
CREATE ROLE compat_local;
SET my.own = 'value';
SELECT current_setting('my.own'), current_setting('my.absent', true);
BEGIN;
SET LOCAL my.own = 'inside';
SHOW my.own;
ROLLBACK;
SHOW my.own;
RESET ALL;
SHOW my.own;
SHOW application_name;
SELECT pg_advisory_lock(42);
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT pg_advisory_unlock_all();
SELECT pg_backend_pid() = pid AS own FROM pg_stat_activity WHERE pid = pg_backend_pid();
SELECT current_query();
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_id;
BEGIN; SELECT pg_current_xact_id_if_assigned() IS NULL AS no_id; INSERT INTO journal VALUES (1, 'x');
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_id; ROLLBACK;
\c - - - -
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory';
\conninfo
\encoding
\timing on
\timing off
