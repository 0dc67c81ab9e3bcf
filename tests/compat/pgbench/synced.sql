\set a random(1, 50)
\startpipeline
UPDATE customers SET balance = balance + 1 WHERE id = :a;
\syncpipeline
INSERT INTO journal VALUES (:client_id, 'synced');
SELECT count(*) FROM orders;
\syncpipeline
UPDATE customers SET balance = balance + 1 WHERE id = :a;
\endpipeline
