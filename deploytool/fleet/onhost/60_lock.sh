# --- lock and token -------------------------------------------------------------------------

mutex() { # one changing verb at a time: lock, token check and effect are one step
    command exec 9<"$STATE/mutex" || refuse not-prepared "$STATE/mutex can't be opened"
    flock -w 10 9 || refuse busy 'another change on this host is under way'
}

release_mutex() { exec 9<&-; }

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
    mark_plan=$plan mark_target=$release mark_before=$(linked) mark_phase=locked
    if [ -n "$before" ] && [ "$before" != "$mark_before" ]; then
        # Its own mark went when this very rollout was finished here; whoever undoes it knows more.
        mark_before=$before mark_phase=confirmed
    fi
    (write_mark $mark_phase >/dev/null) && return
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

