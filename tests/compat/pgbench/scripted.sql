\set a random(1, 50)
\set b random(1, 400)
\set amount random(1, 500)
BEGIN;
UPDATE customers SET balance = balance + :amount WHERE id = :a;
SELECT balance FROM customers WHERE id = :a \gset
INSERT INTO journal VALUES (:client_id, 'paid ' || :amount || ' to ' || :a);
\if :amount > 250
UPDATE orders SET total = total + :amount WHERE id = :b;
\else
SELECT count(*) AS open FROM orders WHERE status = 'open' \gset counted_
\endif
COMMIT;
