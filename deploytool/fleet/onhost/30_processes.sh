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

exe_of() { # PID -> EXE: what it runs, as the scan saw it
    EXE=''
    IFS=$NEWLINE
    for line in $scanned; do
        case ${line%% -> *} in *" /proc/$1/exe") EXE=${line#* -> }; return ;; esac
    done
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

