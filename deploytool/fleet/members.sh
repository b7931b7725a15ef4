# Shows which members a host believes its fleet to have, and replaces that list. "deploytool host prepare" and
# "host retire" send it to "sh -s", behind its settings: to look (empty MEMBERS), and with a new list, which is
# written only where the present one is still the one that was looked at (KEPT: its digest; empty: there was none).
# It runs as root.
# shellcheck shell=sh disable=SC2154 # the settings are put in front of it
set -uf
umask 022
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

printf '\ndeploytool %s begin\n' "$NONCE"
no() {
    printf 'deploytool %s end refused members %s\n' "$NONCE" "$(printf '%s' "$*" | tr '\n' ' ')"
    exit 0
}
digest() { # of the list that is there; empty where there is none
    [ -e "$MEMBERS_PATH" ] || return 0
    sum=$(sha256sum <"$MEMBERS_PATH") || no "$MEMBERS_PATH can't be read"
    printf '%s' "${sum%% *}"
}

grep -qxF -e "fleet $FLEET" "$RECORD_PATH" 2>/dev/null || no "it is not prepared for the fleet $FLEET"
if [ -n "$MEMBERS" ]; then
    folder=${MEMBERS_PATH%/*}
    # Two preparations at once: one of them wins on each host, and the other one says so.
    { [ -d "$folder" ] && exec 9<"$folder" && flock -w 10 9; } || no "$folder can't be locked"
    [ "$(digest)" = "$KEPT" ] || no 'its list of members was changed meanwhile: run this again'
    { printf '%s\n' "$MEMBERS" >"$MEMBERS_PATH.new" && chmod 0644 "$MEMBERS_PATH.new"; } ||
        no "$MEMBERS_PATH.new can't be written"
    sync "$MEMBERS_PATH.new" || no "$MEMBERS_PATH.new can't be put on the disk"
    mv -T "$MEMBERS_PATH.new" "$MEMBERS_PATH" || no "$MEMBERS_PATH can't be put in its place"
    sync "$folder" || no "$folder can't be put on the disk"
fi
machine=$(cat /etc/machine-id) || no 'it has no machine-id'
printf 'machine %s\n' "$machine"
digest=$(digest)
[ -z "$digest" ] || printf 'digest %s\nlist %s\n' "$digest" "$(head -c 65537 "$MEMBERS_PATH" | tr -d '\n')"
printf 'deploytool %s end ok\n' "$NONCE"
