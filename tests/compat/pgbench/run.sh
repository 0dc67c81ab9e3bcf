# Figures of speed are left out of what is compared: only that it ended well, how much it did, and the tables.
bench() {
  echo "-- pgbench $*" | sed "s|$HERE/||"
  pgbench "$@" >../out 2>../err
  echo "exit $?"
  grep -aE '^(transaction type|number of|query mode|maximum number)' ../out | sed "s|$HERE/||"
  # notices of -i name the time it took
  sed -E 's/[0-9.]+ s\b/T s/g; /^pgbench: (setting random seed|pghost)/d; s/\(elapsed.*\)//' ../err | grep -av '^pgbench (' | tr '\r' '\n' | grep -avE '^[0-9]+ of [0-9]+ tuples|^done in|^ *$'
}
tables() {
  psql -X -A -t -c "SELECT count(*), sum(balance) FROM customers" -c "SELECT count(*) FROM journal" -c "SELECT sum(total) FROM orders"
}
