#!/bin/sh
# shellcheck disable=SC2317 # some functions are called by the settings that are written in below
# The host helper of deploytool: the only program that sudo lets the deploy account run as root.
#
# It takes no argument. A request comes on standard input:
#     deploytool/1 NONCE VERB        then lines "key value", then a line ".", then the payload
# (and further requests may follow, until one is refused), and the answer goes to standard output
# between two lines that carry the nonce, so that a login message can't be taken for it:
#     deploytool NONCE begin ... deploytool NONCE end ok|refused CODE TEXT
# Everything it may touch is named in the settings below, written by "deploytool host prepare";
# a request can't name a path or a program. Only sh, coreutils and util-linux are needed.
set -uf
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 022
NEWLINE='
'

#@SETTINGS@

REQUEST_NONCE=0
STATUS_ANSWER=''
QUICK=no
PHASE=''
STATE=$ROOT/state
FORMAT=deploytool/1

# --- answering ------------------------------------------------------------------------------

finish() {
    printf 'deploytool %s end %s\n' "$REQUEST_NONCE" "$1"
    [ "$1" = ok ]
    exit
}

refuse() { # CODE TEXT...: says no; whoever calls this has changed nothing that matters yet
    refuse_code=$1
    shift
    refuse_text=$(printf '%s' "$*" | tr '\n\t' '  ')
    finish "refused $refuse_code $refuse_text"
}

say() { printf '%s\n' "$*"; }

# --- the request ----------------------------------------------------------------------------

hexadecimal() { case $1 in '' | *[!0-9a-f]*) return 1 ;; esac; }
number() { case $1 in '' | *[!0-9]* | ????????????????*) return 1 ;; esac; }
word() { case $1 in '' | *[!A-Za-z0-9@._:+-]*) return 1 ;; esac; }
is_digest() { hexadecimal "$1" && [ ${#1} -eq 64 ]; }

read_request() {
    [ "$format" = "$FORMAT" ] || exit 64
    hexadecimal "$nonce" || exit 64
    REQUEST_NONCE=$nonce
    printf '\ndeploytool %s begin\n' "$REQUEST_NONCE"
    token='' release='' size='' manifest='' manifest_size='' holder='' purpose='' plan=''
    requires='' pid='' start='' boot='' disk=read ask=always seconds='' keep='' verdict='' next=''
    lines=0
    while [ $lines -lt 64 ]; do
        lines=$((lines + 1))
        IFS=' ' read -r key value || refuse bad-request 'the request ended early'
        case $key in
        .) return ;;
        token | size | manifest_size | pid | start | seconds | keep)
            number "$value" || refuse bad-request "$key is not a number" ;;
        release) [ "$value" = none ] || is_digest "$value" || refuse bad-request 'release is not a SHA-256' ;;
        manifest) is_digest "$value" || refuse bad-request 'manifest is not a SHA-256' ;;
        holder | purpose | plan | boot | disk | ask | verdict | next) word "$value" || refuse bad-request "$key has characters that are not allowed" ;;
        requires)
            word "$value" || refuse bad-request 'requires has characters that are not allowed'
            value="$requires $value" ;;
        *) refuse bad-request "unknown key" ;;
        esac
        eval "$key=\$value" # the key is one of the words above, and the value is not evaluated
    done
    refuse bad-request 'the request has too many lines'
}

needs() { # KEY...: these must have been in the request
    for need in "$@"; do
        eval "[ -n \"\$$need\" ]" || refuse bad-request "$need is missing"
    done
}

# --- files ----------------------------------------------------------------------------------

put() { # FILE TEXT: becomes its content, atomically and on disk
    printf '%s\n' "$2" >"$1.new" && sync "$1.new" && mv -T "$1.new" "$1" && sync "${1%/*}"
}

slurp() { # FILE -> SLURPED: its lines in one, without a process; fails where it can't be read
    SLURPED=''
    [ -r "$1" ] || return 1
    while IFS= read -r slurped_line || [ -n "$slurped_line" ]; do SLURPED="$SLURPED$slurped_line "; done <"$1"
    SLURPED=${SLURPED% }
}

# A host pays for each process that is started here, so files are asked about all at once.

digests() { # FILE... -> DIGESTS, of what a program that opens them now would read
    DIGESTS=$NEWLINE$(sha256sum -- "$@" 2>/dev/null)$NEWLINE
}

digest_of() { # FILE -> DIGEST; empty where it could not be read
    case $DIGESTS in
    *"$NEWLINE"????????????????????????????????????????????????????????????????"  $1$NEWLINE"*)
        DIGEST=${DIGESTS%%"  $1$NEWLINE"*} DIGEST=${DIGEST##*"$NEWLINE"} ;;
    *) DIGEST='' ;;
    esac
}

digest() { # FILE -> DIGEST
    digests "$1"
    digest_of "$1"
}

facts() { # FILE... -> FACTS
    FACTS=$NEWLINE$(stat -L -c '%n|%d:%i|%s|%u:%g:%a|%.9Y|%.9Z' -- "$@" 2>/dev/null)$NEWLINE
}

fact_of() { # FILE -> FACT: inode|size|owner:group:mode|modified|changed; fails where it is not there
    case $FACTS in
    *"$NEWLINE$1|"*) FACT=${FACTS#*"$NEWLINE$1|"} FACT=${FACT%%"$NEWLINE"*} ;;
    *) FACT=''; return 1 ;;
    esac
}

