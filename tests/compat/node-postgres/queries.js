// Simple and extended protocol, named statements, queued queries, errors, transactions, a pool.
const { pg, connect, failing } = require('./show');

(async () => {
  const client = await connect();
  const shown = (result) => console.log(result.command, result.rowCount, JSON.stringify(result.rows), result.fields.map((field) => `${field.name}:${field.dataTypeID}:${field.format}`).join(' '));
  shown(await client.query('SELECT * FROM kinds ORDER BY id'));
  shown(await client.query({ text: 'SELECT id, name FROM customers WHERE id = ANY($1) ORDER BY id', values: [[3, 1]], rowMode: 'array' }));
  shown(await client.query({ text: 'SELECT id, exact, raw FROM kinds ORDER BY id', values: [], binary: true }));
  shown(await client.query('SELECT $1::int AS a, $2::text AS b, $3::jsonb AS c, $4::bytea AS d, $5::timestamptz AS e, $6::text AS f', [7, '☃', { x: [1, null] }, Buffer.from([0, 255]), new Date(0), null]));
  for (const result of await client.query("SELECT 1 AS one; INSERT INTO journal VALUES (1, 'several'); SELECT 2 AS two")) shown(result);
  for (let n = 0; n < 5; n++) shown(await client.query({ name: 'by-id', text: 'SELECT name FROM customers WHERE id = $1', values: [n + 1] }));
  await failing('same name, other text', client.query({ name: 'by-id', text: 'SELECT 1' }));
  shown(await client.query(''));
  shown(await client.query('SELECT chatter($1)', [3]));
  // queued without waiting for one another, one of them failing
  const many = await Promise.allSettled(Array.from({ length: 40 }, (_, n) => client.query('SELECT 100 / (20 - $1::int) AS q', [n])));
  console.log(many.map((one) => (one.status === 'fulfilled' ? one.value.rows[0].q : one.reason.code)).join(' '));
  await failing('syntax', client.query('SELEC 1'));
  await failing('no column', client.query('SELECT nme FROM customers WHERE id = $1', [1]));
  await failing('unique', client.query('INSERT INTO customers (name, email) VALUES ($1, $2)', ['x', 'c1@example.com']));
  await failing('parameter', client.query('SELECT $1::int', ['x']));
  await failing('too few', client.query('SELECT $1::int, $2::int', [1]));
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await client.query('INSERT INTO journal VALUES ($1, $2)', [2, 'in a block']);
  await client.query('SAVEPOINT s');
  await failing('in a block', client.query('SELECT 1 / 0'));
  await failing('aborted', client.query('SELECT 1'));
  await client.query('ROLLBACK TO s');
  shown(await client.query('COMMIT'));
  shown(await client.query("SELECT repeat('x', $1) AS long", [100]));
  console.log((await client.query('SELECT repeat($1, 3000000) AS long', ['wide'])).rows[0].long.length);
  console.log((await client.query('SELECT n, md5(n::text) FROM generate_series(1, 50000) n')).rows.length);
  await client.end();

  const pool = new pg.Pool({ max: 5, application_name: 'pooled' });
  const sums = await Promise.all(Array.from({ length: 60 }, async (_, n) => {
    const one = await pool.connect();
    try {
      await one.query('BEGIN');
      await one.query("INSERT INTO journal VALUES ($1, 'pooled')", [n]);
      const { rows } = await one.query('SELECT $1::int * 2 AS double', [n]);
      await one.query(n % 5 ? 'COMMIT' : 'ROLLBACK');
      return rows[0].double;
    } finally {
      one.release();
    }
  }));
  console.log(sums.reduce((a, b) => a + b), (await pool.query("SELECT count(*) FROM journal WHERE note = 'pooled'")).rows[0]);
  await pool.end();
  await failing('wrong password', connect({ password: 'wrong' }));
  await failing('no database', connect({ database: 'absent' }));
  await failing('no TLS', connect({ ssl: true }));
})();
