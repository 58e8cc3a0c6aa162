#!/bin/sh
# Run a command where only the loopback answers: `without_network.sh cut|swallowed COMMAND…`. Needs root.
# cut: no route, so whoever calls out is told at once. swallowed: a default route into nothing, so whoever calls out
# waits for an answer that never comes, as behind a firewall that drops.
set -eu
case "${1:-}" in
cut) route=: ;;
swallowed) route='ip link add void0 type veth peer name void1 && ip link set void1 up && ip link set void0 arp off up &&
    ip address add 192.0.2.1/24 dev void0 && ip route add default dev void0' ;;
*)
    echo "usage: $0 cut|swallowed COMMAND…" >&2
    exit 2
    ;;
esac
shift
exec unshare --net sh -euc "ip link set lo up; $route; exec \"\$@\"" sh "$@"
