#!/bin/sh
# Intramuros: from this medium to an installed box. Needs only what a minimal Debian 12 has: sh, coreutils, find, apt.
#
#   sudo sh bootstrap/install.sh [--fingerprint HEX] [--verify-only | --prepare-only] [-- arguments of `intramuros install`]
#
# Order, and nothing before its turn:
#   1. the fingerprint of the publisher's key: pinned on this machine, given, or compared with paper by you
#   2. gpgv: is the list of files signed by that key, not expired, not older than what this machine accepted before?
#   3. sha256sum and find: is every file of the list here and unchanged, and is nothing else here?
#   4. apt from this medium alone, Python, the installer's own environment; every step may be repeated after a power cut
#   5. the full verification (TUF) and then `intramuros install`
# Until step 4 nothing of the medium but this script is executed, and nothing is written. --verify-only ends there;
# --prepare-only ends before `intramuros install`, so that you can look first: intramuros preflight, intramuros plan
set -eu
umask 022
language=${LC_ALL-} here=$(pwd)
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

medium=$(cd "$(dirname "$0")/.." && pwd -P)
trust=${INTRAMUROS_TRUST:-/etc/intramuros/trust}
state=${INTRAMUROS_STATE_FOLDER:-/var/lib/intramuros}/bootstrap
home=/opt/intramuros/installer
lists=/etc/apt/sources.list.d
key=$medium/bootstrap/publisher.gpg
sums=$medium/bootstrap/SHA256SUMS
given='' only_verify=no only_prepare=no scratch=''

say() { printf 'install.sh: %s\n' "$*" >&2; }
refuse() { say "REFUSED [$1]: $2"; say "Nothing was installed from this medium."; exit 7; }
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP

while [ $# -gt 0 ]; do
    case $1 in
        --fingerprint) [ $# -ge 2 ] || { say "--fingerprint needs a value"; exit 2; }; given=$2; shift 2 ;;
        --verify-only) only_verify=yes; shift ;;
        --prepare-only) only_prepare=yes; shift ;;
        -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --) shift; break ;;
        *) say "$1 is no option of this script; arguments of \`intramuros install\` come after --"; exit 2 ;;
    esac
done
[ "$only_verify" = yes ] || [ "$(id -u)" = 0 ] || { say "Run it as root: su - first, or sudo sh $0 where there is sudo"; exit 5; }
case $medium in *[!A-Za-z0-9/._+~=@-]*) refuse bundle.path "the folder $medium has characters that apt cannot take" ;; esac

plain() { tr -d ' :\n' | tr a-f A-F; }
value_of() { sed -n "2,6s/^# $1 //p" "$scratch/list"; }
instant_of() { date -u -d "$1" +%s; }

# --- 1. who signs -------------------------------------------------------------------------------------------------
scratch=$(mktemp -d)
for file in "$key" "$sums" "$sums.gpg"; do
    if [ ! -f "$file" ] || [ -L "$file" ]; then refuse bundle.unsigned "${file#"$medium"/} is not there"; fi
done
cp "$key" "$scratch/key.gpg"
cp "$sums" "$scratch/list" # what was verified is what is used, whatever happens to the medium meanwhile
cp "$sums.gpg" "$scratch/list.gpg"
gpgv --homedir "$scratch" --ignore-time-conflict --status-fd 3 --keyring "$scratch/key.gpg" \
    "$scratch/list.gpg" "$scratch/list" 3> "$scratch/status" 2> "$scratch/said" ||
    refuse bundle.unsigned "the signature of bootstrap/SHA256SUMS is not good: $(tail -n 1 "$scratch/said")"
[ "$(grep -c '^\[GNUPG:\] VALIDSIG ' "$scratch/status")" = 1 ] || refuse bundle.unsigned "there is not exactly one signature"
signer=$(sed -n 's/^\[GNUPG:\] VALIDSIG .* \([0-9A-F]\{40\}\)$/\1/p' "$scratch/status")
shown=$(printf '%s' "$signer" | sed 's/..../& /g; s/ $//')
if [ -f "$trust/publisher.fingerprint" ]; then
    wanted=$(plain < "$trust/publisher.fingerprint")
    [ "$signer" = "$wanted" ] || refuse bundle.unknown_publisher "signed by $shown, but this machine trusts $wanted"