disk_digest() { # FILE -> DISK, "digest direct|cached": past the page cache where the disk allows it
    disk_way=direct
    if ! dd if="$1" of=/dev/null iflag=direct bs=4096 count=1 status=none 2>/dev/null; then
        disk_way=cached
        dd of="$1" oflag=nocache conv=notrunc,fdatasync count=0 status=none 2>/dev/null || :
    fi
    if [ $disk_way = direct ]; then
        disk_sum=$({ dd if="$1" iflag=direct bs=1M status=none 2>/dev/null || say 'read error'; } | sha256sum)
    else
        disk_sum=$(sha256sum <"$1" 2>/dev/null) || disk_sum=unreadable
    fi
    DISK="${disk_sum%% *} $disk_way"
}

# --- processes ------------------------------------------------------------------------------

stat_of() { # PID -> PROC_STATE PROC_PARENT PROC_START (clock ticks since boot, proc(5) field 22)
    PROC_START=''
    IFS= read -r stat_line 2>/dev/null <"/proc/$1/stat" || return 1
    stat_line=${stat_line##*) }
    IFS=' '
    # shellcheck disable=SC2086 # the fields are split on purpose
    set -- $stat_line
    [ $# -ge 20 ] || return 1
    PROC_STATE=$1 PROC_PARENT=$2 PROC_START=${20}
}

service_group() { # -> SLURPED: the pids in the service's control group
    SLURPED=''
    [ -n "$CONTROL_GROUP" ] || return 0
    for group in "/sys/fs/cgroup$CONTROL_GROUP" "/sys/fs/cgroup/systemd$CONTROL_GROUP" \
        "/sys/fs/cgroup/unified$CONTROL_GROUP"; do
        if slurp "$group/cgroup.procs"; then return; fi
    done
}

unit_state() { # -> CONTROL_GROUP MAIN_PID UNIT_STATE (the properties, for the evidence)
    CONTROL_GROUP='' MAIN_PID=0 UNIT_STATE=''
    if [ "$SUPERVISOR" = systemd ]; then
        UNIT_STATE=$(systemctl show "$UNIT" -p FragmentPath -p DropInPaths -p UnitFileState -p MainPID \
            -p ControlGroup -p ActiveState -p SubState -p NRestarts -p NeedDaemonReload -p LoadState 2>&1)
        IFS=$NEWLINE
        for property in $UNIT_STATE; do
            case $property in
            ControlGroup=*) CONTROL_GROUP=${property#*=} ;;
            MainPID=*) MAIN_PID=${property#*=} ;;
            esac
        done
    elif IFS=' ' read -r MAIN_PID main_start 2>/dev/null <"$STATE/pid"; then
        stat_of "$MAIN_PID" && [ "$PROC_START" = "$main_start" ] && [ "$PROC_STATE" != Z ] || MAIN_PID=0
    else
        MAIN_PID=0
    fi
}

listening_inodes() { # -> LISTENING: "port:inode " for each declared port that somebody listens on
    LISTENING=''
    [ -n "$LISTEN_PORTS" ] || return 0
    IFS=$NEWLINE
    # shellcheck disable=SC2013 # the separator is the line's end, and a pipe would lose LISTENING
    for socket in $(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null); do
        IFS=' '
        # shellcheck disable=SC2086
        set -- $socket
        [ "${4:-}" = 0A ] || continue
        case " $PORTS_HEX " in *":${2##*:} "*) ;; *) continue ;; esac
        port=" $PORTS_HEX" port=${port%%":${2##*:}"*}
        LISTENING="$LISTENING${port##* }:${10} "
    done
}

scan() { # -> RUNNING: lines "pid how path" of each process that runs a release of this root,
    #            OWNERS: lines "port pid" of each holder of a declared port
    RUNNING='' OWNERS=''
    listening_inodes
    IFS=$NEWLINE
    set +f
    # A name with a line break in it could pass for another line: -q shows such characters as "?".
    scanned=$(ls -lq /proc/[0-9]*/exe /proc/[0-9]*/fd 2>/dev/null)
    set -f
    scan_pid=''
    for line in $scanned; do
        # The first arrow is the listing's own; a name may hold others.
        case ${line#* -> } in
        /proc/*/fd:) scan_pid=${line#/proc/} scan_pid=${scan_pid%/fd:} ;;
        "$ROOT/releases/.incoming."*) ;; # an upload under way
        "$ROOT/releases/"*)
            link=${line%% -> *}
            case $link in
            */exe) exe_pid=${link##*/proc/} RUNNING="$RUNNING${exe_pid%/exe} exe ${line#* -> }$NEWLINE" ;;
            *)
                case ${line#* -> } in *"/$NAME" | *"/$NAME (deleted)") ;; *) continue ;; esac
                [ "$scan_pid" = $$ ] || RUNNING="$RUNNING$scan_pid fd/${link##* } ${line#* -> }$NEWLINE" ;;
            esac ;;
        "socket:["*)
            socket=${line##*socket:[} socket=${socket%]}
            case $LISTENING in *":$socket "*)
                port=${LISTENING%%":$socket "*} OWNERS="$OWNERS${port##* } $scan_pid$NEWLINE" ;;
            esac ;;
        esac
    done
    scan_command_lines
}

scan_command_lines() { # an interpreter that read the artifact and closed it is seen by its arguments
    set +f
    for file in /proc/[0-9]*/cmdline; do
        IFS= read -r arguments 2>/dev/null <"$file" || :
        case $arguments in *"$ROOT/current/$NAME"* | *"$ROOT/releases/"*"/$NAME"*) ;; *) continue ;; esac
        scan_pid=${file#/proc/} scan_pid=${scan_pid%/cmdline}
        case "$NEWLINE$RUNNING" in
        *"$NEWLINE$scan_pid "*) ;;
        *) [ "$scan_pid" = $$ ] || RUNNING="$RUNNING$scan_pid unseen -$NEWLINE" ;;
        esac
    done
    set -f
}

