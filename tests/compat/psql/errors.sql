SELEC 1;
SELECT 1 +;
SELECT * FROM absent;
SELECT nme FROM customers;
SELECT name,
       balnce
  FROM customers;
SELECT 'unterminated';
SELECT 1 / 0;
SELECT 'x'::int;
INSERT INTO customers (name, balance) VALUES ('poor', -1);
INSERT INTO customers (name, email) VALUES ('twin', 'c1@example.com');
INSERT INTO orders (customer_id, placed_on, total) VALUES (9999, '2026-01-01', 1);
INSERT INTO customers (name) VALUES (NULL);
UPDATE kinds SET feeling = 'odd';
SELECT chatter('x');
DO $$ BEGIN RAISE EXCEPTION 'own %', 1 USING ERRCODE = 'TX001', DETAIL = 'd', HINT = 'h', COLUMN = 'c', TABLE = 't'; END $$;
\set VERBOSITY verbose
SELECT * FROM absent;
SELECT 1 / 0;
INSERT INTO customers (name, email) VALUES ('twin', 'c1@example.com');
\set VERBOSITY sqlstate
SELECT 1 / 0;
\set VERBOSITY default
\errverbose
BEGIN;
SELECT 1 / 0;
SELECT 'refused';
COMMIT;
BEGIN;
SELECT 1;
SELECT absent();
ROLLBACK;
COMMIT;
SELECT pg_catalog.set_config('absent_setting', '1', false);
SET work_mem = 'much';
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
LOCK TABLE customers;
DECLARE c CURSOR FOR SELECT 1;
VACUUM absent;
BEGIN; VACUUM; 
ROLLBACK;
CREATE TABLE customers (a int);
CREATE TABLE IF NOT EXISTS customers (a int);
DROP TABLE IF EXISTS absent;
DROP TABLE customers;
SELECT repeat('a', 300000000) || repeat('b', 900000000);
SELECT pg_terminate_backend(pg_backend_pid());
