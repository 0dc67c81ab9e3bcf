\set a random(1, 50)
\set amount random(1, 500)
\startpipeline
BEGIN;
UPDATE customers SET balance = balance + :amount WHERE id = :a;
INSERT INTO journal VALUES (:client_id, 'pipelined');
COMMIT;
SELECT balance FROM customers WHERE id = :a;
INSERT INTO journal VALUES (:client_id, 'behind it');
\endpipeline
SELECT sum(balance) FROM customers;
\startpipeline
SELECT 1;
SELECT 2;
\endpipeline
