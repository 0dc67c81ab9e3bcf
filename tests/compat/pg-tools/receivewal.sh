pg_receivewal --create-slot --slot compat_wal; echo "exit $?"
mkdir ../wal
psql -X -q -U postgres -c "SELECT pg_switch_wal()" -o /dev/null
pg_receivewal -D ../wal --slot compat_wal --no-loop --no-sync &
receiver=$!
for try in $(seq 600); do
  psql -X -q -c "INSERT INTO journal VALUES (1, 'to be received')"
  psql -X -q -U postgres -c "SELECT pg_switch_wal()" -o /dev/null
  [ "$(find ../wal -type f ! -name '*.partial' | wc -l)" -ge 1 ] && break
  sleep 0.1
done
kill -INT $receiver; wait $receiver; echo "exit $?"
for file in $(find ../wal -type f ! -name '*.partial' | head -n 1); do stat -c %s "$file"; done
pg_receivewal --drop-slot --slot compat_wal; echo "exit $?"
pg_receivewal -D ../wal --slot absent --no-loop 2>&1 | sed 's/ at .*//'
psql -X -q -c "DELETE FROM journal WHERE note = 'to be received'"