# --- the service ----------------------------------------------------------------------------

as_account() { # COMMAND...: with the service's rights, a clean environment, and a deadline
    if [ -n "$ACCOUNT" ]; then
        timeout -k 1 "$ASK_S" setpriv --reuid="$ACCOUNT" --regid="$ACCOUNT" --init-groups --no-new-privs \
            env -i PATH="$PATH" LANG=C "$@" </dev/null 8<&- 9<&-
    else
        timeout -k 1 "$ASK_S" env -i PATH="$PATH" LANG=C "$@" </dev/null 8<&- 9<&-
    fi
}

stop_service() {
    if [ "$SUPERVISOR" = systemd ]; then
        timeout -k 1 $((STOP_S + 15)) systemctl stop "$UNIT" 2>&1 || return 1
        systemctl reset-failed "$UNIT" 2>/dev/null || :
        return 0
    fi
    for signal in TERM KILL; do
        tries=$((STOP_S * 10))
        while [ $tries -gt 0 ]; do
            tries=$((tries - 1))
            scan
            left=''
            IFS=$NEWLINE
            # Whoever only names the artifact, such as a pager, is not the service.
            for running in $RUNNING; do
                case $running in *" unseen -") ;; *) left="$left${running%% *}$NEWLINE" ;; esac
            done
            [ -n "$left" ] || return 0
            if [ $((tries % 10)) -eq 9 ]; then
                for running in $left; do kill -s $signal "$running" 2>/dev/null || :; done
            fi
            sleep 0.1
        done
    done
    say 'a process does not end, even when killed'
    return 1
}

bounded() { # what an account's program prints, and no more; a child that it leaves behind is not waited for
    timeout -k 1 $((ASK_S + 2)) head -c 65536
}

restart_service() { # what comes of it is seen in the evidence, not believed here
    if [ "$SUPERVISOR" = process ]; then
        failed=$(stop_service) || refuse service "the old service can't be stopped: $failed"
        start_service
    elif ! failed=$(restart_unit); then
        # A unit that died too often waits to be told that this is known.
        systemctl reset-failed "$UNIT" 2>/dev/null
        failed=$(restart_unit) || say "start $(printf '%s' "$failed" | tr '\n' ' ')"
    fi
}

restart_unit() { timeout -k 1 $((STOP_S + READY_S + 15)) systemctl restart "$UNIT" 2>&1; }

start_service() { # without systemd
    rm -f "$STATE/pid"
    CUR=$ROOT/current
    # The inner shell writes down its own identity, and then becomes the service. Nothing of ours
    # stays open in it: neither the locks, nor the pipe that the caller waits on.
    # shellcheck disable=SC2016
    (
        exec </dev/null >>"$STATE/service/log" 2>&1 8<&- 9<&-
        run_start exec setsid sh -c '
        IFS= read -r line <"/proc/$$/stat"; line=${line##*) }; file=$1; shift
        echo "$$ $(IFS=" "; set -f; echo $line | cut -d" " -f20)" >"$file.new" && mv "$file.new" "$file" || exit 70
        exec env -i PATH="$PATH" LANG=C "$@"' sh "$STATE/pid"
    ) &
}

wait_ready() { # until the service owns its ports and its main process answers, or time is up
    ready_until=$(($(date +%s) + READY_S))
    ready_pause=0.04
    MAIN_PID=0 UNIT_STATE=''
    while [ "$(date +%s)" -lt "$ready_until" ]; do
        # Looked for first: it may be written while the state is read, and is no death then.
        if [ -f "$STATE/pid" ]; then began=yes; else began=no; fi
        if [ "$MAIN_PID" = 0 ] || ! stat_of "$MAIN_PID" || [ "$PROC_STATE" = Z ]; then unit_state; fi
        case $UNIT_STATE in *ActiveState=failed*) return ;; esac
        if [ "$SUPERVISOR" = process ] && [ "$MAIN_PID" = 0 ] && [ $began = yes ]; then return; fi
        ready=$MAIN_PID
        if [ "$ready" != 0 ]; then
            listening_inodes
            for port in $LISTEN_PORTS; do
                case " $LISTENING" in *" $port:"*) ;; *) ready=0 ;; esac
            done
        fi
        if [ "$ready" != 0 ]; then
            CUR=$ROOT/current
            if STATUS_ANSWER=$(run_status as_account 2>/dev/null | bounded); then
                case $STATUS_ANSWER in *'"pid": '"$MAIN_PID"[!0-9]* | *'"pid":'"$MAIN_PID"[!0-9]*) return ;; esac
            fi
            STATUS_ANSWER=''
        fi
        sleep $ready_pause
        ready_pause=0.1
    done
}

# --- evidence -------------------------------------------------------------------------------

