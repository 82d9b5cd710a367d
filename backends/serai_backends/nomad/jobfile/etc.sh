# What every replica finds in /etc/ucloud, and the wait for the firewall.
mark() {
    mkdir "/work/.ucloud/start-$rank-$1" 2>/dev/null
}
fail() {
    mark "$1"
    echo "serai: $2" >&2
    exit "$1"
}
wait_for_firewall() {
    left=300
    until [ -e "$ready" ]; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        sleep 0.1 2>/dev/null || sleep 1
    done
}
# The kernel's table of the addresses of this network namespace: no program is needed to read it.
own_address() {
    here=
    while read -r first second third; do
        case "$first $second $third" in
        "|-- "*) here=$second ;;
        "/32 host LOCAL") case $here in 127.*) ;; *) echo "$here" && return ;; esac ;;
        esac
    done </proc/net/fib_trie
    echo 127.0.0.1
}
fill() {
    count=0
    while read -r address || [ -n "$address" ]; do
        [ -n "$address" ] || continue
        [ "$address" != self ] || address=${node_address:-$(own_address)}
        printf '%s\n' "$address" >"/etc/ucloud/node-$count.txt" || return 1
        printf 'node-%s\n' "$count" >>/etc/ucloud/nodes.txt
        count=$((count + 1))
    done <"$nodes"
    [ "$count" -eq "$replicas" ] || return 1
    printf '%s\n' "$rank" >/etc/ucloud/rank.txt
    printf '%s\n' "$cores" >/etc/ucloud/cores.txt
    printf '%s\n' "$replicas" >/etc/ucloud/number_of_nodes.txt
    printf '%s\n' "$job_id" >/etc/ucloud/job_id.txt
}
