# Ends the program of a shell and what holds its terminal. $1 = how many times to look for that, 0.1 s apart.
field() { shift "$1"; echo "$1"; }
of() { read -r stat <"/proc/$1/stat" && field "$2" ${stat##*) }; }
pause() { sleep 0.1 || sleep 1; }
holds() {
    words=
    read -r words <"/proc/$1/cmdline"
    [ "$words" = "/bin/sh-c: serai-shell $serai_server $serai_shell" ]
}
find_holder() {
    for at in /proc/[0-9]*; do
        process=${at#/proc/}
        # What it starts looks like it until it is another program.
        holds "$process" && ! holds "$(of "$process" 2)" && holder=$process
    done
}
# As when a terminal is closed: all of its session, and what was started to survive that survives it. $program is what the holder waits for.
hang_up() {
    for at in /proc/[0-9]*; do
        process=${at#/proc/}
        if [ "$process" != "$holder" ] && [ "$(of "$process" 2)" = "$holder" ]; then
            program=$process
        elif [ "$process" = "$holder" ] || [ "$(of "$process" 4)" != "$holder" ]; then
            continue
        fi
        kill -HUP "$process"
        kill -CONT "$process"
    done
}
end() {
    looks=$1 holder= program= left=10
    find_holder
    while [ -z "$holder" ] && [ "$looks" -gt 1 ]; do
        looks=$((looks - 1))
        pause
        find_holder
    done
    [ -n "$holder" ] || return
    hang_up
    while [ -n "$program" ] && [ "$(of "$program" 2)" = "$holder" ] && [ "$left" -gt 0 ]; do
        left=$((left - 1))
        pause
    done
    # The program and its like go in any case; with the holder the kernel hangs the terminal up.
    if [ -n "$program" ] && [ "$(of "$program" 2)" = "$holder" ]; then
        kill -KILL "-$program"
        kill -KILL "$program"
    fi
    kill -KILL "-$holder"
    kill -KILL "$holder"
}
end "$1" 2>/dev/null
exit 0
