// LISTEN and NOTIFY across sessions, cancelling, a session ended by the server.
const { connect, failing, untilAsleep } = require('./show');

(async () => {
  const [listener, other] = [await connect(), await connect()];
  const heard = [];
  let wake = () => {};
  listener.on('notification', ({ channel, payload }) => { heard.push(`${channel}: ${payload}`); wake(); });
  const until = async (count) => { while (heard.length < count) await new Promise((resolve) => { wake = resolve; }); };
  await listener.query('LISTEN news');
  await other.query("SELECT pg_notify('news', 'item ' || n) FROM generate_series(1, 20) n");
  await until(20);
  const busy = listener.query("SELECT 'busy' AS told, pg_sleep(0.2)");
  await other.query("NOTIFY news, 'while busy'");
  console.log((await busy).rows[0].told);
  await until(21);
  await listener.query("NOTIFY news, 'own'");
  await until(22);
  console.log(heard.join('\n'));

  const sleeping = listener.query('SELECT pg_sleep(101)');
  sleeping.catch(() => {}); // it may fail before anyone looks
  await untilAsleep(other, 101);
  await other.query('SELECT pg_cancel_backend($1)', [listener.processID]);
  await failing('cancelled', sleeping);
  // node-postgres sends a CancelRequest for a query on a connection of its own
  const { Query } = require('pg');
  const query = new Query('SELECT pg_sleep(102)');
  const outcome = new Promise((resolve, reject) => { query.on('end', resolve); query.on('error', reject); });
  outcome.catch(() => {});
  listener.query(query);
  await untilAsleep(other, 102);
  const canceller = new (require('pg').Client)();
  // the server closes that connection when it has sent all signals: what follows could be cancelled before that
  const sent = new Promise((resolve) => { canceller.connection.once('end', resolve); });
  canceller.cancel(listener, query);
  await failing('cancelled by request', outcome);
  await sent;
  console.log((await listener.query("SELECT 'goes on' AS told")).rows);

  const ended = new Promise((resolve) => { listener.on('error', (error) => resolve(error)); });
  const asleep = listener.query('SELECT pg_sleep(103)');
  asleep.catch(() => {});
  await untilAsleep(other, 103);
  await other.query('SELECT pg_terminate_backend($1)', [listener.processID]);
  await failing('terminated', asleep);
  console.log((await ended).message);
  await other.end();
})();
