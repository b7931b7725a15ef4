# --- changing what runs ---------------------------------------------------------------------

verb_activate() { # release none: nothing is to run
    needs release seconds
    mutex
    check_token
    check_latch
    if read_mark; then write_mark activating; fi
    keep_meaning
    unfence
    # Whoever fenced this host meanwhile wrote that down first, and the mask may just have gone.
    if [ "$SUPERVISOR" = systemd ] && [ -e "$STATE/fenced" ]; then mask_unit; fi
    check_latch
    if [ "$release" = none ]; then
        gone "$STATE/deadman" "$STATE/verified"
        failed=$(stop_service) || refuse service "the service can't be stopped: $failed"
        { gone "$ROOT/current" && sync "$ROOT"; } || refuse cannot-write "$ROOT/current can't be removed"
    else
        [ -f "$ROOT/releases/$release/$NAME" ] || refuse not-staged "$release is not on this host"
        gone "$STATE/verified"
        arm_deadman
        { ln -sfn "releases/$release" "$ROOT/.current.new" && mv -T "$ROOT/.current.new" "$ROOT/current" && sync "$ROOT"; } ||
            refuse cannot-write "$ROOT/current can't be switched"
        restart_service
        wait_ready
    fi
    release='' # it has just been switched to: whether the host holds it besides is no question
    probe
}

verb_retire() { # this host serves no more, and a reboot does not change that
    mutex
    check_token
    release=none
    keep_meaning
    rm -f "$STATE/verified" "$STATE/deadman" "$STATE/expired"
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
    slurp /proc/sys/kernel/random/boot_id
    linked
    # As long as the process that was the main one has not ended, no other can be.
    { stat_of "$pid" && [ "$PROC_START" = "$start" ] && [ "$PROC_STATE" != Z ] && [ "$SLURPED" = "$boot" ] &&
        [ "$LINKED" = "$release" ]; } ||
        refuse moved-on 'what was verified is not what runs now'
    [ ! -f "$STATE/expired" ] || refuse expired 'no confirmation came in time, and this host stopped serving'
    if [ -f "$STATE/deadman" ]; then
        gone "$STATE/deadman" || refuse cannot-write "$STATE/deadman can't be removed"
        if [ "$SUPERVISOR" = systemd ]; then systemctl stop "deploytool-deadman-$NAME.timer" 2>/dev/null; fi
    fi
    now
    verified="release $release
pid $pid
start $start
boot $boot
token $token
since $NOW"
    if read_mark; then
        mark_text confirmed
        put_both "$STATE/rollout" "$MARK" "$STATE/verified" "$verified"
    else
        put "$STATE/verified" "$verified"
    fi || refuse cannot-write "$STATE/rollout or $STATE/verified can't be written"
}

