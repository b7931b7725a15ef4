# --- lock and token -------------------------------------------------------------------------

mutex() { # one changing verb at a time: lock, token check and effect are one step
    command exec 9<"$STATE/mutex" || refuse not-prepared "$STATE/mutex can't be opened"
    flock -w 10 9 || refuse busy 'another change on this host is under way'
}

release_mutex() { exec 9<&-; }

read_lock() { # -> lock_token lock_holder lock_purpose lock_plan lock_since; fails where there is no lock
    lock_token='' lock_holder='' lock_purpose='' lock_plan='' lock_since=''
    [ -f "$STATE/lock" ] || return 1
    while IFS=' ' read -r lock_key lock_rest; do
        case $lock_key in
        token) lock_token=$lock_rest ;;
        holder) lock_holder=$lock_rest ;;
        purpose) lock_purpose=$lock_rest ;;
        plan) lock_plan=$lock_rest ;;
        since) lock_since=$lock_rest ;;
        esac
    done <"$STATE/lock"
}

current_token() { # -> SLURPED
    slurp "$STATE/token" || SLURPED=0
}

check_token() {
    needs token
    if ! read_lock; then
        # The last token that was given out tells a lost answer from a lock that another gave back.
        current_token
        [ "$SLURPED" != "$token" ] || refuse unlocked "the lock of token $token was given back"
        refuse stale-token "nobody holds the lock of this host; token $token is not valid"
    fi
    [ "$lock_token" = "$token" ] ||
        refuse stale-token "the lock is held by $lock_holder with token $lock_token, not $token"
}

linked() { # -> LINKED, the release that current names, or none
    find_link
    case $LINK in "$NOT_A_LINK") LINKED=none ;; *) LINKED=${LINK#releases/} ;; esac
}

mark_text() { # PHASE -> MARK: how far the rollout has come on this host, for whoever finds it
    now
    MARK="plan $mark_plan
target $mark_target
before $mark_before
phase $1
since $NOW"
}

write_mark() { # PHASE
    mark_text "$1"
    put "$STATE/rollout" "$MARK" || refuse cannot-write "$STATE/rollout can't be written"
}

read_mark() { # -> mark_plan mark_target mark_before mark_phase; fails where there is no mark
    mark_plan='' mark_target='' mark_before='' mark_phase=''
    [ -f "$STATE/rollout" ] || return 1
    while IFS=' ' read -r mark_key mark_rest; do
        case $mark_key in
        plan) mark_plan=$mark_rest ;;
        target) mark_target=$mark_rest ;;
        before) mark_before=$mark_rest ;;
        phase) mark_phase=$mark_rest ;;
        esac
    done <"$STATE/rollout"
}

new_lock() { # -> NEW_LOCK, with a token that nobody ever had, in the name of whoever asked
    current_token
    number "$SLURPED" || refuse damaged "$STATE/token is not a number"
    lock_token=$((SLURPED + 1))
    put "$STATE/token" "$lock_token" || refuse cannot-write "$STATE/token can't be written"
    now
    NEW_LOCK="token $lock_token
holder $holder
purpose $purpose
plan $plan
since $NOW"
}

take_lock() { put "$STATE/lock" "$NEW_LOCK" || refuse cannot-write "$STATE/lock can't be written"; }

keeps_mark() { # whether what is marked here stays as it is: it says what this host had before
    # One that is to retire, or is let in again, is no rollout: nothing is to be finished or undone.
    case $purpose in retire | start) return 0 ;; esac
    read_mark || return 1
    # Where nothing was begun, whoever takes over knows what it finishes or undoes.
    [ "$mark_phase" != locked ] || [ -z "$before" ]
}

