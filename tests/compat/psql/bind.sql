SELECT $1::int + $2::int AS sum \bind 1 2 \g
SELECT name FROM customers WHERE id = $1 \bind 7 \g
INSERT INTO journal VALUES ($1, $2) RETURNING * \bind 5 'bound ☃' \g
SELECT $1::text \bind \g
SELECT $1::int \bind x \g
SELEC \bind \g
SELECT 1; SELECT 2 \bind \g
SELECT 1 / $1::int \bind 0 \g
SELECT chatter($1) \bind 3 \g
SELECT n FROM generate_series(1, $1::int) n \bind 5 \g
BEGIN \bind \g
INSERT INTO journal VALUES ($1, 'in a block') \bind 6 \g
SELECT 1 / $1::int \bind 0 \g
SELECT $1::int \bind 0 \g
ROLLBACK \bind \g
SELECT count(*) FROM journal WHERE at_step = $1 \bind 6 \g
COPY journal TO STDOUT \bind \g
SELECT id, name FROM customers WHERE id = $1 \parse by_id
\bind_named by_id 3 \g
\bind_named by_id 4 \g
\bind_named absent 4 \g
\close_prepared by_id
\bind_named by_id 3 \g
SELECT $1 \parse ''
\bind_named '' later \g
