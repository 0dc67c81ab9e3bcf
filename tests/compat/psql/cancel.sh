# Ctrl-C in psql sends a CancelRequest on a connection of its own; it must reach the right backend.
. "$HERE/sessions.sh"
sleeping="SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'to be cancelled' AND query LIKE '%pg_sleep%' AND state = 'active'"
open_session bystander
say bystander "SELECT 'here';"
# fed from a pipe, psql ends after a Ctrl-C
cancelled() {
  send a "SELECT 'x' FROM pg_sleep(100);"
  until_true "$sleeping"
  kill -INT "${pids[a]}"
  await a
  close_session a
  say bystander "SELECT 'not cancelled';"
}
for round in 1 2; do
  open_session a
  say a "SET application_name = 'to be cancelled';"
  cancelled
done
open_session a
say a "SET application_name = 'to be cancelled'; BEGIN; INSERT INTO journal VALUES (1, 'cancelled');"
cancelled
psql -X -c "SELECT count(*) FROM journal WHERE note = 'cancelled'"
echo "== on a terminal, psql goes on"
{
  printf "SET application_name = 'to be cancelled';\n"
  printf "SELECT 'y' FROM pg_sleep(100);\n"
  until_true "$sleeping" >&2
  printf '\003'
  until_true "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'to be cancelled' AND state = 'idle'" >&2
  printf "SELECT 'still ' || 'here' AS told;\n\\\\q\n"
} | TERM=dumb script -qec 'psql -X -n -P pager=off' ../typescript | grep -aoE 'Cancel request sent|ERROR.*|still here'
echo "== by other means"
open_session a
say a "SET application_name = 'to be cancelled';"
say bystander "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'to be cancelled';"
say a "SELECT 'a cancel that comes too late';"
send a "SELECT 'x' FROM pg_sleep(100);"
until_true "$sleeping"
say bystander "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'to be cancelled';"
await a
send a "SELECT 'x' FROM pg_sleep(100);"
until_true "$sleeping"
say bystander "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'to be cancelled';"
await a
close_session a; close_session bystander
