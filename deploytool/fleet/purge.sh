# Takes away what preparations brought to one host. "deploytool host retire --purge" sends it to "sh -s", behind its
# settings, once the service was stopped for good. It runs as root; without systemd as the deploy account itself.
# The record goes last but for the folders around it: what broke off is done by the same command again.
# shellcheck shell=sh disable=SC2153,SC2154 # the settings are put in front of it
set -uf
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

printf '\ndeploytool %s begin\n' "$NONCE"
no() {
    printf 'deploytool %s end refused purge %s\n' "$NONCE" "$(printf '%s' "$*" | tr '\n' ' ')"
    exit 0
}
changed() { printf 'changed %s\n' "$1"; }
left() { printf 'left %s\n' "$1"; }

gone() { # PATH: a file, or a folder with all in it
    [ -e "$1" ] || [ -L "$1" ] || return 0
    rm -rf "$1" || no "$1 can't be removed"
    changed "$1"
}

made() { # WHAT: the paths or names that the record has of it, the newest first
    printf '%s\n' "$record" | sed -n "s/^made $1 //p"
}

if [ -n "$UNIT_PATH" ] && [ "$(id -u)" != 0 ]; then no 'this needs root: name an account with --admin'; fi
[ -f "$RECORD_PATH" ] || no "$RECORD_PATH is not there: nothing says what was made here. A host that an earlier deploytool prepared gets one from: host prepare"
record=$(cat "$RECORD_PATH")
for line in "fleet $FLEET" "service $NAME" "root $ROOT"; do
    printf '%s\n' "$record" | grep -qxF -e "$line" || no "$RECORD_PATH is of another fleet, service or folder: it does not say: $line"
done
if [ -n "$UNIT_PATH" ]; then
    state=$(timeout -k 1 10 systemctl is-active "$NAME.service" 2>&1)
    case $state in inactive | failed | unknown) ;; *) no "$NAME.service is not shown to have ended: systemd says '$state'" ;; esac
fi
set +f # a process that runs a release, or holds one open, may serve
listed=$(timeout -k 1 10 ls -lnq /proc/[0-9]*/exe /proc/[0-9]*/fd 2>/dev/null)
if [ $? -ge 124 ] || [ -z "$listed" ]; then no 'the processes of this host can not be listed'; fi
set -f
running=$(printf '%s\n' "$listed" | grep -F -e " -> $ROOT/releases/" | head -n 1)
[ -z "$running" ] || no "a process runs or holds a release: $running"
if [ -n "$UNIT_PATH" ]; then
    gone "$SUDOERS_PATH"
    systemctl --quiet unmask "$NAME.service" 2>/dev/null
    systemctl --quiet disable "$NAME.service" 2>/dev/null
    gone "$UNIT_PATH"
    systemctl daemon-reload || no 'systemd does not reload'
fi
[ -z "$SIGNERS_PATH" ] || gone "$SIGNERS_PATH"
[ -z "$MEMBERS_PATH" ] || gone "$MEMBERS_PATH"
gone "$ROOT/current"
gone "$ROOT/releases"
gone "$ROOT/state"
for name in $(made account); do
    id -u "$name" >/dev/null 2>&1 || continue
    # The one that this came in by, without systemd, and one that something else runs as, can't go.
    if ! said=$(userdel --remove "$name" 2>&1) && id -u "$name" >/dev/null 2>&1; then
        no "the account $name can't be removed: $said"
    fi
    changed "account $name"
done
for name in $DEPLOY $ACCOUNT; do
    ! id -u "$name" >/dev/null 2>&1 || left "account $name and its keys, which no preparation made"
done
gone "$AGENT_PATH"
gone "$RECORD_PATH"
for path in $(made folder) "$ROOT"; do # what others put into one keeps it
    [ -d "$path" ] || continue
    if rmdir "$path" 2>/dev/null; then changed "$path"; else left "$path, which is not empty or not ours"; fi
done
printf 'deploytool %s end ok\n' "$NONCE"
