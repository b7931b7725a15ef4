# --- evidence -------------------------------------------------------------------------------

probe() { # one round of this host; probes of one host never overlap, so that none sees another's children
    command exec 8<"$STATE/probe.lock" || refuse not-prepared "$STATE/probe.lock can't be opened"
    flock -w $((ASK_S * 4)) 8 || refuse busy 'another look at this host does not end'
    find_link
    # Whoever asks about one release has no use for the bytes and words of another.
    if [ "$ask" = target ] && [ "${LINK#releases/}" != "$release" ]; then QUICK=yes disk=skip; fi
    [ -n "$UNIT_STATE" ] || unit_state
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
    rights "$ROOT" "$ROOT/releases" "$STATE"
    say "rights $RIGHTS"
    free_bytes
    say "free $FREE"
    IFS=' '
    for program in $requires; do
        command -v "$program" >/dev/null 2>&1 || say "lacks $program"
    done
    probe_signers
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

NOT_A_LINK='not a link'

find_link() { # -> LINK, what current says
    LINK=none
    if [ -L "$ROOT/current" ]; then
        LINK=$(readlink "$ROOT/current") || LINK=none
    elif [ -e "$ROOT/current" ]; then
        LINK=$NOT_A_LINK
    fi
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
    DIGESTED="$0$NEWLINE$ROOT/current/release.json$NEWLINE$UNIT_FILES"
    if [ -n "$SIGNERS" ]; then
        set -- "$@" "$SIGNERS" "${SIGNERS%/*}"
        DIGESTED="$DIGESTED$SIGNERS$NEWLINE"
    fi
    facts "$@"
    PHASE='find'
    each_config
    RUN_INODES=' ' INTERPRETERS=' ' REMEMBERED=''
    if slurp "$STATE/interpreter"; then REMEMBERED=$SLURPED; fi
    FILE_INODE='' MAIN_FILE='' KNOWN=''
    if [ "$disk" != skip ] && [ -f "$ROOT/current/$NAME" ] && fact_of "$ROOT/current/$NAME"; then FILE_INODE=${FACT%%|*}; fi
    read_back
    # The main process first: it is the one that won't be gone in a moment.
    for running in $RUNNING; do case $running in "$MAIN_PID "*) find_running "$MAIN_PID" "${running#* }" ;; esac done
    for running in $RUNNING; do find_running "${running%% *}" "${running#* }"; done
    # shellcheck disable=SC2086 # one file a line
    digests $DIGESTED
    DIGESTS=$DIGESTS$KNOWN
    find_disk
}

read_back() { # -> READ_BACK: "facts digest" of what was staged here, where it is what has just been activated
    # The copy was read from the disk when it was staged. As long as its inode says that nobody
    # wrote to it, a wave doesn't wait for another reading: the round that proves parity reads it.
    READ_BACK=''
    [ "$VERB" = activate ] && slurp "$STATE/staged" || return 0
    staged=$SLURPED
    slurp /proc/sys/kernel/random/boot_id
    case $staged in "$SLURPED "*) READ_BACK=${staged#* } ;; esac
}

find_disk() { # -> FILE_DISK, what the file that current leads to is on the disk
    FILE_DISK='' DISK=''
    [ -n "$FILE_INODE" ] || return 0
    if [ -n "$MAIN_FILE" ]; then
        disk_digest "$MAIN_FILE"
        DIGESTS="$DIGESTS${DISK% *}  $MAIN_FILE$NEWLINE"
    fi
    # It may have ended meanwhile; the file is there all the same.
    case $DISK in '' | unreadable*) disk_digest "$ROOT/current/$NAME" ;; esac
    FILE_DISK=$DISK
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
        case "$1 $inode $READ_BACK" in
        # What runs is the very file that current leads to: one reading, past the page cache, is of both.
        "$MAIN_PID $FILE_INODE "*) MAIN_FILE=/proc/$1/$how ;;
        "$1 $inode $FACT "*) KNOWN="$KNOWN${READ_BACK#* }  /proc/$1/$how$NEWLINE" ;;
        *) DIGESTED="$DIGESTED/proc/$1/$how$NEWLINE" ;;
        esac ;;
    esac
    [ "$how" != exe ] && fact_of "/proc/$1/exe" || return 0
    case $INTERPRETERS in *" $FACT="*) return ;; esac
    INTERPRETERS="$INTERPRETERS$FACT=/proc/$1/exe "
    case $REMEMBERED in "$FACT "*) ;; *) DIGESTED="$DIGESTED/proc/$1/exe$NEWLINE" ;; esac
}

rights() { # FILE... -> RIGHTS: owner:group:mode and a blank for each that is there
    RIGHTS=''
    for right in "$@"; do
        fact_of "$right" || continue
        FACT=${FACT#*|*|}
        RIGHTS="$RIGHTS${FACT%%|*} "
    done
}

probe_signers() { # whose certificates this host believes: the file, and who may write there
    [ -n "$SIGNERS" ] || return 0
    digest_of "$SIGNERS"
    if [ ! -e "$SIGNERS" ]; then DIGEST=missing; fi
    rights "$SIGNERS" "${SIGNERS%/*}"
    say "signers ${DIGEST:-unreadable} $RIGHTS"
}

free_bytes() { # -> FREE: what anybody may still write in the folder of releases
    FREE=$(stat -f -c '%a %S' "$ROOT/releases" 2>/dev/null) || FREE=''
    [ -z "$FREE" ] || FREE=$((${FREE% *} * ${FREE#* }))
}

probe_marks() {
    if slurp "$STATE/token"; then say "token $SLURPED"; fi
    for mark in lock verified rollout finished held previous meant deadman; do
        if slurp "$STATE/$mark"; then say "$mark $SLURPED"; fi
    done
    verb_latch
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
    # Whole is what a reboot would find too: such a copy is neither sent again nor gone back to unread.
    disk_digest "$ROOT/releases/$1/$NAME"
    [ "${DISK%% *}" = "$1" ] || return 0
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
        [ -z "$FILE_DISK" ] || say "disk $FILE_DISK"
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
    else
        say "process $1 0 0 X ended since the scan" # only then can root not read it
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
    exe_of "$1"
    say "interpreter ${DIGEST:-unreadable} $EXE"
}

probe_status() { # what the running process says of itself, also one that the supervisor has lost sight of
    [ "$MAIN_PID$RUNNING" != 0 ] && [ $QUICK = no ] && [ "$ask" != never ] || return 0
    client_folder
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

