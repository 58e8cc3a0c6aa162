#!/bin/sh
# lifeline capture DIR   save what decides whether an administrator gets in: files, nftables, kernel parameters, units
# lifeline restore DIR   bring exactly that back
#
# Plain sh on purpose: the timer runs it on a machine on which anything else may be broken. DIR holds
#   state        armed | restoring | restored | disarmed
#   paths        the watched files and folders, one a line
#   files/       their copies
#   tables/      one listing per nftables table, and `names`: also the fact that a table did not exist is state
#   parameters   kernel parameters of the network, at run time
#   units        whether the units of SSH and the firewall were enabled and active
set -u
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
LC_ALL=C
export LC_ALL

verb=$1
dir=$2
ours="inet intramuros"

say() {
    echo "$*" >> "$dir/log"
    logger -t intramuros-lifeline -- "$*" 2> /dev/null || :
}

mark() {
    printf '%s\n' "$1" > "$dir/state.new" && sync "$dir/state.new" && mv "$dir/state.new" "$dir/state" && sync "$dir"
}

parameters() {
    sysctl -a 2> /dev/null | grep -E '^net\.ipv[46]\.(conf|tcp|ip|icmp)' | grep -vE '(stable_secret|^net\.ipv4\.tcp_fastopen_key) ' || :
}

capture() {
    rm -rf "$dir/files" "$dir/tables"
    mkdir -p "$dir/files" "$dir/tables" || exit 1
    while IFS= read -r path; do
        [ -e "$path" ] || [ -L "$path" ] || continue
        mkdir -p "$dir/files${path%/*}" && cp -a "$path" "$dir/files${path%/*}/" || exit 1
    done < "$dir/paths"

    : > "$dir/tables/names"
    if command -v nft > /dev/null; then
        nft list tables > "$dir/tables/all" || exit 1
        number=0
        while read -r _ family name; do
            number=$((number + 1))
            echo "$number $family $name" >> "$dir/tables/names"
            nft -s list table "$family" "$name" > "$dir/tables/$number.list" || exit 1
            {
                echo "table $family $name"
                echo "delete table $family $name"
                cat "$dir/tables/$number.list"
            } > "$dir/tables/$number.nft" || exit 1
        done < "$dir/tables/all"
    fi

    parameters > "$dir/parameters"
    for unit in ssh.socket ssh.service nftables.service; do
        echo "$unit $(systemctl is-enabled "$unit" 2> /dev/null || :) $(systemctl is-active "$unit" 2> /dev/null || :)"
    done > "$dir/units"
    sync
}

same() { # same A B: content, kind, mode and owner
    [ "$(stat -c '%F %a %u %g' "$1" 2> /dev/null)" = "$(stat -c '%F %a %u %g' "$2" 2> /dev/null)" ] || return 1
    if [ -L "$1" ]; then [ "$(readlink "$1")" = "$(readlink "$2")" ]; else cmp -s "$1" "$2"; fi
}

restore_path() {
    path=$1
    if [ -d "$path" ] && [ ! -L "$path" ]; then
        find "$path" -mindepth 1 -depth | while IFS= read -r now; do
            [ -e "$dir/files$now" ] || [ -L "$dir/files$now" ] || { say "removing $now" && rm -rf "$now"; }
        done
    fi
    if [ ! -e "$dir/files$path" ] && [ ! -L "$dir/files$path" ]; then
        [ ! -e "$path" ] && [ ! -L "$path" ] || { say "removing $path" && rm -rf "$path"; }
        return
    fi
    find "$dir/files$path" -type d | while IFS= read -r then; do
        now=${then#"$dir/files"}
        [ -d "$now" ] || mkdir -p "$now"
        chown --reference="$then" "$now" && chmod --reference="$then" "$now"
    done
    find "$dir/files$path" ! -type d | while IFS= read -r then; do
        now=${then#"$dir/files"}
        same "$then" "$now" && continue
        say "bringing back $now"
        rm -rf "$now.lifeline" && cp -a "$then" "$now.lifeline" && mv -f "$now.lifeline" "$now"
    done
}

restore_tables() {
    command -v nft > /dev/null || return
    if ! grep -q " $ours\$" "$dir/tables/names" && nft list table $ours > /dev/null 2>&1; then
        say "deleting the table $ours, which did not exist"
        nft delete table $ours
    fi
    while read -r number family name; do
        [ "$(nft -s list table "$family" "$name" 2> /dev/null)" != "$(cat "$dir/tables/$number.list")" ] || continue
        say "loading the table $family $name as it was"
        nft -f "$dir/tables/$number.nft" 2>> "$dir/log" && continue
        # A table of ours that cannot be loaded must not stay as it is: it is what locked people out.
        [ "$family $name" != "$ours" ] || { say "it cannot be loaded; removed" && nft delete table $ours; }
    done < "$dir/tables/names"
}

# sshd that got its port from a socket unit loses it when it is told to read its settings again, so it is restarted;
# established sessions live on in scopes of their own.
restart_ssh() {
    mkdir -p /run/sshd
    sshd -t || return
    systemctl reset-failed ssh.service ssh.socket
    if grep -q '^ssh.socket .* active$' "$dir/units"; then
        systemctl is-active --quiet ssh.socket || { systemctl stop ssh.service && systemctl start ssh.socket; }
        systemctl restart ssh.service
    else
        systemctl stop ssh.socket
        systemctl is-active --quiet ssh.service && systemctl reload ssh.service || systemctl restart ssh.service
    fi
}

restore() {
    case $(cat "$dir/state" 2> /dev/null) in
        armed | restoring) ;;
        *) exit 0 ;;
    esac
    mark restoring
    say "restoring: the change was not proven in time"
    while IFS= read -r path; do
        restore_path "$path"
    done < "$dir/paths"
    restore_tables
    parameters > "$dir/parameters.now"
    grep -vxFf "$dir/parameters.now" "$dir/parameters" | while IFS= read -r line; do
        sysctl -q -w "$(echo "$line" | sed 's/ = /=/')" 2>> "$dir/log"
    done
    rm -f "$dir/parameters.now"

    while read -r unit then _; do
        case $then in
            enabled) systemctl enable "$unit" ;;
            disabled) systemctl disable "$unit" ;;
        esac
    done < "$dir/units" >> "$dir/log" 2>&1
    systemctl daemon-reload
    restart_ssh >> "$dir/log" 2>&1
    sync
    mark restored
    say "restored"
    systemctl disable intramuros-lifeline.timer > /dev/null 2>&1
    rm -f /etc/systemd/system/intramuros-lifeline.timer /etc/systemd/system/intramuros-lifeline.service
    systemctl --no-block stop intramuros-lifeline.timer 2> /dev/null
    systemctl --no-block daemon-reload
}

case $verb in
    capture) capture ;;
    restore) restore ;;
    *) exit 64 ;;
esac
