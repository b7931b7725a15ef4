# Makes one bare host ready. "deploytool host prepare" sends it to "sh -s", behind its settings.
# It runs as root; on hosts without systemd (empty UNIT_PATH) as the deploy account itself.
# shellcheck shell=sh disable=SC2154 # the settings are put in front of it
set -uf
umask 022
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
LF='
'

printf '\ndeploytool %s begin\n' "$NONCE"

MADE=''
made() { # WHAT PATH: it was not there before; in the record that "host retire --purge" goes by
    [ -n "$DRY" ] || MADE="$1 $2$LF$MADE"
}

undo() { # takes away what this run made, the newest first; what others put into a folder since keeps it
    printf '%s' "$MADE" | while read -r what path; do
        case $what in
        file)
            [ "$path" != "$UNIT_PATH" ] || systemctl --quiet disable "$NAME.service" 2>/dev/null
            rm -f "$path"
            ;;
        folder) rmdir "$path" 2>/dev/null ;;
        account) userdel --remove "$path" >/dev/null 2>&1 ;;
        esac
    done
}

no() {
    undo
    printf 'deploytool %s end refused prepare %s\n' "$NONCE" "$(printf '%s' "$*" | tr '\n' ' ')"
    exit 0
}
changed() { printf 'changed %s\n' "$1"; }

rights() { stat -c '%a %u:%g' "$1"; }

allow() { # PATH MODE OWNER NEW: with rights as they have to be; said where it is not NEW itself
    before=$(rights "$1" 2>/dev/null)
    if [ -n "$DRY" ]; then
        owner=${3:+$(id -u "${3%%:*}" 2>/dev/null):$(id -g "${3%%:*}" 2>/dev/null)}
        if [ -n "$4" ]; then
            changed "$1"
        elif [ "$before" != "${2#0} ${owner:-${before#* }}" ]; then
            changed "rights of $1"
        fi
        return
    fi
    chmod "$2" "$1" || no "the mode of $1 can't be set"
    [ -z "$3" ] || chown "$3" "$1" || no "the owner of $1 can't be set"
    if [ -n "$4" ]; then changed "$1"; elif [ "$before" != "$(rights "$1")" ]; then changed "rights of $1"; fi
}

parents() { # PATH: each folder by itself, so that the record has each
    [ -n "$1" ] && [ ! -d "$1" ] || return 0
    parents "${1%/*}"
    [ -n "$DRY" ] || mkdir "$1" || no "$1 can't be made"
    made folder "$1"
    changed "$1"
}

folder() { # PATH MODE OWNER
    new=''
    if [ ! -d "$1" ]; then
        parents "${1%/*}"
        [ -n "$DRY" ] || mkdir "$1" || no "$1 can't be made"
        made folder "$1"
        new=yes
    fi
    allow "$1" "$2" "$3" "$new"
}

place() { # PATH MODE OWNER CONTENT
    new=''
    if [ ! -f "$1" ] || [ "$(cat "$1"; echo .)" != "$4." ]; then
        [ -e "$1" ] || made file "$1"
        new=yes
    fi
    if [ -n "$new" ] && [ -z "$DRY" ]; then
        printf '%s' "$4" >"$1.new" || no "$1 can't be written"
        { chmod "$2" "$1.new" && mv -T "$1.new" "$1"; } || no "$1 can't be put in its place"
    fi
    allow "$1" "$2" "$3" "$new"
}

needs() {
    for program in "$@"; do
        command -v "$program" >/dev/null || no "$program is not on this host"
    done
}

account() { # NAME SHELL
    if ! id -u "$1" >/dev/null 2>&1; then
        [ -n "$DRY" ] || useradd --system --user-group --create-home --shell "$2" "$1" ||
            no "the account $1 can't be made"
        made account "$1"
        changed "account $1"
    fi
}

