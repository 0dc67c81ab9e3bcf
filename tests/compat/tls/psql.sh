# TLS on both ways, verified; SCRAM bound to the certificate, which recorder and server share.
try() { echo "-- $*"; "$@" 2>&1; echo "exit $?"; }
secured="SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
try psql -X -A -t -c "$secured"
try psql -X -A -t -c "\conninfo"
for mode in disable allow prefer require verify-ca verify-full; do
  PGSSLMODE=$mode try psql -X -A -t -c "SELECT 'connected'"
done
PGCHANNELBINDING=require try psql -X -A -t -c "SELECT 'bound'"
PGCHANNELBINDING=disable try psql -X -A -t -c "SELECT 'not bound'"
cp "$PGSSLROOTCERT" ../root.pem
PGHOST=localhost try psql -X -A -t -c "SELECT 'by name'"
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -days 2 -keyout /dev/null -out ../other.pem 2>/dev/null
PGSSLROOTCERT=../other.pem try psql -X -A -t -c "SELECT 'never'"
PGPASSWORD=wrong try psql -X -A -t -c "SELECT 'never'"
try psql -X -U compat_md5 -A -t -c "SELECT 'md5'"
try psql -X -U compat_clear -A -t -c "SELECT 'clear text'"
