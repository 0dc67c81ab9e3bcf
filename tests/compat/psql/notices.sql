SELECT chatter(1);
SET client_min_messages = debug1;
SELECT chatter(n) FROM generate_series(1, 3) n;
SET client_min_messages = error;
SELECT chatter(4);
RESET client_min_messages;
BEGIN;
SELECT chatter(5);
BEGIN;
COMMIT;
COMMIT;
SELECT chatter(6) \gdesc
CREATE TABLE t (a int PRIMARY KEY);
DROP TABLE IF EXISTS absent, t;
