# The only rules of this allocation's network namespace: its own job, its peers and the outside; nothing of other jobs.
apply() {
    {
        rules
        while read -r address; do
            case $address in '' | *[!0-9.]*) ;; *) echo "add element inet ucloud friends { $address }" ;; esac
        done <"$friends"
    } | "$nft" -f -
}
# Never on the node's own network.
[ "$(readlink /proc/self/ns/net)" != "$(readlink /proc/1/ns/net)" ] || exit 1
# Web applications listen on port 80, and no program is root.
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start 2>/dev/null
trap 'apply' HUP
trap 'exit 0' TERM INT
apply || exit 1
mkdir -p "$NOMAD_ALLOC_DIR/firewall-ready" || exit 1
# All rules change at once or not at all; what failed is tried again.
while :; do
    sleep 10 &
    wait $!
    [ $? -lt 128 ] || kill $! 2>/dev/null
    apply
done
