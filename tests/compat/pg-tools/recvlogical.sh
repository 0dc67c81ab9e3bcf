# What was committed must be on disk, else it is not streamed yet.
export PGOPTIONS="-c synchronous_commit=on"
psql -X -q -c "CREATE TABLE streamed (a int PRIMARY KEY, b text)"
pg_recvlogical -d "$PGDATABASE" --slot compat_logical --create-slot -P test_decoding 2>&1; created=$?
plugin=test_decoding
if [ $created != 0 ]; then
  # contrib is not there: pgoutput is always
  plugin=pgoutput
  psql -X -q -U postgres -c "CREATE PUBLICATION compat_pub FOR TABLE streamed"
  pg_recvlogical -d "$PGDATABASE" --slot compat_logical --create-slot -P pgoutput; echo "exit $?"
fi
options=(); [ $plugin = pgoutput ] && options=(-o proto_version=1 -o publication_names=compat_pub)
[ $plugin = test_decoding ] && options=(-o include-xids=0 -o skip-empty-xacts=1)
psql -X -q -c "INSERT INTO streamed SELECT n, 'row ' || n FROM generate_series(1, 300) n" -c "UPDATE streamed SET b = upper(b) WHERE a < 4" -c "DELETE FROM streamed WHERE a = 5"
end=$(psql -X -A -t -U postgres -c "SELECT pg_current_wal_lsn()")
pg_recvlogical -d "$PGDATABASE" --slot compat_logical --start --endpos "$end" --no-loop "${options[@]}" -f ../stream; echo "exit $?"
grep -ac 'row ' ../stream
[ $plugin = test_decoding ] && cp ../stream streamed.txt
pg_recvlogical -d "$PGDATABASE" --slot compat_logical --drop-slot; echo "exit $?"
[ $plugin = pgoutput ] && psql -X -q -U postgres -c "DROP PUBLICATION compat_pub"
pg_recvlogical -d "$PGDATABASE" --slot absent --start --no-loop -f - 2>&1; echo "exit $?"
