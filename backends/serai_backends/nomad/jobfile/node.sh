# Runs as root on the node: a view of files of this replica's own, then the job's user, who gets no more rights by anything.
umask 022
[ "${1-}" = inside ] || exec unshare --mount --uts --propagation private -- /bin/sh "$0" inside
# 16 ranks of a job may do this on one core at the same moment: no program is started that is not needed.
prepare() {
    # as everywhere else a rank's own name leads to its own address
    echo "node-$rank" >/proc/sys/kernel/hostname || return 218
    mount -t tmpfs -o mode=0755,nosuid,nodev ucloud /etc/ucloud && cat "$here/start.sh" >/etc/ucloud/.start.sh || exit 218
    for file in "$here"/file-*; do
        [ ! -f "$file" ] || cat "$file" >"/etc/ucloud/.${file##*/}" || return 218
    done
    bind_drives || return 218
    [ -z "$ready" ] || wait_for_firewall || return 215
    fill || return 219
    lay_secrets || return 218
    if [ -n "$script" ]; then
        cat "$script" >/etc/ucloud/script.sh && chmod 0755 /etc/ucloud/script.sh || return 218
    fi
    {
        cat /etc/hosts
        count=0
        while [ "$count" -lt "$replicas" ]; do
            read -r address <"/etc/ucloud/node-$count.txt" && echo "$address node-$count"
            count=$((count + 1))
        done
        [ ! -f "$hosts" ] || cat "$hosts"
    } >/etc/ucloud/.hosts
    mount --bind /etc/ucloud/.hosts /etc/hosts || return 218
    # web applications listen on port 80; never on the node's own network
    if [ -n "$opens_ports" ] && [ "$(readlink /proc/self/ns/net)" != "$(readlink /proc/1/ns/net)" ]; then
        echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
    fi 2>/dev/null
    # Nomad lets every user of the node write into the folders of all its allocations, where root's scripts lie and the firewall's friends.
    mount -t tmpfs -o mode=0700,size=4k,nosuid,nodev ucloud "${NOMAD_ALLOC_DIR%/*/*}" || return 218
}
bind() {
    mkdir -p "$2" && mount --bind "$1" "$2" || return 1
    [ "$3" = rw ] || mount -o "remount,bind,ro,nosuid,nodev" "$2"
}
[ -d /work ] && [ -d /etc/ucloud ] || mkdir -p /work /etc/ucloud || exit 218
mount --bind "$source" /work || exit 218
prepare
become "$?"
