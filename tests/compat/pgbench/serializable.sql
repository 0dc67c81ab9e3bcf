\set a random(1, 5)
\set b random(1, 5)
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT sum(balance) FROM customers WHERE id = :a;
UPDATE customers SET balance = balance + 1 WHERE id = :b;
COMMIT;
