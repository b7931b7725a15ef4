# --- dead-man -------------------------------------------------------------------------------

arm_deadman() { # seconds: without a confirmation by then, this host stops serving
    gone "$STATE/expired"
    if [ "$seconds" = 0 ]; then
        gone "$STATE/deadman"
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
    now
    put "$STATE/expired" "token $token
since $NOW"
    fence
}

fence() { # first so that nothing revives it, then every process of it
    if [ "$SUPERVISOR" = systemd ]; then
        systemctl mask --quiet "$UNIT"
        systemctl kill --signal=KILL "$UNIT" 2>/dev/null
    fi
    stop_service >/dev/null
}

unfence() { # what a stop fenced stays so until it is started again (72_stop.sh)
    [ "$SUPERVISOR" = systemd ] && [ ! -e "$STATE/fenced" ] || return 0
    # A mask is a link to /dev/null (systemctl(1)).
    if [ -c "/etc/systemd/system/$UNIT" ]; then systemctl unmask --quiet "$UNIT"; fi
}

