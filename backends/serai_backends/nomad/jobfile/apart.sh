# In a user namespace that belongs to root: the same user's other programs on the node, and those of its other jobs, can then not look into
# this one's memory and view of files by /proc. Root and the user are the same in there as outside.
map_users() {
    outside=$(readlink /proc/self/ns/user) left=500
    while [ "$(readlink "/proc/$1/ns/user")" = "$outside" ] && [ "$left" -gt 0 ]; do
        left=$((left - 1))
        sleep 0.01 2>/dev/null || sleep 1
    done
    printf '0 0 1\n%s %s 1\n' "${owner#*:}" "${owner#*:}" >"/proc/$1/gid_map"
    printf '0 0 1\n%s %s 1\n' "${owner%:*}" "${owner%:*}" >"/proc/$1/uid_map"
}
apart() {
    (map_users "$$" &)
    exec unshare --user -- /bin/sh -c 'left=500
        until read -r line </proc/self/uid_map || [ "$left" -eq 0 ]; do
            left=$((left - 1))
            sleep 0.01 2>/dev/null || sleep 1
        done
        exec "$@"' sh "$@"
}
