# Archives name the time and the dump's id counter: their restored text is compared, and the members' sizes.
for format in c d t; do
  jobs=(); [ $format = d ] && jobs=(-j 3)
  pg_dump -F $format "${jobs[@]}" -Z 0 -f ../archive.$format 2>&1 || pg_dump -F $format "${jobs[@]}" -f ../archive.$format 2>&1
  pg_restore --restrict-key=compat --no-publications -f dumped.$format.sql ../archive.$format 2>&1
  pg_restore --no-publications -l ../archive.$format | grep -av '^;' | sed -E 's/^[0-9]+; [0-9]+ [0-9]+ //' | grep -v PUBLICATION | sort >list.$format
done
cmp dumped.c.sql dumped.d.sql && cmp dumped.c.sql dumped.t.sql && echo "all formats agree"
wc -l dumped.*.sql list.*
