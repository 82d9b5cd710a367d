# Beside a task: holds the terminal of one program from its start to its end. $1 = rows, $2 = columns (empty = no terminal), then the program.
# Shells of a server that is gone: nobody else ends them.
for serai_at in /proc/[0-9]*; do
    serai_words=
    read -r serai_words <"$serai_at/cmdline"
    case $serai_words in
    "/bin/sh-c: serai-shell $serai_server "*) ;;
    "/bin/sh-c: serai-shell "*) kill -KILL "${serai_at#/proc/}" ;;
    esac
done 2>/dev/null
[ -z "$1" ] || stty rows "$1" columns "$2" 2>/dev/null
shift 2
# Keys that interrupt the program do not interrupt what waits for it; `:` is not inherited. What that says of its end is not the program's.
trap : INT QUIT
exec 9>&2 2>/dev/null
(exec "$@" 2>&9 9>&-)
serai_code=$?
# Nomad's docker driver throws away what it has not handed on when this ends: so it ends when everything was received.
printf '\000serai-ended %s %d\000' "$serai_shell" "$serai_code"
while read -r serai_words; do
    case $serai_words in *"$serai_shell") exit "$serai_code" ;; esac
done
sleep 2
exit "$serai_code"
