INSERT INTO customers (name, email) VALUES ('new', 'new@example.com') RETURNING *;
INSERT INTO customers (name, email) VALUES ('again', 'new@example.com')
    ON CONFLICT (email) DO UPDATE SET name = excluded.name RETURNING id, name;
UPDATE customers SET balance = balance + 1 WHERE id <= 3 RETURNING id, balance;
UPDATE orders SET status = 'sent' WHERE id = 2;
DELETE FROM customers WHERE id = 50;
MERGE INTO customers c USING (VALUES (1, 'merged'), (900, 'made')) v(id, name) ON c.id = v.id
    WHEN MATCHED THEN UPDATE SET name = v.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.name);
INSERT INTO journal VALUES (1, 'without identity');
WITH gone AS (DELETE FROM orders WHERE id < 4 RETURNING *) SELECT count(*) FROM gone;
CREATE TABLE made AS SELECT id, name FROM customers WHERE id < 4;
ALTER TABLE made ADD COLUMN extra int DEFAULT 7, ADD PRIMARY KEY (id);
UPDATE made SET extra = id RETURNING *;
CREATE INDEX CONCURRENTLY made_name ON made (name);
TRUNCATE made;
INSERT INTO made SELECT n, 'row ' || n, n FROM generate_series(1, 1000) n;
VACUUM ANALYZE made;
SELECT count(*), sum(extra) FROM made;
CREATE TEMP TABLE passing (a int) ON COMMIT DELETE ROWS;
INSERT INTO passing VALUES (1);
SELECT count(*) FROM passing;
DO $$ BEGIN FOR i IN 1..3 LOOP INSERT INTO journal VALUES (i, 'loop'); COMMIT; END LOOP; END $$;
CREATE PROCEDURE step(n int) LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO journal VALUES (n, 'called'); COMMIT; INSERT INTO journal VALUES (n, 'undone'); ROLLBACK; END $$;
CALL step(9);
SELECT count(*) FROM journal;
DROP TABLE made;
