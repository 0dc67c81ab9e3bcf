\startpipeline
SELECT $1::int AS one \bind 1 \sendpipeline
INSERT INTO journal VALUES ($1, 'pipeline') RETURNING * \bind 1 \sendpipeline
\syncpipeline
SELECT 1 / $1::int \bind 0 \sendpipeline
INSERT INTO journal VALUES ($1, 'skipped') \bind 2 \sendpipeline
\syncpipeline
SELECT count(*) FROM journal WHERE note IN ('pipeline', 'skipped') \bind \sendpipeline
\flushrequest
\getresults
\endpipeline
\startpipeline
BEGIN \bind \sendpipeline
INSERT INTO journal VALUES ($1, 'block') \bind 3 \sendpipeline
SAVEPOINT s \bind \sendpipeline
SELECT chatter($1) \bind 3 \sendpipeline
ROLLBACK TO s \bind \sendpipeline
COMMIT \bind \sendpipeline
\syncpipeline
SELECT $1 \parse by_value
\bind_named by_value again \sendpipeline
\bind_named by_value and_again \sendpipeline
\close_prepared by_value
\bind_named by_value gone \sendpipeline
\endpipeline
\startpipeline
INSERT INTO journal VALUES (4, 'implicit') \bind \sendpipeline
SELECT absent() \bind \sendpipeline
\endpipeline
\startpipeline
\endpipeline
SELECT * FROM journal WHERE note IN ('pipeline', 'skipped', 'block', 'implicit') ORDER BY at_step;
