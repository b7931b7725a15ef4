# --- changing what runs ---------------------------------------------------------------------

verb_activate() { # release none: nothing is to run
    needs release seconds
    mutex
    check_token
    check_latch
    if read_mark; then write_mark activating; fi
    unfence
    # Whoever fenced this host meanwhile wrote that down first, and the mask may just have gone.
    if [ "$SUPERVISOR" = systemd ] && [ -e "$STATE/fenced" ]; then mask_unit; fi
    check_latch
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

