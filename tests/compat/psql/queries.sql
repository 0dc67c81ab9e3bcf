SELECT * FROM kinds ORDER BY id;
\x on
SELECT * FROM kinds WHERE id = 1;
\x off
SELECT count(*), sum(total), min(placed_on) FROM orders;
SELECT c.name, count(*) FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY 1 ORDER BY 1 LIMIT 5;
SELECT id, name FROM open_orders ORDER BY id LIMIT 3;
SELECT;
SELECT WHERE false;
;
SELECT NULL AS nothing, '' AS empty, ' ' AS blank;
VALUES (1, 'a'), (2, 'b');
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t;
EXPLAIN (COSTS OFF) SELECT * FROM customers WHERE id = 7;
SHOW server_encoding;
SHOW application_name;
SELECT id AS customer, name FROM customers ORDER BY id LIMIT 1 \gset
\echo :customer :name
SELECT :'name' = 'customer 1' AS same;
SELECT 'SELECT ' || n || ' AS made' FROM generate_series(1, 3) n \gexec
SELECT id, name, balance, email FROM customers \gdesc
SELECT status, total::int % 3 AS third, count(*) FROM orders GROUP BY 1, 2 \crosstabview
\d orders
\dt
\df chatter
\pset format csv
TABLE kinds;
\pset format json
\pset format unaligned
TABLE kinds;