take_marked_lock() { # NEW_LOCK, if any, and a mark with it
    if keeps_mark; then
        [ -z "$NEW_LOCK" ] || take_lock
        return
    fi
    linked
    mark_plan=${rollout:-$plan} mark_target=$release mark_before=${mark_before:-$LINKED} mark_phase=locked
    if [ -n "$before" ] && [ "$before" != "$mark_before" ]; then
        # Its own mark went when this very rollout was finished here; whoever undoes it knows more.
        mark_before=$before mark_phase=confirmed
    fi
    mark_text $mark_phase
    if [ -n "$NEW_LOCK" ]; then
        put_both "$STATE/lock" "$NEW_LOCK" "$STATE/rollout" "$MARK"
    else
        put "$STATE/rollout" "$MARK"
    fi && return
    # Whoever is refused has no lock: one without a mark would tell nobody what to go back to.
    mine=$lock_token
    if read_lock && [ "$lock_token" = "$mine" ]; then
        gone "$STATE/lock" 2>/dev/null || refuse lock-left "$STATE/rollout can't be written, and $STATE/lock not removed"
    fi
    refuse cannot-write "$STATE/lock and $STATE/rollout can't be written"
}

say_locked() { # the token, and what a plan was bound to, seen under the lock
    say "token $lock_token"
    [ -n "$LINK" ] || find_link
    say "current $LINK"
    if slurp "$STATE/verified"; then say "verified $SLURPED"; fi
}

verb_takeover() { # explicit: it names the token of the lock that is taken away
    # rollout: the plan that other hosts' marks name, so that all tell of the same one in the end
    needs holder purpose plan token release
    mutex
    if read_lock && [ "$lock_plan" != "$plan" ]; then check_token; fi
    if [ "$lock_plan" != "$plan" ]; then new_lock; fi
    take_marked_lock
    say_locked
}

verb_renew() { # a later token for a lock that is held: only its holder can, and what it sent before is refused
    needs holder purpose plan token
    mutex
    check_token
    new_lock
    take_lock
    say_locked
}

verb_lock() {
    needs holder purpose plan release
    mutex
    if ! read_lock; then
        new_lock
    elif [ "$lock_plan" != "$plan" ]; then
        refuse locked "$lock_holder holds the lock for $lock_purpose, plan $lock_plan, since $lock_since"
    fi
    take_marked_lock # the mark also where the lock was taken before, and the disk had no room for it then
    say_locked
}

verb_unlock() { # keep: how many releases stay on this host; release: what all hosts were proven to run, if they were
    needs keep
    mutex
    check_token
    linked
    # For whoever finds the same rollout unfinished on another host. One that was only refused here
    # finished nothing, and must not hide what was.
    if read_mark && { [ "$mark_phase" != locked ] || [ "$mark_target" = "$release" ]; }; then
        finished="plan $mark_plan
target $mark_target
before $mark_before"
        if [ "$mark_before" = "$LINKED" ]; then
            put "$STATE/finished" "$finished"
        else
            put_both "$STATE/finished" "$finished" "$STATE/previous" "$mark_before"
        fi || refuse cannot-write "$STATE/finished or $STATE/previous can't be written"
    fi
    prune
    # The lock goes last: a lock without a mark would tell nobody what to do.
    gone "$STATE/held" || refuse cannot-write "$STATE/held can't be removed"
    gone "$STATE/rollout" || refuse cannot-write "$STATE/rollout can't be removed"
    gone "$STATE/lock" || refuse cannot-write "$STATE/lock can't be removed"
    sync "$STATE"
}

prune() { # the newest stay, and always the active one, the one before, and the one that was stopped
    set +f
    for old in "$ROOT/releases/.incoming."* "$ROOT/releases/.damaged."*; do
        [ ! -e "$old" ] || rm -rf "$old"
    done
    set -- "$ROOT/releases/"*
    set -f
    [ $# -gt "$keep" ] || return 0
    slurp "$STATE/meant" || SLURPED=''
    stopped=$SLURPED
    slurp "$STATE/previous" || SLURPED=''
    kept=0
    IFS=$NEWLINE
    # shellcheck disable=SC2045 # by age, and every name that is no digest is passed over
    for old in $(ls -t "$ROOT/releases"); do
        is_digest "$old" || continue
        kept=$((kept + 1))
        if [ $kept -gt "$keep" ] && [ "$old" != "$LINKED" ] && [ "$old" != "$SLURPED" ] && [ "$old" != "$stopped" ]; then
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
    now
    put "$STATE/held" "verdict $verdict
holder $holder
plan $plan
next $next
since $NOW" || refuse cannot-write "$STATE/held can't be written"
}

