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

