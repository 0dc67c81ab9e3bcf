# The newest libpq asks for protocol 3.2, whose keys of cancel requests are longer; an older server answers that it speaks 3.0.
export PATH="$NEWEST_BIN:$PATH" PGMAXPROTOCOLVERSION=latest
. "$HERE/sessions.sh"
psql -X -At -c '\conninfo' | grep -i 'protocol version'
for version in 3.0 3.2 latest; do
  PGMAXPROTOCOLVERSION=$version psql -X -At -c '\conninfo' -c "SELECT 'asked for $version'" | grep -E 'Protocol|asked'
done
PGMINPROTOCOLVERSION=3.2 psql -X -At -c "SELECT 'no less than 3.2'" 2>&1 | sed 's/port [0-9]*/port/'
psql -X -f "$HERE/prepared.sql" 2>&1
open_session a
say a "SET application_name = 'to be cancelled';"
send a "SELECT 'x' FROM pg_sleep(100);"
until_true "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'to be cancelled' AND query LIKE '%pg_sleep%' AND state = 'active'"
kill -INT "${pids[a]}"
await a
close_session a