unlock() { # ACCOUNT: without PAM sshd turns away an account whose password field begins with "!"
    field=$(getent shadow "$1" 2>/dev/null | cut -d: -f2)
    case $field in
    '!' | '!!' | '!*') # there is no password in it: "*" has none either, and is not locked
        [ -n "$DRY" ] || usermod --password '*' "$1" || no "the account $1 can't be unlocked"
        changed "password field of $1 (from $field to *)"
        ;;
    '!'*)
        ! sshd -T 2>/dev/null | grep -qix 'usepam no' ||
            no "the account $1 is locked, and sshd has UsePAM no: it lets $1 in with no key. Unlock it: usermod -U $1"
        ;;
    esac
}

authorize() { # ACCOUNT KEY: with the account's own rights, for it may have put links in the way
    if [ -n "$DRY" ] && ! id -u "$1" >/dev/null 2>&1; then
        changed "authorized key of $1"
        return
    fi
    # The first line that has the key counts for sshd, with its options.
    # shellcheck disable=SC2016 # expanded by the account's shell
    setpriv --reuid="$1" --regid="$(getent passwd "$1" | cut -d: -f4)" --init-groups sh -c '
        umask 077
        case $1 in /*) cd "$1" || exit 1 ;; *) exit 1 ;; esac # without a home it would be wherever root is
        if [ -z "$4" ]; then
            mkdir -p .ssh && chmod 0700 .ssh && touch .ssh/authorized_keys || exit 1
        elif [ ! -e .ssh/authorized_keys ]; then
            echo "changed authorized key of $3" && exit 0
        fi
        file=.ssh/authorized_keys there="" key=${2#* } tab=$(printf "\t")
        blob=${key%% *} key="${2%% *} ${key%% *}"
        while IFS= read -r line || [ -n "$line" ]; do
            line=${line#"${line%%[! $tab]*}"}
            case "$line " in
            "#"*) ;;
            "$key "*) there=yes && break ;;
            *" $blob "*) exit 3 ;;
            esac
        done <"$file"
        if [ -z "$there" ] && [ -n "$4" ]; then
            echo "changed authorized key of $3"
        elif [ -z "$there" ]; then
            [ -z "$(tail -c 1 "$file")" ] || echo >>"$file" || exit 1
            printf "%s\n" "$2" >>"$file" && echo "changed authorized key of $3" || exit 1
        fi
        [ -n "$4" ] || chmod 0600 "$file"' sh "$(getent passwd "$1" | cut -d: -f6)" "$2" "$1" "$DRY"
    case $? in
    0) ;;
    3) no "authorized_keys of the account $1 has this key with options (such as command=), and they count for sshd: take that line out" ;;
    *) no "the account $1 can't write its authorized_keys" ;;
    esac
}

rights_line() { # checks the line of sudo rights before anything is changed; SUDOERS is what is accepted
    # Sudo reads no file with a dot in its name, so this one is checked before it counts.
    checked=$SUDOERS_PATH.checked
    # sudo-rs knows no requiretty, and never asks for a terminal.
    for line in "$SUDOERS" "$(printf '%s' "$SUDOERS" | sed 's/!requiretty, //')"; do
        { printf '%s\n' "${line%"$LF"}" >"$checked" && chmod 0440 "$checked"; } || no "$checked can't be written"
        objection=$(visudo -cf "$checked" 2>&1) && SUDOERS=${line%"$LF"}$LF && rm -f "$checked" && return
    done
    rm -f "$checked"
    no "sudo does not accept the line of rights: $(printf '%s' "$objection" | head -n 3)"
}

let_in() { # UNIT: its supervisor may start it, also at boot, unless a mark on this host says that nobody may
    kept=''
    # A host that was retired is let in again by whoever prepares it. One that was stopped is not: that takes a
    # reason and a second person (deploytool start); nor one that a rollout holds, or that its dead-man has
    # fenced: what runs there may be what nobody has verified (deploytool resume or rollback).
    for mark in fenced expired held rollout lock deadman; do
        [ ! -e "$ROOT/state/$mark" ] || kept="$kept $mark"
    done
    unit_is=$(systemctl is-enabled "$1" 2>/dev/null)
    [ "$unit_is" != enabled ] || return 0
    if [ -n "$kept" ]; then
        printf 'left %s%s\n' "${unit_is:-unknown}" "$kept"
        return
    fi
    if [ "$unit_is" = masked ]; then
        [ -n "$DRY" ] || systemctl unmask --quiet "$1" || no "$1 can't be unmasked"
        changed "$1 unmasked"
    fi
    if [ "$(systemctl is-enabled "$1" 2>/dev/null)" != enabled ]; then
        [ -n "$DRY" ] || systemctl enable --quiet "$1" || no "$1 can't be enabled"
        changed "$1 enabled"
    fi
}

not_anothers() { # before anything is changed: what another fleet owns on this host is never taken from it
    for path in "$UNIT_PATH" "$SUDOERS_PATH"; do
        [ -f "$path" ] || continue
        owner=$(sed -n 's/^# Written by "\{0,1\}deploytool host prepare"\{0,1\} for the fleet \([^ ]*\)\.\( .*\)\{0,1\}$/\1/p' "$path" | head -n 1)
        [ -z "$owner" ] || [ "$owner" = "$FLEET" ] ||
            no "$path is of the fleet $owner, and two fleets can't own one service: give this one another name, or take the host out of $owner first"
    done
    [ ! -f "$RECORD_PATH" ] || owned "$RECORD_PATH"
    records=${RECORD_PATH%/*/*}
    [ -n "$UNIT_PATH" ] && [ -d "$records" ] || return 0
    record=$(grep -rlxF --include=prepared -e "root $ROOT" "$records" | grep -vxF -e "$RECORD_PATH" | head -n 1)
    [ -z "$record" ] ||
        no "$ROOT is the folder of $(sed -n 's/^service //p' "$record"), of the fleet $(sed -n 's/^fleet //p' "$record"): give this one another release_root"
}

