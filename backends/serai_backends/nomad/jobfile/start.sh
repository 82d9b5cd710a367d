# Runs as the job's user, where the program will run. From here on everything is done by exec: signals reach the program itself. Only where
# this is process 1 it stays: the kernel keeps from that one all signals that it does not handle, even its own kill -9.
umask 022
# The folder that was mounted is the job's: nobody can lay this file into a folder that is not his anyway.
[ -z "$token" ] || [ -f "/work/.ucloud/$token" ] || exit 214
[ -n "$token" ] || mkdir -p /work/.ucloud 2>/dev/null
if ! mkdir "/work/.ucloud/rank-$rank" 2>/dev/null; then
    [ -d "/work/.ucloud/rank-$rank" ] || fail 218 "nothing can be made in /work"
    fail 213 "this rank ran before"
fi
[ "${1:-0}" -eq 0 ] || fail "$1" "the node could not be made ready"
if [ "$who_fills" = start ]; then
    [ -z "$ready" ] || wait_for_firewall || fail 215 "the firewall did not become ready"
    fill || fail 219 "/etc/ucloud could not be filled"
    lay_secrets || fail 218 "the secrets have no place"
    [ -z "$script" ] || ln -s "$script" /etc/ucloud/script.sh || fail 218 "the script has no place"
    chmod 0444 /etc/ucloud/*.txt
fi
# Whole or not at all, whichever rank is first; what is there already stays.
lay() {
    [ ! -e "$2" ] || return 0
    new=/work/.ucloud/new-$rank
    cat "$1" >"$new" && { ln "$new" "$2" 2>/dev/null || [ -e "$2" ]; } && rm -f "$new" || fail 218 "/work cannot be written"
}
lay_files
if [ -n "$out" ]; then
    { true >>"$out" && true >>"$err"; } 2>/dev/null || fail 218 "the log files cannot be written"
    exec >>"$out" 2>>"$err"
fi
exec </dev/null
[ -z "$folder" ] || cd "$folder" || fail 218 "$folder cannot be entered"
command -v env >/dev/null || fail 218 "there is no program env"
# 0 = found, 1 = not there, 2 = there, and not a program that may be run
find_program() {
    case $1 in
    '') return 1 ;;
    */*)
        [ -e "$1" ] || return 1
        [ -f "$1" ] && [ -x "$1" ] && return 0
        return 2
        ;;
    esac
    verdict=1 left=${search:-$PATH}:
    while [ -n "$left" ]; do
        at=${left%%:*}/$1 left=${left#*:}
        [ "$at" != "/$1" ] || at=./$1
        [ -f "$at" ] && [ -x "$at" ] && return 0
        [ ! -e "$at" ] || verdict=2
    done
    return $verdict
}
# Gives SIGTERM on, takes the ends of orphans, and ends as the program did (128 + N for signal N).
stay() {
    run "$@" &
    child=$!
    trap 'kill -TERM "$child" 2>/dev/null' TERM
    wait "$child"
    code=$?
    # a SIGTERM ends the wait before the program has ended, or together with it
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        code=$?
    done
    wait "$child"
    last=$?
    [ "$last" -eq 127 ] || code=$last
    exit "$code"
}
program() {
    find_program "$1"
    case $? in
    1) fail 216 "$1: not found" ;;
    2) fail 217 "$1: cannot be run" ;;
    esac
    # the server tells nobody that the job runs before this is there; where nothing can be written it waits a little longer
    [ -z "$token" ] || { : >"/work/.ucloud/began-$rank"; } 2>/dev/null
    [ -z "$first" ] || stay "$@"
    run "$@"
}