probe() { # one round of this host; probes of one host never overlap, so that none sees another's children
    command exec 8<"$STATE/probe.lock" || refuse not-prepared "$STATE/probe.lock can't be opened"
    flock -w $((ASK_S * 4)) 8 || refuse busy 'another look at this host does not end'
    find_link
    unit_state
    scan
    find_unit_files
    find_files
    digest_of "$0"
    say "helper $DIGEST"
    slurp /etc/machine-id
    say "machine $SLURPED"
    slurp /proc/sys/kernel/random/boot_id
    say "boot $SLURPED"
    say "clock $(date +%s.%N)"
    say "root $ROOT"
    say "rights $(rights "$ROOT")$(rights "$ROOT/releases")$(rights "$STATE")"
    free_bytes
    say "free $FREE"
    IFS=' '
    for program in $requires; do
        command -v "$program" >/dev/null 2>&1 || say "lacks $program"
    done
    probe_marks
    probe_link
    probe_unit
    PHASE='say'
    each_config
    IFS=$NEWLINE
    for owner in $OWNERS; do say "owner $owner"; done
    probe_processes
    probe_status
    probe_again
    exec 8<&-
}

find_link() { # -> LINK, what current says, and whether that release is worth a long look
    LINK=none
    if [ -L "$ROOT/current" ]; then
        LINK=$(readlink "$ROOT/current")
    elif [ -e "$ROOT/current" ]; then
        LINK='not a link'
    fi
    # Whoever asks about one release has no use for the bytes and words of another.
    if [ "$ask" = target ] && [ "${LINK#releases/}" != "$release" ]; then QUICK=yes disk=skip; fi
}

find_unit_files() { # -> UNIT_FILES, one a line: wherever systemd.unit(5) would look for ours
    UNIT_FILES=''
    [ "$SUPERVISOR" = systemd ] || return 0
    set +f
    for folder in /etc/systemd/system.control /run/systemd/system.control /run/systemd/transient \
        /run/systemd/generator.early /etc/systemd/system /run/systemd/system /run/systemd/generator \
        /usr/local/lib/systemd/system /usr/lib/systemd/system /run/systemd/generator.late; do
        for file in "$folder/$UNIT" "$folder/$UNIT.d/"*.conf "$folder/service.d/"*.conf; do
            if [ -e "$file" ] || [ -L "$file" ]; then UNIT_FILES="$UNIT_FILES$file$NEWLINE"; fi
        done
    done
    set -f
}

find_files() { # asks about every file of the round at once: FACTS, DIGESTS
    set -- "$ROOT" "$ROOT/releases" "$STATE" "$ROOT/current/$NAME" "$ROOT/current/release.json"
    IFS=$NEWLINE
    for running in $RUNNING; do
        running_pid=${running%% *} running=${running#* }
        case $running in unseen*) ;; *) set -- "$@" "/proc/$running_pid/${running%% *}" "/proc/$running_pid/exe" ;; esac
    done
    facts "$@"
    DIGESTED="$0$NEWLINE$ROOT/current/release.json$NEWLINE$UNIT_FILES"
    PHASE='find'
    each_config
    RUN_INODES=' ' INTERPRETERS=' ' REMEMBERED=''
    if slurp "$STATE/interpreter"; then REMEMBERED=$SLURPED; fi
    for running in $RUNNING; do find_running "${running%% *}" "${running#* }"; done
    # shellcheck disable=SC2086 # one file a line
    digests $DIGESTED
}

find_running() { # PID "HOW PATH": each inode that runs is read once, by way of the process that runs it
    case $2 in unseen*) return ;; esac
    how=${2%% *}
    fact_of "/proc/$1/$how" || return 0
    inode=${FACT%%|*}
    case $QUICK$RUN_INODES in
    yes* | *" $inode="*) ;;
    *)
        RUN_INODES="$RUN_INODES$inode=/proc/$1/$how "
        DIGESTED="$DIGESTED/proc/$1/$how$NEWLINE" ;;
    esac
    [ "$how" != exe ] && fact_of "/proc/$1/exe" || return 0
    case $INTERPRETERS in *" $FACT="*) return ;; esac
    INTERPRETERS="$INTERPRETERS$FACT=/proc/$1/exe "
    case $REMEMBERED in "$FACT "*) ;; *) DIGESTED="$DIGESTED/proc/$1/exe$NEWLINE" ;; esac
}