elif [ -n "$given" ]; then
    wanted=$(printf '%s' "$given" | plain)
    [ "$signer" = "$wanted" ] || refuse bundle.unknown_publisher "signed by $shown, but you expect $wanted"
elif [ -t 0 ]; then
    say "This medium is signed by the key"
    say "    $shown"
    say "Compare every group with the paper or the page that you had from the publisher by another way."
    printf 'Type the last two groups to accept it, anything else to stop: ' >&2
    read -r typed
    [ "$(printf '%s' "$typed" | plain)" = "$(printf '%s' "$signer" | cut -c33-40)" ] ||
        refuse bundle.unknown_publisher "the fingerprint was not confirmed"
else
    refuse bundle.unknown_publisher "nobody is here to compare the fingerprint; give --fingerprint"
fi

# --- 2. is the list the right one ---------------------------------------------------------------------------------
[ "$(sed -n 1p "$scratch/list")" = '# intramuros-bundle 1' ] || refuse bundle.manifest_schema "the list has another format"
sequence=$(value_of sequence) version=$(value_of version) built=$(value_of built) expires=$(value_of expires)
case $sequence in '' | *[!0-9]*) refuse bundle.manifest "the list has no sequence number" ;; esac
before=$(cat "$state/sequence" 2> /dev/null || echo 0)
known=$(sed -n 's/.*"sequence":\([0-9]*\).*/\1/p' "$trust/accepted.json" 2> /dev/null || :)
[ "${known:-0}" -le "$before" ] || before=$known
[ "$sequence" -ge "$before" ] || refuse bundle.older "number $sequence, but number $before was accepted here before"
now=$(date -u +%s)
for signed in "$(cat "$state/built" 2> /dev/null || :)" "$(sed -n 's/.*"built":"\([^"]*\)".*/\1/p' "$trust/accepted.json" 2> /dev/null || :)"; do
    [ -z "$signed" ] || [ "$(instant_of "$signed")" -le "$now" ] || now=$(instant_of "$signed") # a clock set back helps nobody
done
[ "$now" -lt "$(instant_of "$expires")" ] || refuse bundle.expired "valid until $expires; if that is to come, set this machine's clock"

# --- 3. is the medium the list, and nothing else ------------------------------------------------------------------
cd "$medium"
odd=$(find . ! -type f ! -type d | head -n 1)
[ -z "$odd" ] || refuse bundle.symlink "$odd is a link or a special file; a bundle holds plain files alone"
grep -v '^#' "$scratch/list" | cut -c67- | sort > "$scratch/listed"
if grep -q -v '^[0-9a-f]\{64\}  [A-Za-z0-9_+~][A-Za-z0-9._+~@=/-]*$' "$scratch/list" &&
    grep -v '^#' "$scratch/list" | grep -q -v '^[0-9a-f]\{64\}  [A-Za-z0-9_+~][A-Za-z0-9._+~@=/-]*$'; then
    refuse bundle.path "the list has a name that is not allowed"
fi
if grep -q '\(^\|/\)\.\.\(/\|$\)' "$scratch/listed"; then refuse bundle.path "the list has a name that leaves the medium"; fi
twin=$(tr A-Z a-z < "$scratch/listed" | sort | uniq -d | head -n 1)
[ -z "$twin" ] || refuse bundle.case_twin "$twin is there twice, in upper and in lower case"
find . -type f | cut -c3- | grep -v -x -F -e bootstrap/SHA256SUMS -e bootstrap/SHA256SUMS.gpg | sort > "$scratch/present"
missing=$(comm -23 "$scratch/listed" "$scratch/present" | head -n 1)
[ -z "$missing" ] || refuse bundle.missing "$missing is not on the medium"
unlisted=$(comm -13 "$scratch/listed" "$scratch/present" | head -n 1)
[ -z "$unlisted" ] || refuse bundle.unlisted "$unlisted is on the medium but not in the signed list"
say "checking $(wc -l < "$scratch/listed") files, $(du -sh . | cut -f1)"
sha256sum --check --quiet --strict "$scratch/list" > "$scratch/bad" 2> /dev/null ||
    refuse bundle.altered "$(head -n 1 "$scratch/bad" | sed 's/: FAILED.*//') is not what the publisher signed"
say "version $version, number $sequence, built $built: whole and signed"
[ "$only_verify" = no ] || exit 0

system=$(sed -n 's/^ID=//p; s/^VERSION_ID="\{0,1\}\([0-9.]*\)"\{0,1\}$/\1/p' /etc/os-release | sort | tr '\n' ' ')$(dpkg --print-architecture)
[ "$system" = '12 debian amd64' ] || refuse bundle.product "this bundle is for Debian 12 on amd64, and this is: $system"

# --- 4. apt, Python, the installer --------------------------------------------------------------------------------
# Each file appears by one rename; a run that was cut off anywhere is finished by running this script again.
put() { cat > "$1.new"; sync "$1.new"; mv "$1.new" "$1"; }
mkdir -p "$trust" "$state" "$home" "$lists"
printf '%s\n' "$sequence" | put "$state/sequence"
printf '%s\n' "$built" | put "$state/built"
put "$trust/publisher.gpg" < "$scratch/key.gpg"
printf '%s\n' "$signer" | put "$trust/publisher.fingerprint"
[ -f "$trust/root.json" ] || put "$trust/root.json" < tuf/metadata/1.root.json

for file in /etc/apt/sources.list "$lists"/*.list "$lists"/*.sources; do
    if [ ! -f "$file" ] || [ "$file" = "$lists/intramuros.sources" ]; then continue; fi
    grep -q -x -F "$file" "$state/apt-disabled" 2> /dev/null || printf '%s\n' "$file" >> "$state/apt-disabled" # how to undo it
    sync "$state/apt-disabled"
    mv "$file" "$file.disabled"
done
put "$lists/intramuros.sources" << END # to the byte what the role offline_repo writes
# Written by Intramuros: the verified bundle. Every other source was renamed to NAME.disabled.
Types: deb
URIs: file:$medium/apt
Suites: ./
Signed-By: $trust/publisher.gpg
END
export DEBIAN_FRONTEND=noninteractive
get() { apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" > "$scratch/apt" 2>&1; }
dpkg --configure -a || : # what lacks a package that a full disk kept out is mended below
say "installing Python from the medium" # python3-apt too: --check, which installs nothing, asks apt through it
apt-get -qq -o Acquire::Languages=none -o Acquire::Check-Date=false update
get --fix-broken install && get install python3 python3-apt python3-venv ||
    { tail -n 5 "$scratch/apt" >&2; say "apt could not install Python; run the same command again"; exit 6; }

wanted=$(cat requirements/installer.lock requirements/intramuros-appliance.lock | sha256sum | cut -c1-64)
if [ "$(cat "$home/made-from" 2> /dev/null || :)" != "$wanted" ]; then
    say "making the installer's environment"
    rm -f "$home/made-from"
    python3 -m venv --clear "$home/venv"
    "$home/venv/bin/python" -Im pip --disable-pip-version-check --no-cache-dir --quiet install --no-index --no-deps \
        --require-hashes --only-binary=:all: --find-links=wheels \
        -r requirements/installer.lock -r requirements/intramuros-appliance.lock
    sync
    printf '%s\n' "$wanted" | put "$home/made-from"
fi
[ -e /usr/local/bin/intramuros ] || ln -sf "$home/venv/bin/intramuros" /usr/local/bin/intramuros

# --- 5. the full verification, then the installation --------------------------------------------------------------
"$home/venv/bin/intramuros" bundle verify "$medium"
if [ "$only_prepare" = yes ]; then say "ready: intramuros preflight --bundle $medium"; exit 0; fi
say "starting the installation"
rm -rf "$scratch"
if [ -n "$language" ]; then LC_ALL=$language; else unset LC_ALL; fi # people read what comes now
cd "$here" # --answers may be a relative name
exec "$home/venv/bin/intramuros" install --bundle "$medium" "$@"
