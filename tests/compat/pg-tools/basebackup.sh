# The copy is a server's data directory: its list of files, and that it verifies.
pg_basebackup -D ../base -c fast -X stream --no-sync; echo "exit $?"
pg_basebackup -F t -z -D ../tars -c fast -X fetch --no-sync; echo "exit $?"
pg_verifybackup ../base 2>&1; echo "exit $?"
ls ../tars
cat ../base/PG_VERSION
(cd ../base && find . -maxdepth 1 | sort)
pg_basebackup -U nobody -D ../none 2>&1; echo "exit $?"
rm -rf ../base ../tars