rights() { # FOLDER: owner:group:mode and a blank
    if fact_of "$1"; then
        FACT=${FACT#*|*|}
        printf '%s ' "${FACT%%|*}"
    fi
}

free_bytes() { # -> FREE: what anybody may still write in the folder of releases
    FREE=$(stat -f -c '%a %S' "$ROOT/releases" 2>/dev/null) || FREE=''
    [ -z "$FREE" ] || FREE=$((${FREE% *} * ${FREE#* }))
}

probe_marks() {
    if slurp "$STATE/token"; then say "token $SLURPED"; fi
    for mark in lock verified rollout finished held previous deadman; do
        if slurp "$STATE/$mark"; then say "$mark $SLURPED"; fi
    done
    [ -n "$release" ] || return 0
    round_digests=$DIGESTS
    if [ -n "$manifest" ]; then
        held "$release"
        say "holds $release $HELD"
    else
        digest "$ROOT/releases/$release/release.json"
        manifest=$DIGEST
        held "$release"
        say "holds $release $HELD"
        [ -z "$manifest" ] || say "label $manifest $(head -c 65536 "$ROOT/releases/$release/release.json" | base64 -w0)"
    fi
    DIGESTS=$round_digests
}

held() { # SHA-256 of an artifact -> HELD: absent, damaged, unlabelled (another manifest), or intact
    HELD=absent
    [ -e "$ROOT/releases/$1" ] || return 0
    digests "$ROOT/releases/$1/$NAME" "$ROOT/releases/$1/release.json"
    digest_of "$ROOT/releases/$1/$NAME"
    HELD=damaged
    [ "$DIGEST" = "$1" ] || return 0
    digest_of "$ROOT/releases/$1/release.json"
    HELD=unlabelled
    [ "$DIGEST" != "$manifest" ] || HELD=intact
}

probe_link() {
    say "current $LINK"
    probe_file=$ROOT/current/$NAME
    if [ -f "$probe_file" ] && fact_of "$probe_file"; then
        IFS='|'
        # shellcheck disable=SC2086 # the facts are split on purpose
        set -- $FACT
        IFS=$NEWLINE
        say "file $1 $2 $3 $4 $5"
        if [ "$disk" != skip ]; then
            disk_digest "$probe_file"
            say "disk $DISK"
        fi
    fi
    digest_of "$ROOT/current/release.json"
    if [ -n "$DIGEST" ]; then
        fact_of "$ROOT/current/release.json"
        FACT=${FACT#*|}
        # A manifest is small (docs/contract.md); what isn't small is not one.
        if [ "${FACT%%|*}" -le 65536 ]; then
            say "manifest $DIGEST $(base64 -w0 "$ROOT/current/release.json")"
        else
            say "manifest $DIGEST"
        fi
    fi
}

probe_unit() {
    say "main $MAIN_PID"
    [ "$SUPERVISOR" = systemd ] || return 0
    IFS=$NEWLINE
    for property in $UNIT_STATE; do say "unit $property"; done
    for file in $UNIT_FILES; do
        digest_of "$file"
        say "unitfile ${DIGEST:-unreadable} $file"
    done
}

config_file() { # PATH: found in one phase of a round, told in another
    if [ "$PHASE" = find ]; then
        DIGESTED="$DIGESTED$1$NEWLINE"
        return
    fi
    digest_of "$1"
    if [ ! -e "$1" ]; then DIGEST=missing; fi
    say "config ${DIGEST:-unreadable} $1"
}

probe_processes() { # every process of the service, and every other one that runs a release of this root
    SEEN=''
    IFS=$NEWLINE
    for running in $RUNNING; do
        running_pid=${running%% *} running=${running#* }
        how=${running%% *} path=${running#* }
        probe_process "$running_pid"
        if [ "$how" = unseen ]; then
            # One that is gone by now was a passer-by, such as a client that somebody ran.
            [ ! -d "/proc/$running_pid" ] || say "unseen $running_pid"
            continue
        fi
        fact_of "/proc/$running_pid/$how" || continue
        inode=${FACT%%|*} DIGEST=unread
        if [ $QUICK = no ]; then
            what=${RUN_INODES#*" $inode="}
            digest_of "${what%% *}"
        fi
        say "runs $running_pid ${how%%/*} $inode ${DIGEST:-unreadable} $path"
        [ "$how" = exe ] || probe_interpreter "$running_pid"
    done
    service_group
    IFS=' '
    for member in $SLURPED; do probe_process "$member" group; done
}

probe_process() { # PID [group]: once for each, with the start time that tells it from a later one
    case " $SEEN " in *" $1${2:-} "*) return ;; esac
    SEEN="$SEEN $1${2:-}"
    [ -z "${2:-}" ] || say "group $1"
    case " $SEEN " in *" $1= "*) return ;; esac
    SEEN="$SEEN $1="
    if stat_of "$1"; then
        shown=$(tr '\0\n' '  ' <"/proc/$1/cmdline" 2>/dev/null)
        printf 'process %s %s %s %s %.200s\n' "$1" "$PROC_PARENT" "$PROC_START" "$PROC_STATE" "$shown"
    fi
    IFS=$NEWLINE
}

probe_interpreter() { # PID; its digest is remembered as long as its inode says that nobody wrote to it
    fact_of "/proc/$1/exe" || return 0
    case $INTERPRETERS in *" $FACT="*) ;; *) return ;; esac
    told=${INTERPRETERS#*" $FACT="}
    INTERPRETERS="${INTERPRETERS%%" $FACT="*} ${told#* }" # each is told once
    case $REMEMBERED in
    "$FACT "*) DIGEST=${REMEMBERED#* } ;;
    *)
        digest_of "/proc/$1/exe"
        [ -z "$DIGEST" ] || put "$STATE/interpreter" "$FACT $DIGEST" 2>/dev/null ;;
    esac
    say "interpreter ${DIGEST:-unreadable} $(readlink "/proc/$1/exe" | tr -c '[:print:]' '?')"
}

probe_status() { # what the running process says of itself
    [ "$MAIN_PID" != 0 ] && [ $QUICK = no ] || return 0
    CUR=$ROOT/current
    if [ -n "$STATUS_ANSWER" ]; then
        say "status $(printf '%s' "$STATUS_ANSWER" | base64 -w0)"
    else
        say "status $(run_status as_account 2>&1 | bounded | base64 -w0)"
    fi
}

probe_again() { # a process that ended meanwhile, or whose number now belongs to another, is told apart
    IFS=' '
    for member in $SEEN; do
        case $member in *=) ;; *) continue ;; esac
        if stat_of "${member%=}"; then say "still ${member%=} $PROC_START"; fi
    done
}

# --- lock and token -------------------------------------------------------------------------

mutex() { # one changing verb at a time: lock, token check and effect are one step
    command exec 9<"$STATE/mutex" || refuse not-prepared "$STATE/mutex can't be opened"
    flock -w 10 9 || refuse busy 'another change on this host is under way'
}

lock_value() { # KEY -> its value in the lock file
    while IFS=' ' read -r lock_key lock_rest; do
        [ "$lock_key" != "$1" ] || { printf '%s' "$lock_rest"; return; }
    done <"$STATE/lock"
}

current_token() { cat "$STATE/token" 2>/dev/null || say 0; }

check_token() {
    needs token
    if [ ! -f "$STATE/lock" ]; then
        # The last token that was given out tells a lost answer from a lock that another gave back.
        [ "$(current_token)" != "$token" ] || refuse unlocked "the lock of token $token was given back"
        refuse stale-token "nobody holds the lock of this host; token $token is not valid"
    fi
    [ "$(lock_value token)" = "$token" ] ||
        refuse stale-token "the lock is held by $(lock_value holder) with token $(lock_value token), not $token"
}

linked() { # -> the release that current names, or none
    linked_to=$(readlink "$ROOT/current") || linked_to=none
    printf '%s' "${linked_to#releases/}"
}

write_mark() { # PHASE: how far the rollout has come on this host, for whoever finds it
    put "$STATE/rollout" "plan $mark_plan
target $mark_target
before $mark_before
phase $1
since $(date +%s)" || refuse cannot-write "$STATE/rollout can't be written"
}

read_mark() { # -> mark_plan mark_target mark_before; fails where there is no mark
    [ -f "$STATE/rollout" ] || return 1
    while IFS=' ' read -r mark_key mark_rest; do
        case $mark_key in
        plan) mark_plan=$mark_rest ;;
        target) mark_target=$mark_rest ;;
        before) mark_before=$mark_rest ;;
        esac
    done <"$STATE/rollout"
}

