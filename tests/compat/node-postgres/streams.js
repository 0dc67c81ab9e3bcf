// pg-cursor and pg-query-stream (portals with row limits), pg-copy-streams both ways.
const { createHash } = require('node:crypto');
const { Readable, Writable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const Cursor = require('pg-cursor');
const QueryStream = require('pg-query-stream');
const { from, to } = require('pg-copy-streams');
const { connect, failing } = require('./show');

(async () => {
  const client = await connect();
  let cursor = client.query(new Cursor('SELECT id, total FROM orders WHERE id > $1 ORDER BY id LIMIT 25', [3]));
  for (let rows = await cursor.read(7); rows.length; rows = await cursor.read(7)) console.log(rows.length, rows[0]);
  await cursor.close();
  cursor = client.query(new Cursor('SELECT n FROM generate_series(1, 1000000) n'));
  console.log((await cursor.read(3)).map((row) => row.n));
  await cursor.close();
  cursor = client.query(new Cursor('SELECT 10 / (5 - n) FROM generate_series(1, 9) n'));
  console.log((await cursor.read(2)).length);
  await failing('fails on the way', cursor.read(5));
  console.log((await client.query('SELECT 1 AS still')).rows);

  const stream = client.query(new QueryStream('SELECT n, md5(n::text) AS m FROM generate_series(1, $1::int) n', [20000], { batchSize: 100 }));
  const digest = createHash('sha256');
  let count = 0;
  for await (const row of stream) { count += 1; digest.update(row.m); }
  console.log(count, digest.digest('hex'));
  const early = client.query(new QueryStream('SELECT n FROM generate_series(1, 100000) n', [], { batchSize: 10 }));
  for await (const row of early) if (row.n >= 25) break;
  console.log((await client.query("SELECT 'after an early end' AS told")).rows);

  const lines = function* () { for (let n = 0; n < 50000; n++) yield `${n}\tline ${n}\n`; };
  const into = client.query(from("COPY journal FROM STDIN"));
  await pipeline(Readable.from(lines()), into);
  console.log(into.rowCount);
  const out = createHash('sha256');
  let bytes = 0;
  await pipeline(client.query(to("COPY (SELECT * FROM journal WHERE note LIKE 'line %' ORDER BY at_step) TO STDOUT")), new Writable({
    write(chunk, _, done) { bytes += chunk.length; out.update(chunk); done(); },
  }));
  console.log(bytes, out.digest('hex'));
  await failing('bad copy', pipeline(Readable.from(['x\ty\n']), client.query(from('COPY journal FROM STDIN'))));
  await failing('bad copy out', pipeline(client.query(to('COPY (SELECT 1 / (100 - n) FROM generate_series(1, 200) n) TO STDOUT')), new Writable({ write(c, _, done) { done(); } })));
  console.log((await client.query("SELECT count(*) FROM journal WHERE note LIKE 'line %'")).rows);
  await client.end();
})();
