# --- the service ----------------------------------------------------------------------------

as_account() { from_account "$@" </dev/null; } # COMMAND...: nothing to read for it

from_account() { # COMMAND...: with the service's rights, a clean environment, and a deadline
    if [ -n "$ACCOUNT" ]; then
        timeout -k 1 "$ASK_S" setpriv --reuid="$ACCOUNT" --regid="$ACCOUNT" --init-groups --no-new-privs \
            env -i PATH="$PATH" LANG=C "$@" 8<&- 9<&-
    else
        timeout -k 1 "$ASK_S" env -i PATH="$PATH" LANG=C "$@" 8<&- 9<&-
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
        # After that line: whoever fences this host either finds this process there, or is seen here.
        [ ! -e "${file%/*}/fenced" ] || exit 70
        exec env -i PATH="$PATH" LANG=C "$@"' sh "$STATE/pid"
    ) &
}

wait_ready() { # until the service owns its ports and its main process answers, or time is up
    time_up
    ready_until=$((UP + READY_S)) ready_tries=0
    MAIN_PID=0 UNIT_STATE=''
    while [ "$UP" -lt "$ready_until" ]; do
        # Looked for first: it may be written while the state is read, and is no death then.
        if [ -f "$STATE/pid" ]; then began=yes; else began=no; fi
        if [ "$MAIN_PID" = 0 ] || ! stat_of "$MAIN_PID" || [ "$PROC_STATE" = Z ]; then unit_state; fi
        case $UNIT_STATE in *ActiveState=failed*) break ;; esac
        if [ "$SUPERVISOR" = process ] && [ "$MAIN_PID" = 0 ] && [ $began = yes ]; then break; fi
        if worth_asking && answers; then
            # What systemd said of this very process before it spoke is evidence still.
            case $UNIT_STATE in *ActiveState=active*) case $UNIT_STATE in *SubState=running*) return ;; esac ;; esac
            break
        fi
        sleep 0.05
        time_up
    done
    UNIT_STATE=''
}

client_folder() { # -> CUR, where what asks the main process lies: where the link leads nowhere, beside that process
    CUR=$ROOT/current
    [ ! -e "$CUR/$NAME" ] || return 0
    IFS=$NEWLINE
    for line in $RUNNING; do
        case $line in "$MAIN_PID "*" $ROOT/releases/"*"/$NAME") CUR=${line##* } CUR=${CUR%/*}; return 0 ;; esac
    done
}

worth_asking() { # a process that computes is still on its way: it is not asked each time, only now and then
    [ "$MAIN_PID" != 0 ] || return 1
    ready_tries=$((ready_tries + 1))
    { stat_of "$MAIN_PID" && [ "$PROC_STATE" = S ]; } || [ $((ready_tries % 8)) -eq 0 ]
}

answers() { # -> STATUS_ANSWER, where the main process owns its ports and speaks for itself
    listening_inodes
    for port in $LISTEN_PORTS; do
        case " $LISTENING" in *" $port:"*) ;; *) return 1 ;; esac
    done
    CUR=$ROOT/current
    if STATUS_ANSWER=$(run_status as_account 2>/dev/null | bounded); then
        case $STATUS_ANSWER in *'"pid": '"$MAIN_PID"[!0-9]* | *'"pid":'"$MAIN_PID"[!0-9]*) return ;; esac
    fi
    STATUS_ANSWER=''
    return 1
}