take_lock() { # a token that nobody ever had, and the lock in the name of whoever asked
    fresh=$(($(current_token) + 1)) || refuse damaged "$STATE/token is not a number"
    put "$STATE/token" "$fresh" || refuse cannot-write "$STATE/token can't be written"
    put "$STATE/lock" "token $fresh
holder $holder
purpose $purpose
plan $plan
since $(date +%s)" || refuse cannot-write "$STATE/lock can't be written"
}

begin_mark() { # what an interrupted rollout wrote down stays: it says what this host had before it
    read_mark && return
    [ "$purpose" != retire ] || return 0 # it is no rollout: nothing is to be finished or undone
    mark_plan=$plan mark_target=$release mark_before=$(linked)
    (write_mark locked >/dev/null) && return
    # Whoever is refused has no lock: one without a mark would tell nobody what to go back to.
    rm -f "$STATE/lock" 2>/dev/null || refuse lock-left "$STATE/rollout can't be written, and $STATE/lock not removed"
    refuse cannot-write "$STATE/rollout can't be written"
}

say_locked() { # the token, and what a plan was bound to, seen under the lock
    say "token $(lock_value token)"
    say "current $(readlink "$ROOT/current" || echo none)"
    [ ! -f "$STATE/verified" ] || say "verified $(tr '\n' ' ' <"$STATE/verified")"
}

verb_takeover() { # explicit: it names the token of the lock that is taken away
    needs holder purpose plan token release
    mutex
    if [ -f "$STATE/lock" ] && [ "$(lock_value plan)" != "$plan" ]; then check_token; fi
    if [ ! -f "$STATE/lock" ] || [ "$(lock_value plan)" != "$plan" ]; then take_lock; fi
    begin_mark
    say_locked
}

verb_renew() { # a later token for a lock that is held: only its holder can, and what it sent before is refused
    needs holder purpose plan token
    mutex
    check_token
    take_lock
    say_locked
}

verb_lock() {
    needs holder purpose plan release
    mutex
    if [ -f "$STATE/lock" ] && [ "$(lock_value plan)" != "$plan" ]; then
        refuse locked "$(lock_value holder) holds the lock for $(lock_value purpose), plan $(lock_value plan), since $(lock_value since)"
    fi
    [ -f "$STATE/lock" ] || take_lock
    begin_mark # also where the lock was taken before, and the disk had no room for the mark then
    say_locked
}

verb_unlock() { # keep: how many releases stay on this host
    needs keep
    mutex
    check_token
    if read_mark; then
        # For whoever finds the same rollout unfinished on another host.
        put "$STATE/finished" "plan $mark_plan
target $mark_target
before $mark_before" || refuse cannot-write "$STATE/finished can't be written"
        if [ "$mark_before" != "$(linked)" ]; then
            put "$STATE/previous" "$mark_before" || refuse cannot-write "$STATE/previous can't be written"
        fi
    fi
    prune
    # The lock goes last: a lock without a mark would tell nobody what to do.
    rm -f "$STATE/held" || refuse cannot-write "$STATE/held can't be removed"
    rm -f "$STATE/rollout" || refuse cannot-write "$STATE/rollout can't be removed"
    rm -f "$STATE/lock" || refuse cannot-write "$STATE/lock can't be removed"
    sync "$STATE"
}

prune() { # the newest stay, and always the active one and the one before
    kept=0
    active=$(linked)
    previous=$(cat "$STATE/previous" 2>/dev/null)
    set +f
    rm -rf "$ROOT/releases/.incoming."* "$ROOT/releases/.damaged."*
    set -f
    IFS=$NEWLINE
    # shellcheck disable=SC2045 # by age, and every name that is no digest is passed over
    for old in $(ls -t "$ROOT/releases"); do
        is_digest "$old" || continue
        kept=$((kept + 1))
        if [ $kept -gt "$keep" ] && [ "$old" != "$active" ] && [ "$old" != "$previous" ]; then
            # Away in one step, so that nobody finds half a release.
            mv -T "$ROOT/releases/$old" "$ROOT/releases/.incoming.$old" && rm -rf "$ROOT/releases/.incoming.$old"
            say "pruned $old"
        fi
    done
}

