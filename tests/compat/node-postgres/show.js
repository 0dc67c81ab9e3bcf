// What the scripts of this client share.
const pg = require('pg');

exports.pg = pg;
exports.connect = async (options) => {
  const client = new pg.Client(options);
  client.on('notice', (notice) => console.log('notice:', notice.severity, notice.message, notice.hint));
  await client.connect();
  return client;
};
exports.failing = async (title, promise) => {
  try {
    await promise;
    console.log(`${title}: no error`);
  } catch (error) {
    console.log(`${title}: ${error.code} ${error.message} at ${error.position} ${error.constraint} ${error.detail} ${error.where}`);
  }
};
// Each sleep has seconds of its own: one that was cancelled may still look active when its client knows already.
exports.untilAsleep = async (client, seconds) => {
  const sql = `SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(${seconds})%' AND pid <> pg_backend_pid() AND datname = current_database()`;
  while (Number((await client.query(sql)).rows[0].count) < 1) await new Promise((resolve) => setTimeout(resolve, 20));
};
