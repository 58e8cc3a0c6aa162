#!/bin/sh
# try-sshd CANDIDATE PORT USER: proves a candidate for /etc/ssh/sshd_config before it is swapped in.
#
# sshd itself checks the candidate, which is then started on a spare loopback port, and USER logs in there with a key
# made for this one try. Exit 0 when that worked; otherwise one line says what did not.
set -eu
candidate=$1 port=$2 user=$3

work=$(mktemp -d /run/intramuros-sshd.XXXXXX)
server=
cleanup() {
    [ -z "$server" ] || kill "$server" 2> /dev/null || :
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
fail() {
    echo "The candidate for sshd was refused: $1" >&2
    [ ! -s "$work/log" ] || tail -n 5 "$work/log" >&2
    exit 1
}

# The same directives in the same order, on another port and with the key of this try.
{
    echo "Port $port"
    echo "ListenAddress 127.0.0.1"
    echo "PidFile $work/pid"
    echo "AuthorizedKeysFile $work/keys"
    grep -viE '^[[:space:]]*(Port|ListenAddress|PidFile|AuthorizedKeysFile|Banner)[[:space:]]' "$candidate"
} > "$work/config"

mkdir -p /run/sshd
/usr/sbin/sshd -t -f "$candidate" 2> "$work/log" || fail "sshd does not accept it."
id -u "$user" > /dev/null 2>&1 || fail "there is no account $user to log in with."

ssh-keygen -q -t ed25519 -N '' -C intramuros-trial -f "$work/key"
echo "restrict $(cat "$work/key.pub")" > "$work/keys"
chmod 711 "$work"
chmod 644 "$work/keys"

# StrictModes would refuse a key file outside the user's home.
/usr/sbin/sshd -D -e -o StrictModes=no -f "$work/config" 2> "$work/log" &
server=$!
tries=0
until ssh-keyscan -T 1 -p "$port" 127.0.0.1 > "$work/known" 2> /dev/null && [ -s "$work/known" ]; do
    kill -0 "$server" 2> /dev/null || fail "it does not start."
    tries=$((tries + 1))
    [ "$tries" -lt 30 ] || fail "it does not answer on 127.0.0.1 port $port."
    sleep 0.3
done

said=$(timeout 30 ssh -n -F none -i "$work/key" -p "$port" -o IdentitiesOnly=yes -o BatchMode=yes -o ControlPath=none \
    -o UserKnownHostsFile="$work/known" -o StrictHostKeyChecking=yes "$user@127.0.0.1" echo intramuros-in 2>> "$work/log") ||
    fail "$user cannot log in with a key."
[ "$said" = intramuros-in ] || fail "$user logged in and got no shell."
