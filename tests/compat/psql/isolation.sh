# Two sessions at REPEATABLE READ and SERIALIZABLE; the conflicts are made in a fixed order, so who fails is fixed too.
. "$HERE/sessions.sh"
open_session a; open_session b
for level in "READ COMMITTED" "REPEATABLE READ" "SERIALIZABLE"; do
  echo "== $level"
  say a "BEGIN ISOLATION LEVEL $level;"
  say a "SELECT balance FROM customers WHERE id = 1;"
  say b "UPDATE customers SET balance = balance + 1 WHERE id = 1 RETURNING balance;"
  say a "SELECT balance FROM customers WHERE id = 1;"
  say a "UPDATE customers SET balance = balance + 100 WHERE id = 1 RETURNING balance;"
  say a "COMMIT;"
  say a "SELECT balance FROM customers WHERE id = 1;"
  # a lock first, the snapshot later
  say a "BEGIN ISOLATION LEVEL $level;"
  say a "LOCK TABLE orders IN SHARE MODE;"
  say b "INSERT INTO customers (id, name) VALUES ((SELECT max(id) + 1 FROM customers), 'between') RETURNING id;"
  say a "SELECT max(id) FROM customers;"
  say a "COMMIT;"
  # waiting for a row
  say a "BEGIN ISOLATION LEVEL $level;"
  say b "BEGIN ISOLATION LEVEL $level;"
  say a "SELECT count(*) FROM orders;"
  say b "UPDATE customers SET name = 'b was first' WHERE id = 2;"
  send a "UPDATE customers SET name = 'a waited' WHERE id = 2;"
  until_true "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
  say b "COMMIT;"
  await a
  say a "COMMIT;"
  say a "SELECT name FROM customers WHERE id = 2;"
done
echo "== write skew, with the retry that an application makes on 40001"
say a "\\set VERBOSITY verbose"
skew() {
  say a "BEGIN ISOLATION LEVEL SERIALIZABLE;"
  say b "BEGIN ISOLATION LEVEL SERIALIZABLE;"
  say a "SELECT sum(total) FROM orders WHERE customer_id = 3;"
  say b "SELECT sum(total) FROM orders WHERE customer_id = 4;"
  say a "UPDATE orders SET total = total + 1 WHERE customer_id = 4;"
  say b "UPDATE orders SET total = total + 1 WHERE customer_id = 3;"
  say b "COMMIT;"
  say a "COMMIT;"
}
skew
say a "BEGIN ISOLATION LEVEL SERIALIZABLE;"
say a "SELECT sum(total) FROM orders WHERE customer_id = 3;"
say a "UPDATE orders SET total = total + 1 WHERE customer_id = 4;"
say a "COMMIT;"
say a "SELECT customer_id, sum(total) FROM orders WHERE customer_id IN (3, 4) GROUP BY 1 ORDER BY 1;"
echo "== a deadlock: the one that looks first is told"
say a "SET deadlock_timeout = '1h';"
say b "SET deadlock_timeout = '10ms';"
say a "BEGIN; UPDATE customers SET name = 'a' WHERE id = 5;"
say b "BEGIN; UPDATE customers SET name = 'b' WHERE id = 6;"
send a "UPDATE customers SET name = 'a' WHERE id = 6;"
until_true "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
say b "UPDATE customers SET name = 'b' WHERE id = 5;"
await a
say b "ROLLBACK;"
say a "COMMIT;"
close_session a; close_session b
