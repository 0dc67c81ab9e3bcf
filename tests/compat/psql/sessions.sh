# Several psql sessions that are told what to do in turn: `say NAME SQL` waits for the answer, `send` and `await` do not.
declare -A ins outs pids
open_session() { # NAME
  local name=$1 in out
  mkfifo "../$name.in" "../$name.out"
  (
    # a session that held another's pipes open would keep it from ending
    for fd in "${ins[@]}" "${outs[@]}"; do exec {fd}>&-; done
    exec psql -X -q -a <"../$name.in" >"../$name.out" 2>&1
  ) &
  pids[$name]=$!
  exec {in}>"../$name.in" {out}<"../$name.out"
  ins[$name]=$in; outs[$name]=$out
  rm "../$name.in" "../$name.out"
}
send() { printf '%s\n\\echo done-%s\n' "$2" "$1" >&"${ins[$1]}"; }
await() {
  local line
  while IFS= read -r line <&"${outs[$1]}"; do
    case $line in
      "\\echo done-$1") ;;
      "done-$1") return ;;
      *) printf '%s: %s\n' "$1" "$line" ;;
    esac
  done
  printf '%s: has ended\n' "$1"
}
say() { send "$1" "$2"; await "$1"; }
close_session() {
  local in=${ins[$1]} out=${outs[$1]} line
  exec {in}>&-
  while IFS= read -r line <&"$out"; do printf '%s: %s\n' "$1" "$line"; done
  exec {out}<&-
  unset "ins[$1]" "outs[$1]"
  wait "${pids[$1]}"
  printf '%s: exit %s\n' "$1" $?
}
# Waits until the SQL of a helper session prints t.
until_true() {
  local tries=0
  until [ "$(psql -X -A -t -c "$1")" = t ]; do
    tries=$((tries + 1)); [ $tries -lt 600 ] || { echo "never true: $1"; return 1; }
    sleep 0.05
  done
}