owned() { # RECORD: it is this fleet's
    owner=$(sed -n 's/^fleet //p' "$1" | head -n 1)
    [ "$owner" = "$FLEET" ] ||
        no "$ROOT and its agent are of the fleet $owner: give this one another release_root, or take the host out of $owner first"
}

record() { # what was made here, for "host retire --purge"; what an earlier preparation made stays in it
    kept=$(sed -n '/^made /p' "$RECORD_PATH" 2>/dev/null)
    new=$(printf '%s' "$MADE" | sed 's/^/made /')
    place "$RECORD_PATH" 0644 "$OWNER" "fleet $FLEET
service $NAME
root $ROOT
${new:+$new$LF}${kept:+$kept$LF}"
}

root_fits() { # the unit's sandbox hides these from the service, and a program has to be run from the root
    [ -z "$SANDBOX" ] || case $ROOT/ in
    /home/* | /root/* | /run/user/*) no "$ROOT lies under a home, which the unit hides from the service (ProtectHome): give it another release_root" ;;
    /tmp/* | /var/tmp/*) no "$ROOT lies under /tmp or /var/tmp, of which the service has its own (PrivateTmp): give it another release_root" ;;
    esac
    command -v findmnt >/dev/null || return 0
    for path in "$ROOT" "${AGENT_PATH%/*}"; do
        while [ ! -d "$path" ] && [ -n "$path" ]; do path=${path%/*}; done
        mounted=$(findmnt -n -o OPTIONS -T "${path:-/}" | tail -n 1)
        case ,$mounted, in
        *,noexec,*) no "${path:-/} lies on a file system that is mounted noexec: no program there can be run" ;;
        *,ro,*) no "${path:-/} lies on a file system that is mounted read-only" ;;
        esac
    done
}

writable_there() { # what the unit opens to the service has to be there when it starts
    IFS=$LF
    for path in $WRITABLE; do
        [ -e "$path" ] ||
            no "$path, which service.unit.writable names, is not on this host: make it, with rights for $ACCOUNT, or take it out of the inventory"
    done
    unset IFS
}

looked_at() { # root has to see what runs as the service's account: that is what a proof rests on
    [ -z "$DRY" ] || return 0
    setpriv --reuid="$1" --regid="$(id -g "$1")" --clear-groups sleep 10 &
    sleeper=$! tries=100
    while [ "$(stat -c %u "/proc/$sleeper" 2>/dev/null)" != "$(id -u "$1")" ] && [ $((tries = tries - 1)) -gt 0 ]; do sleep 0.05; done
    [ $tries -gt 0 ] || no "no process was started as $1 on this host"
    seen=$(readlink "/proc/$sleeper/exe" 2>&1) || no "root can't look at a process of $1 on this host (it needs CAP_SYS_PTRACE): $seen"
    kill "$sleeper" 2>/dev/null
}

at_least() { # WHAT LEAST FOUND WHY: a version, by its first number
    found=${3%%[!0-9]*}
    [ "${found:-0}" -ge "$2" ] || no "$1 $2 or newer is needed on this host, it has ${3:-none}: $4"
}

python_there() { # the one that the agent is started with is new enough
    for python in ${PYTHON:-/usr/bin/python3 /usr/local/bin/python3}; do
        [ -x "$python" ] || continue
        [ -z "$PYTHON" ] || trusted "$python" || no "$python can be changed by others than root"
        "$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null ||
            no "Python 3.9 or newer is needed on this host; $python is $("$python" -V 2>&1)"
        return
    done
    no "Python 3.9 or newer is needed on this host, as ${PYTHON:-/usr/bin/python3 or /usr/local/bin/python3}"
}

# What the agent is, and what the last rungs of a stop are made of.
needs sed stat mv cut head tr cat grep ls sync sleep timeout env
python_there
if [ -n "$SIGNERS_PATH" ]; then
    needs ssh-keygen
    version=$(ssh -V 2>&1) version=${version#OpenSSH_}
    case $version in
    [0-7].* | 8.[01] | 8.[01][!0-9]*) no "OpenSSH 8.2 or newer is needed on this host, it has ${version%%[ ,]*}: signatures are checked with ssh-keygen -Y" ;;
    esac
fi
OWNER='' SERVICE_OWNER=''
not_anothers
if [ -n "$UNIT_PATH" ]; then
    [ "$(id -u)" = 0 ] || no 'this needs root: name an account with --admin'
    needs systemctl sudo visudo useradd userdel usermod setpriv getent tail readlink sha256sum flock
    version=$(systemctl --version 2>/dev/null | head -n 1) version=${version#systemd }
    at_least systemd 243 "$version" 'an older one does not say all that is asked of a unit'
    root_fits
    writable_there
    rights_line
    account "$DEPLOY" /bin/sh
    unlock "$DEPLOY"
    account "$ACCOUNT" /usr/sbin/nologin
    [ -z "$AUTHORIZE" ] || authorize "$DEPLOY" "$AUTHORIZE"
    OWNER=root:root SERVICE_OWNER=$ACCOUNT: # with its own first group, whatever that is called
fi

folder "$ROOT" 0755 "$OWNER"
folder "$ROOT/releases" 0755 "$OWNER"
folder "$ROOT/state" 0755 "$OWNER"
folder "$ROOT/state/service" 0750 "$SERVICE_OWNER"
place "$ROOT/state/mutex" 0600 "$OWNER" ''
place "$ROOT/state/probe.lock" 0600 "$OWNER" ''
folder "${AGENT_PATH%/*}" 0755 "$OWNER"
place "$AGENT_PATH" 0755 "$OWNER" "$AGENT"
[ -z "$MEMBERS_PATH" ] || folder "${MEMBERS_PATH%/*}" 0755 "$OWNER"
if [ -n "$SIGNERS_PATH" ]; then
    folder "${SIGNERS_PATH%/*}" 0755 "$OWNER"
    place "$SIGNERS_PATH" 0644 "$OWNER" "$SIGNERS"
fi

if [ -n "$UNIT_PATH" ]; then
    folder "${UNIT_PATH%/*}" 0755 root:root
    before=$(cat "$UNIT_PATH" 2>/dev/null)
    place "$UNIT_PATH" 0644 root:root "$UNIT"
    [ -n "$DRY" ] || [ "$before" = "$(cat "$UNIT_PATH")" ] || systemctl daemon-reload || no 'systemd does not reload'
    let_in "$NAME.service"
    place "$SUDOERS_PATH" 0440 root:root "$SUDOERS"
    looked_at "$ACCOUNT"
fi
record
printf 'deploytool %s end ok\n' "$NONCE"
