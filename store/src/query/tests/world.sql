INSERT INTO sources VALUES
    (0, 'postgres', '127.0.0.1:6432', '127.0.0.1:5432', make_timestamp(50), '{"version_number":150018,"system_identifier":null,"started":null,"database":"forum","wal_level":"logical",
        "in_recovery":false,"settings":[]}'),
    (1, 'http', '127.0.0.1:8080', '127.0.0.1:8000', make_timestamp(50), NULL);
INSERT INTO base_copies VALUES (0, make_timestamp(90), '100:100:', 900);
INSERT INTO requests BY NAME (FROM (VALUES
    (1, 'load-1', 'POST', '/posts/1', 100, 200, 100, 'answered', 200, false),
    (2, 'load-2', 'POST', '/posts', 300, 400, 100, 'upstream failed', NULL, true),
    (3, 'load-2', 'GET', '/posts?like=100%25', 500, NULL, NULL, 'unfinished', NULL, true),
    (4, NULL, 'DELETE', '/posts/2', 1025, 1035, 10, 'answered', 204, false))
    AS r(id, external_id, method, target, s, f, duration_us, outcome, status, failed)
    SELECT id, 1 AS source, external_id, 'trace' || id AS trace_id, method, target,
        make_timestamp(s) AS started, make_timestamp(f) AS finished, duration_us, outcome, status, failed,
        '[["host","example"],["x-a","b"]]' AS request_headers, 'body'::BLOB AS request_body,
        4 AS request_body_bytes, '00' AS request_body_digest, 'peer' AS peer, 'tp' || id AS traceparent);
INSERT INTO sessions BY NAME (SELECT 1 AS id, 0 AS source, make_timestamp(60) AS started);
INSERT INTO transactions BY NAME (FROM (VALUES
    (1, 1, 'comment', 1.0, NULL, 'block', 'committed', 110, 150, 101, 'asked', 1000, 2),
    (2, 2, 'inferred', 0.6, '[{"request":2,"confidence":0.6},{"request":3,"confidence":0.3}]', 'implicit',
        'committed', 310, 320, 102, 'matched', 1010, 1),
    (3, NULL, 'unattributed', 0.0, NULL, 'implicit', 'rolled back', 510, 520, NULL, NULL, NULL, 1),
    (4, 4, 'exclusive', 1.0, NULL, 'implicit', 'committed', 1026, 1034, 104, 'asked', 1030, 1))
    AS t(id, request_id, attribution, confidence, candidates, kind, outcome, s, f, xid, xid_certainty, commit_lsn,
        statement_count)
    SELECT id, 0 AS source, 1 AS session_id, request_id, attribution, confidence, candidates, kind,
        'read committed' AS isolation, outcome, make_timestamp(s) AS started, make_timestamp(f) AS finished,
        f - s AS duration_us, xid, xid_certainty, commit_lsn, statement_count);
INSERT INTO sql_texts VALUES (1, 'BEGIN', 5), (2, 'UPDATE posts SET title = $1 WHERE id = $2', 41),
    (3, 'INSERT INTO posts VALUES (3, ''three'')', 38), (4, 'SELECT * FROM posts', 19), (5, 'DELETE FROM posts', 17),
    (2, 'UPDATE posts SET title = $1 WHERE id = $2', 41);
INSERT INTO statements BY NAME (FROM (VALUES
    (1, 1, 1, 'comment', 110, 111, 'BEGIN', 1, NULL, 'BEGIN', 0, NULL, NULL),
    (2, 1, 1, 'comment', 120, 130, 'UPDATE', 2, '["ONE","1"]', 'UPDATE 1', 0, NULL, '100:101:'),
    (3, 2, 2, 'inferred', 310, 320, 'INSERT', 3, NULL, 'INSERT 0 1', 0, NULL, '102:102:'),
    (4, 3, NULL, 'unattributed', 510, 520, 'SELECT', 4, NULL, NULL, 0, '57014', '103:103:'),
    (6, 4, 4, 'exclusive', 1026, 1034, 'DELETE', 5, NULL, 'DELETE 1', 0, NULL, '103:105:103'))
    AS s(id, transaction_id, request_id, attribution, s, f, verb, sql_id, parameters, command_tag, row_count, sqlstate,
        snapshot)
    SELECT id, 0 AS source, transaction_id, 1 AS session_id, request_id, attribution, 1.0 AS confidence,
        make_timestamp(s) AS started, make_timestamp(f) AS finished, f - s AS duration_us, 'extended' AS protocol, verb,
        sql_id, parameters, command_tag, row_count, sqlstate, snapshot, 'before' AS snapshot_source, false AS exact,
        CASE id WHEN 2 THEN '[{"name":"id","type_oid":23,"table_oid":1,"attribute_number":1}]' END AS result_columns,
        CASE id WHEN 2 THEN '[["1",null]]' END AS result_rows,
        CASE id WHEN 2 THEN '\x01\x00\x00\x00\x00\x00\x00\x00\xff'::BLOB END AS row_digests,
        CASE id WHEN 4 THEN '{"severity":"ERROR","sqlstate":"57014","message":"canceled","detail":null,"hint":null,
            "position":null,"schema":null,"table":null,"column":null,"constraint":null}' END AS error,
        CASE id WHEN 4 THEN 'canceled' END AS error_message);
INSERT INTO external_calls BY NAME (
    SELECT 1 AS id, 0 AS source, 1 AS request_id, 'comment' AS attribution, 1.0 AS confidence,
        make_timestamp(160) AS started, make_timestamp(170) AS finished, 10 AS duration_us, 'POST' AS method,
        'http://pay/charges' AS url, 503 AS status, false AS opaque);
INSERT INTO commits VALUES (0, 101, 1000, make_timestamp(1000), make_timestamp(1001), 1),
    (0, 102, 1010, make_timestamp(1010), make_timestamp(1011), 1),
    (0, 103, 1020, make_timestamp(1020), make_timestamp(1021), 1),
    (0, 104, 1030, make_timestamp(1030), make_timestamp(1031), 1);
INSERT INTO row_reads VALUES (0, 1, '1', NULL, 4, 3, NULL, make_timestamp(515)),
    (0, 1, '2', NULL, 2, 1, 1, make_timestamp(130));
UPDATE row_reads SET key_hash = CASE key WHEN '1' THEN {hash_1} ELSE {hash_2} END;
INSERT INTO gaps VALUES ('overload', make_timestamp(600), make_timestamp(700), NULL, NULL, NULL, 3, 'dropped'),
    ('capture off', make_timestamp(1100), NULL, 0, NULL, NULL, 0, 'lost connection');
INSERT INTO schemas VALUES (0, 1, make_timestamp(80), 'binary upgrade', 'create 1', ''),
    (0, 2, make_timestamp(800), 'binary upgrade', 'create 2', '');
INSERT INTO sequences VALUES (0, make_timestamp(80), 'public.posts_id_seq', 3, true);