verb_hold() { # the fleet is not what it should be: said here, for whoever looks from anywhere
    needs verdict next holder plan
    mutex
    check_token
    put "$STATE/held" "verdict $verdict
holder $holder
plan $plan
next $next
since $(date +%s)" || refuse cannot-write "$STATE/held can't be written"
}

# --- dead-man -------------------------------------------------------------------------------

arm_deadman() { # seconds: without a confirmation by then, this host stops serving
    rm -f "$STATE/expired"
    if [ "$seconds" = 0 ]; then
        rm -f "$STATE/deadman"
        return
    fi
    slurp /proc/sys/kernel/random/boot_id
    put "$STATE/deadman" "$SLURPED
$token
$seconds" || refuse cannot-write "$STATE/deadman can't be written"
    # shellcheck disable=SC2016 # expanded by the shell that the timer starts
    if [ "$SUPERVISOR" = systemd ]; then
        systemctl stop "deploytool-deadman-$NAME.timer" 2>/dev/null
        systemd-run --quiet --collect --unit="deploytool-deadman-$NAME" --on-active="${seconds}s" \
            --timer-property=AccuracySec=100ms \
            sh -c 'printf "%s 0 expire\ntoken %s\n.\n" "$1" "$2" | "$3"' sh "$FORMAT" "$token" "$HELPER" 2>&1 ||
            refuse deadman 'the timer can not be set'
    else
        (
            exec </dev/null >/dev/null 2>&1 8<&- 9<&-
            exec setsid sh -c 'sleep "$4"; printf "%s 0 expire\ntoken %s\n.\n" "$1" "$2" | "$3"' \
                sh "$FORMAT" "$token" "$HELPER" "$seconds"
        ) &
    fi
}

verb_expire() { # called by the host's own timer; the mutex decides between it and a confirmation
    needs token
    # It has one chance, so it waits for whatever change is under way; each of those has its deadline.
    command exec 9<"$STATE/mutex" || refuse not-prepared "$STATE/mutex can't be opened"
    flock -w 7200 9 || refuse busy 'another change on this host does not end'
    [ -f "$STATE/deadman" ] || return
    IFS=$NEWLINE
    # shellcheck disable=SC2046
    set -- $(cat "$STATE/deadman")
    [ "${2:-}" = "$token" ] || return
    put "$STATE/expired" "token $token
since $(date +%s)"
    fence
}

fence() { # first so that nothing revives it, then every process of it
    if [ "$SUPERVISOR" = systemd ]; then
        systemctl mask --quiet "$UNIT"
        systemctl kill --signal=KILL "$UNIT" 2>/dev/null
    fi
    stop_service >/dev/null
}

unfence() {
    [ "$SUPERVISOR" = systemd ] || return 0
    # A mask is a link to /dev/null (systemctl(1)).
    if [ -c "/etc/systemd/system/$UNIT" ]; then systemctl unmask --quiet "$UNIT"; fi
}

# --- changing what runs ---------------------------------------------------------------------

verb_stage() { # payload: the manifest's bytes, then the artifact's
    needs release size manifest manifest_size seconds
    mutex
    check_token
    held "$release"
    found=$HELD
    case $found in intact | unlabelled)
        relabel
        head -c "$size" >/dev/null
        say "staged $found"
        return ;;
    esac
    free_bytes
    available=${FREE:-0}
    [ "$available" -gt $((size + manifest_size + 1048576)) ] ||
        refuse no-space "$available bytes are free in $ROOT/releases, $((size + manifest_size)) are needed"
    incoming=$ROOT/releases/.incoming.$release
    { rm -rf "$incoming" && mkdir -m 0755 "$incoming"; } 2>/dev/null ||
        refuse cannot-write "$ROOT/releases can't be written"
    receive "$manifest_size" "$incoming/release.json"
    receive "$size" "$incoming/$NAME"
    digest "$incoming/release.json"
    [ "$DIGEST" = "$manifest" ] || discard bad-copy 'the manifest arrived altered'
    disk_digest "$incoming/$NAME"
    [ "${DISK%% *}" = "$release" ] || discard bad-copy "read back from disk, the copy is ${DISK%% *}"
    { chmod 0444 "$incoming/release.json" && chmod 0555 "$incoming/$NAME"; } || discard cannot-write 'modes can not be set'
    CUR=$incoming
    said=$(run_version as_account 2>&1 | bounded)
    said=${said%%"$NEWLINE"*}
    [ "$said" = "$(manifest_version_line)" ] || discard bad-version "it says it is '$said', the manifest says '$(manifest_version_line)'"
    if [ -e "$ROOT/releases/$release" ]; then
        rm -rf "$ROOT/releases/.damaged.$release"
        mv -T "$ROOT/releases/$release" "$ROOT/releases/.damaged.$release" || discard cannot-write 'a damaged copy can not be moved away'
    fi
    { mv -T "$incoming" "$ROOT/releases/$release" && sync "$ROOT/releases"; } || discard cannot-write "$ROOT/releases can't be written"
    say "staged ${DISK#* }"
}

relabel() { # the manifest's bytes replace the one that is there only when they are what was announced
    label=$STATE/label
    { head -c "$manifest_size" >"$label" && chmod 0444 "$label"; } || refuse cannot-write "$label can't be written"
    digest "$label"
    [ "$DIGEST" = "$manifest" ] || { rm -f "$label"; refuse bad-copy 'the manifest arrived altered'; }
    { sync "$label" && mv -T "$label" "$ROOT/releases/$release/release.json" && sync "$ROOT/releases/$release"; } ||
        refuse cannot-write "$ROOT/releases/$release/release.json can't be written"
}

