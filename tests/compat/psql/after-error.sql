\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO journal VALUES (1, 'kept');
INSERT INTO absent VALUES (1);
INSERT INTO journal VALUES (2, 'kept too');
COMMIT;
SELECT * FROM journal WHERE note LIKE 'kept%';
\set AUTOCOMMIT off
INSERT INTO journal VALUES (3, 'lost');
SELECT 1 / 0;
SELECT count(*) FROM journal;
ROLLBACK;
SELECT count(*) FROM journal WHERE note = 'lost';
\set ON_ERROR_STOP on
SELECT 1 / 0;
SELECT 'never';
