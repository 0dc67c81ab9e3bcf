# Authentication passes through: SCRAM, MD5, clear text, refusals; start-up parameters reach the server.
try() { echo "-- $*"; "$@" 2>&1; echo "exit $?"; }
try psql -X -c "SELECT current_user, session_user"
PGPASSWORD=wrong try psql -X -c "SELECT 1"
PGPASSWORD= try psql -X -w -c "SELECT 1"
try psql -X -U compat_md5 -c "SELECT current_user"
PGPASSWORD=wrong try psql -X -U compat_md5 -c "SELECT 1"
try psql -X -U compat_clear -c "SELECT current_user"
try psql -X -U nobody -c "SELECT 1"
try psql -X -d absent -c "SELECT 1"
try psql -X "application_name=named options='-c work_mem=7MB -c search_path=pg_catalog'" -c "SHOW application_name" -c "SHOW work_mem" -c "SHOW search_path"
try psql -X "options='-c absent.setting=1 -c work_mem=much'" -c "SELECT 1"
try psql -X "client_encoding=LATIN1" -c "SHOW client_encoding" -c "SELECT 'é' = E'\u00e9' AS same"
try psql -X "sslmode=disable" -c "SELECT 1"
try psql -X "sslmode=prefer gssencmode=prefer" -c "SELECT 1"
try psql -X "sslmode=require" -c "SELECT 1"
try psql -X "channel_binding=require" -c "SELECT 1"
try psql -X "target_session_attrs=read-write" -c "SELECT 1"
try psql -X "target_session_attrs=standby" -c "SELECT 1"
try pg_isready
try psql -X -l -A -t
# psql hashes the new password itself (the terminal, if any, is out of its reach)
printf '%s\n%s\n' "$PGPASSWORD" "$PGPASSWORD" | try setsid --wait psql -X -c '\password'
try psql -X -c "SELECT 'the new password'"
