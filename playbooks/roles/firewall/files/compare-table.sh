#!/bin/sh
# compare-table FILE: exit 0 when the running table is what FILE declares, 10 when it is not (or there is no FILE yet).
set -eu
[ -f "$1" ] || exit 10
listing='nft -s list table inet intramuros'
declared=$(unshare --net sh -c "nft -f '$1' && $listing")
running=$($listing 2> /dev/null) || exit 10
[ "$declared" = "$running" ] || exit 10