receive() { # BYTES FILE: exactly so many, within the deadline, on disk
    receive_error=$(timeout -k 1 "$seconds" dd of="$2" bs=1M count="$1" iflag=fullblock,count_bytes conv=fsync status=none 2>&1 >/dev/null)
    case $? in
    0) ;;
    124 | 137) discard slow-copy "not all of $1 bytes arrived within $seconds s" ;;
    153) discard cannot-write "files here may not grow to $1 bytes (RLIMIT_FSIZE)" ;;
    *) discard cannot-write "the copy can't be written: $receive_error" ;;
    esac
    [ "$(stat -c %s "$2")" = "$1" ] || discard short-copy "$(stat -c %s "$2") of $1 bytes arrived"
}

discard() { # CODE TEXT: what was uploaded goes away again
    rm -rf "$ROOT/releases/.incoming.$release" 2>/dev/null
    refuse "$@"
}

manifest_version_line() { # the manifest is canonical JSON, and its version_line has no quote or backslash
    IFS= read -r manifest_text <"$CUR/release.json"
    manifest_text=${manifest_text##*\"version_line\":\"}
    printf '%s' "${manifest_text%%\"*}"
}

verb_activate() { # release none: nothing is to run
    needs release seconds
    mutex
    check_token
    if read_mark; then write_mark activating; fi
    unfence
    if [ "$release" = none ]; then
        rm -f "$STATE/deadman"
        rm -f "$STATE/verified"
        failed=$(stop_service) || refuse service "the service can't be stopped: $failed"
        { rm -f "$ROOT/current" && sync "$ROOT"; } || refuse cannot-write "$ROOT/current can't be removed"
    else
        [ -f "$ROOT/releases/$release/$NAME" ] || refuse not-staged "$release is not on this host"
        rm -f "$STATE/verified"
        arm_deadman
        { ln -sfn "releases/$release" "$ROOT/.current.new" && mv -T "$ROOT/.current.new" "$ROOT/current" && sync "$ROOT"; } ||
            refuse cannot-write "$ROOT/current can't be switched"
        restart_service
        wait_ready
    fi
    probe
}

verb_retire() { # this host serves no more, and a reboot does not change that
    mutex
    check_token
    rm -f "$STATE/verified" "$STATE/deadman"
    if [ "$SUPERVISOR" = systemd ]; then systemctl mask --quiet "$UNIT" || refuse service 'the unit can not be masked'; fi
    failed=$(stop_service) || refuse service "the service can't be stopped: $failed"
    { rm -f "$ROOT/current" && sync "$ROOT"; } || refuse cannot-write "$ROOT/current can't be removed"
    scan
    [ -z "$RUNNING" ] || refuse service 'a process still runs a release here'
}

verb_confirm() { # the deployer has seen this very process run the release
    needs release pid start boot
    mutex
    check_token
    unit_state
    slurp /proc/sys/kernel/random/boot_id
    { [ "$MAIN_PID" = "$pid" ] && stat_of "$pid" && [ "$PROC_START" = "$start" ] && [ "$SLURPED" = "$boot" ] &&
        [ "$(readlink "$ROOT/current")" = "releases/$release" ]; } ||
        refuse moved-on 'what was verified is not what runs now'
    [ ! -f "$STATE/expired" ] || refuse expired 'no confirmation came in time, and this host stopped serving'
    rm -f "$STATE/deadman"
    if [ "$SUPERVISOR" = systemd ]; then systemctl stop "deploytool-deadman-$NAME.timer" 2>/dev/null; fi
    if read_mark; then write_mark confirmed; fi
    put "$STATE/verified" "release $release
pid $pid
start $start
boot $boot
token $token
since $(date +%s)" || refuse cannot-write "$STATE/verified can't be written"
}

# --------------------------------------------------------------------------------------------

serve() { # one request, in a process of its own: what it opened and set ends with it
    read_request
    [ -z "$LACKING" ] || refuse lacks-program "$LACKING is not on this host"
    command cd -P "$ROOT" 2>/dev/null || refuse not-prepared "the release root is missing"
    ROOT=$PWD
    command cd / || refuse not-prepared 'there is no root folder'
    STATE=$ROOT/state
    { [ -d "$STATE" ] && [ -d "$ROOT/releases" ]; } || refuse not-prepared "$ROOT lacks its folders"
    case $VERB in
    probe) probe ;;
    lock) verb_lock ;;
    takeover) verb_takeover ;;
    renew) verb_renew ;;
    unlock) verb_unlock ;;
    stage) verb_stage ;;
    activate) verb_activate ;;
    confirm) verb_confirm ;;
    hold) verb_hold ;;
    expire) verb_expire ;;
    retire) verb_retire ;;
    *) refuse bad-request 'unknown verb' ;;
    esac
    finish ok
}

main() {
    [ $# -eq 0 ] || exit 64
    LACKING=''
    for program in sha256sum stat dd readlink flock timeout setpriv sync mv head tr base64; do
        command -v "$program" >/dev/null 2>&1 || LACKING=$program
    done
    served=0
    while [ $served -lt 10000 ] && IFS=' ' read -r format nonce VERB; do
        served=$((served + 1))
        # After a refusal nobody knows how much of a payload was left unread.
        (serve) || exit 0
    done
}

main "$@"
