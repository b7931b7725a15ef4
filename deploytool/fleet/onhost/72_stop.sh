# --- stop -----------------------------------------------------------------------------------
# Nothing here waits for the mutex or asks for a token: a change that hangs under the mutex must not
# keep a host from being stopped. What keeps such a change from reviving it is the latch, written
# first: STATE/halted (who stopped this host, and why) and STATE/fenced (nothing may be started).

latch_host() { # [ARTIFACT'S LATCH] -> LATCHED: yes, or no where it can't be written; a later stop's replaces it
    LATCHED=no
    # Each stop has a name of its own for the draft: two may be at it at once.
    latch_draft=$STATE/.halted.$latch.$$
    printf 'latch %s\nby %s\nreason %s\nsince %s\n' "$latch" "$by" "$reason" "$since${1:+${NEWLINE}artifact $1}" \
        2>/dev/null >"$latch_draft" || return 0
    mv -fT "$latch_draft" "$STATE/halted" 2>/dev/null && LATCHED=yes
    return 0
}

read_latch() { # [FILE] -> HALTED, the latch of the stop that holds here, who, why and when, HALTED_OWN, the artifact's; fails where there is none
    HALTED='' HALTED_BY=unknown HALTED_REASON=unknown HALTED_SINCE=0 HALTED_OWN=''
    [ -e "${1:-$STATE/halted}" ] || return 1
    while IFS=' ' read -r latch_key latch_rest; do
        case $latch_key in
        latch) HALTED=$latch_rest ;;
        by) HALTED_BY=$latch_rest ;;
        reason) HALTED_REASON=$latch_rest ;;
        since) HALTED_SINCE=$latch_rest ;;
        artifact) HALTED_OWN=$latch_rest ;;
        esac
    done <"${1:-$STATE/halted}"
}

check_latch() { # whoever changes a host that was stopped must have known of it, and fenced stays fenced
    [ ! -e "$STATE/fenced" ] || refuse halted "it was stopped and fenced; 'deploytool start' lets it in again"
    read_latch || return 0
    [ "$latch" = "${HALTED:-unreadable}" ] || refuse halted "it was stopped (latch ${HALTED:-unreadable})"
}

keep_meaning() { # what served here when it was stopped: what senders use means what that build reads, until it is started
    if ! read_latch; then
        gone "$STATE/meant" || refuse cannot-write "$STATE/meant can't be removed"
        return
    fi
    [ ! -e "$STATE/meant" ] || return 0
    linked
    case $LINKED in none | "$release") return ;; esac
    put "$STATE/meant" "$LINKED" || refuse cannot-write "$STATE/meant can't be written"
}

words_of() { # REASON in a request's alphabet -> WORDS: a plus sign stands for a blank
    IFS=+
    # shellcheck disable=SC2086 # the words are split on purpose
    set -- $1
    IFS=' '
    WORDS="$*"
}

service_pids() { # -> SLURPED: the service's processes as its supervisor counts them, without asking it
    if [ "$SUPERVISOR" = systemd ]; then
        CONTROL_GROUP=/system.slice/$UNIT
        service_group
        [ -z "$SLURPED" ] || return 0
        # Not where units usually are, or not running: systemd knows, if it answers.
        CONTROL_GROUP=$(timeout -k 1 2 systemctl show "$UNIT" -p ControlGroup --value 2>/dev/null)
        service_group
    else
        unit_state
        SLURPED=''
        [ "$MAIN_PID" = 0 ] || SLURPED=$MAIN_PID
    fi
}

halt_artifact() { # SECONDS: has the artifact halt itself, and tells what it said -> HALT_SAID, without blanks
    HALT_SAID=''
    [ "$HAS_HALT" = yes ] || { say 'halt none'; return; }
    CUR=$ROOT/current
    words_of "$reason"
    # shellcheck disable=SC2034 # read by run_halt, one of the settings
    REASON=$WORDS BY=$by
    halt_coded=$(ASK_S=$1; run_halt as_account 2>&1 | bounded | base64 -w0)
    say "halt ${halt_coded:--}"
    HALT_SAID=$(printf '%s' "$halt_coded" | base64 -d 2>/dev/null | tr -d ' \n')
    # Whoever asks to start this host has to name the artifact's own latch; it is told here alone.
    case $HALT_SAID in *'"latch":"'*) ;; *) return 0 ;; esac
    halt_latch=${HALT_SAID#*'"latch":"'}
    halt_latch=${halt_latch%%'"'*}
    if word "$halt_latch"; then latch_host "$halt_latch"; fi
}

runs_only() { # whether this host runs, or would start, a release that begins with these digits, or may for all that can be told
    [ -n "$only" ] || return 0
    linked
    case $LINKED in "$only"*) return 0 ;; esac
    # What a rollout is at may be switched to in this very moment, or back.
    if read_mark; then
        case " $mark_target $mark_before" in *" $only"*) return 0 ;; esac
    fi
    if [ "$LINK" = "$NOT_A_LINK" ] || { [ -L "$ROOT/current" ] && ! is_digest "$LINKED"; }; then return 0; fi
    scan
    case $NEWLINE$RUNNING in *"$ROOT/releases/$only"*) return 0 ;; esac
    runs_unseen || return 1
    # Passers-by, such as who asks the service something, are gone soon.
    sleep 0.3
    scan
    case $NEWLINE$RUNNING in *"$ROOT/releases/$only"*) return 0 ;; esac
    runs_unseen
}

runs_unseen() { # whether somebody runs what can't be seen, or holds a port without running a release that is seen
    case $RUNNING in *" unseen -$NEWLINE"*) return 0 ;; esac
    IFS=$NEWLINE
    for owner in $OWNERS; do
        case $NEWLINE$RUNNING in *"$NEWLINE${owner#* } "*) ;; *) return 0 ;; esac
    done
    return 1
}

verb_quiesce() { # the artifact stops sending and cancels, but goes on running: HALTED, and latched on disk
    needs by reason latch since seconds
    if ! runs_only; then
        say 'skipped another-release'
        return
    fi
    latch_host
    if [ -n "$HALT_SIGNAL" ]; then
        service_pids
        IFS=' '
        for member in $SLURPED; do kill -s "$HALT_SIGNAL" "$member" 2>/dev/null || :; done
    fi
    halt_artifact "$seconds"
    # Where it did not halt, it is fenced next, and nothing here is worth waiting for.
    case $HALT_SAID in *'"trading_state":"HALTED"'*) ;; *) say "latched $LATCHED"; return ;; esac
    say_strays
    [ $LATCHED = no ] || timeout -k 1 2 sync "$STATE/halted" "$STATE" 2>/dev/null || LATCHED=unsynced
    say "latched $LATCHED"
}

say_strays() { # whoever runs a release and is not the service was not halted; passers-by are gone soon
    find_strays
    [ -n "$STRAYS" ] || return 0
    sleep 0.3
    strays_before=" $STRAYS"
    find_strays
    IFS=' '
    for stray in $STRAYS; do
        case $strays_before in *" $stray "*) say "stray ${stray%=*}" ;; esac
    done
}

find_strays() { # -> STRAYS: "pid=start " of each process that runs a release and is not of the service
    STRAYS=''
    scan
    service_pids
    service=" $SLURPED "
    IFS=$NEWLINE
    for running in $RUNNING; do
        running=${running%% *}
        of_service "$running" || STRAYS="$STRAYS$running=$PROC_START "
        IFS=$NEWLINE
    done
}

of_service() { # PID: whether it, or whoever started it, is of the service; -> PROC_START, its own
    kin=$1 kin_start='' generations=0
    while [ $generations -lt 16 ]; do
        generations=$((generations + 1))
        stat_of "$kin" || return 0 # it is gone
        kin_start=${kin_start:-$PROC_START}
        case $service in *" $kin "*) return 0 ;; esac
        kin=$PROC_PARENT
        [ "$kin" -gt 1 ] || break
    done
    PROC_START=$kin_start
    return 1
}

verb_fence() { # first so that neither the supervisor nor a reboot revives it
    needs by reason latch since
    latch_host
    fenced=yes
    : 2>/dev/null >"$STATE/fenced" || fenced=no
    if [ "$SUPERVISOR" = systemd ]; then
        mask_unit
        say "masked $MASKED"
    fi
    [ $fenced = no ] || timeout -k 1 2 sync "$STATE/fenced" "$STATE" 2>/dev/null || fenced=unsynced
    say "fenced $fenced"
}

mask_unit() { # -> MASKED: yes, until the next boot (runtime), or no
    MASKED=yes
    timeout -k 1 3 systemctl mask --quiet "$UNIT" 2>/dev/null && return
    # Without systemd's answer the link alone keeps the unit from the next boot (systemctl(1), mask).
    ln -sfn /dev/null "/etc/systemd/system/$UNIT" 2>/dev/null && return
    MASKED=runtime
    timeout -k 1 3 systemctl mask --runtime --quiet "$UNIT" 2>/dev/null || MASKED=no
}

find_ours() { # -> OURS: every process of the service and every other one of this release root
    service_pids
    OURS=" $SLURPED "
    scan
    find_kin
    IFS=$NEWLINE
    for running in $RUNNING; do
        running=${running%% *}
        case $KIN$OURS in *" $running "*) ;; *) OURS="$OURS$running " ;; esac
    done
}

find_kin() { # -> KIN: this very process and those that it was started by
    KIN=" $$ " kin=$$ generations=0
    while [ $generations -lt 16 ] && stat_of "$kin" && [ "$PROC_PARENT" -gt 1 ]; do
        generations=$((generations + 1))
        kin=$PROC_PARENT
        KIN="$KIN$kin "
    done
}

verb_kill() { # whatever the service or a stray of this root is, ends now, whether it wants to or not
    needs seconds by reason latch since
    tries=$((seconds * 10))
    killed=0
    while :; do
        find_ours
        IFS=' '
        # shellcheck disable=SC2086
        set -- $OURS
        [ $# -gt 0 ] || break
        for running in "$@"; do kill -s KILL "$running" 2>/dev/null && killed=$((killed + 1)); done
        tries=$((tries - 1))
        [ $tries -gt 0 ] || break
        sleep 0.1
    done
    say "killed $killed"
    # An artifact that can latch without running comes up halted when it is let in again.
    halt_artifact 2
}

verb_look() { # what is alive of the service and of this release root, and who listens
    find_ours
    IFS=' '
    for running in $OURS; do
        if stat_of "$running" && [ "$PROC_STATE" != Z ]; then say "alive $running"; fi
    done
    IFS=$NEWLINE
    for owner in $OWNERS; do say "owner $owner"; done
    IFS=' '
    for socket in $LISTENING; do say "open ${socket%%:*}"; done
    find_kept
    IFS=' '
    for running in $KEPT; do say "may $running"; done
    verb_latch
}

find_kept() { # -> KEPT: what else runs with the service's rights, which may include its login at the market
    KEPT=''
    # Without systemd that account is the deploy account itself, and we are among its processes.
    [ -n "$ACCOUNT" ] || return 0
    kept_uid=$(id -u "$ACCOUNT" 2>/dev/null) || return 0
    set +f
    kept_listed=$(ls -ldn /proc/[0-9]* 2>/dev/null)
    set -f
    IFS=$NEWLINE
    for line in $kept_listed; do
        kept_pid=${line##*/proc/}
        IFS=' '
        # shellcheck disable=SC2086 # the columns are split on purpose
        set -- $line
        [ "$3" = "$kept_uid" ] || continue
        case $OURS in *" $kept_pid "*) continue ;; esac
        if stat_of "$kept_pid" && [ "$PROC_STATE" != Z ]; then KEPT="$KEPT$kept_pid "; fi
    done
}

verb_latch() { # whether this host was stopped, by whom, and why
    if slurp "$STATE/halted"; then say "halted $SLURPED"; fi
    if [ -e "$STATE/fenced" ]; then say 'fenced'; fi
}

# --- lease ----------------------------------------------------------------------------------

verb_lease() { # renews the artifact's lease by the nonce that it issued; "none" asks for the first
    needs lease
    [ "$HAS_LEASE" = yes ] || refuse no-lease 'the inventory names no lease command'
    CUR=$ROOT/current
    # shellcheck disable=SC2034 # read by run_lease, one of the settings
    LEASE=$lease
    said=$(run_lease as_account 2>&1 | bounded | base64 -w0)
    say "lease ${said:--}"
}

# --- start ----------------------------------------------------------------------------------

second_person() { # FILE: whether a signer, and not who asks, signed this for this host and the stop that holds here
    signer=$(timeout -k 1 5 ssh-keygen -Y find-principals -s "$1" -f "$SIGNERS" 2>/dev/null </dev/null)
    word "$signer" || return 1
    printf '%s\n' "$signed_line" |
        timeout -k 1 5 ssh-keygen -Y verify -n start.deploytool -I "$signer" -s "$1" -f "$SIGNERS" >/dev/null 2>&1 || return 1
    # It is canonical JSON: within its texts a quotation mark has a backslash before it.
    case $signed_line in '{"by":"'"$signer"'",'*) return 1 ;; esac
    case $signed_line in *',"fleet":"'"$FLEET"'","host":"'"$HOST"'",'*',"latch":"'"${HALTED_OWN:-$HALTED}"'","reason":"'*) ;; *) return 1 ;; esac
    now
    expires=${signed_line#*',"expires":'} expires=${expires%%,*}
    number "$expires" && [ "$NOW" -le "$expires" ]
}

check_signed() { # what was fenced is started by two people, whatever runs here checks or doesn't
    [ -n "$SIGNERS" ] || return 0
    signature=$STATE/.start.$$
    printf '%s' "${signed#*"$NEWLINE"}" 2>/dev/null >"$signature" || refuse cannot-write "$signature can't be written"
    second_person "$signature"
    is_signed=$?
    rm -f "$signature"
    [ $is_signed = 0 ] || refuse not-signed 'no second person among the signers has signed this for the stop that holds here'
}

same_stop() { # [FILE]: whether the stop that holds here is the one that was asked about, and signed for
    read_latch "$@"
    [ "$latch" = "${HALTED:-$latch}" ] || return 1
    # The last member of canonical JSON; within its texts a quotation mark has a backslash before it.
    case $signed_line in *',"stop":"'"${HALTED:-none}"'"}') ;; *) return 1 ;; esac
}

other_stop() { refuse other-latch "it was stopped again: what holds here now is stop ${HALTED:-none}, and the request is for another"; }

let_in() { # a stop takes no mutex and may come at any moment; its latch is written first, and it wins
    { rm -f "$STATE/fenced" && sync "$STATE"; } || refuse cannot-write "$STATE/fenced can't be removed"
    if ! same_stop; then # it may have been that one's fence
        : >"$STATE/fenced"
        [ "$SUPERVISOR" = process ] || mask_unit
        other_stop
    fi
    unfence
    if [ "$SUPERVISOR" = systemd ] && [ -e "$STATE/fenced" ]; then mask_unit; fi
    [ ! -L "$ROOT/current" ] || restart_service
    wait_ready
    [ ! -e "$STATE/fenced" ] || refuse halted 'it was stopped and fenced again meanwhile'
    same_stop || other_stop
}

serves() { # whether the service has a main process
    unit_state
    [ "$MAIN_PID" != 0 ] && stat_of "$MAIN_PID" && [ "$PROC_STATE" != Z ]
}

lift_latch() { # whoever stopped this host after it was last looked at has been told HALTED, and that is made true again
    [ -e "$STATE/halted" ] || return 0
    # Taken away whole: a latch that is written from here on is a new file, and its halt is still to come.
    lifted=$STATE/.lifted.$$
    mv -fT "$STATE/halted" "$lifted" || refuse cannot-write "$STATE/halted can't be removed"
    if same_stop "$lifted"; then
        { rm -f "$lifted" && sync "$STATE"; } || refuse cannot-write "$lifted can't be removed"
        return
    fi
    mv -nT "$lifted" "$STATE/halted"
    rm -f "$lifted"
    latch=$HALTED by=$HALTED_BY reason=$HALTED_REASON since=$HALTED_SINCE
    halt_artifact 2
    case $HALT_SAID in
    *'"trading_state":"HALTED"'*) ;;
    *)
        : >"$STATE/fenced"
        fence ;;
    esac
    other_stop
}

verb_resume() { # payload: the request that a second person signed; the artifact checks it itself
    needs latch size
    [ "$size" -le 65536 ] || refuse bad-request 'the signed request is too long'
    signed=$(head -c "$size" && printf .)
    signed=${signed%.} signed_line=${signed%%"$NEWLINE"*}
    mutex
    read_latch || [ -e "$STATE/fenced" ] || [ "$HAS_RESUME" = yes ] || refuse not-halted 'this host was not stopped'
    [ "$latch" = "${HALTED:-$latch}" ] || refuse other-latch "it was stopped again, by latch $HALTED"
    CUR=$ROOT/current
    # An artifact checks it too, once it runs; before that, and for one that doesn't, nobody else would.
    # A start that was interrupted may have taken the fence away, and started nothing.
    starts=no
    if [ -e "$STATE/fenced" ] || { [ -e "$STATE/halted" ] && ! serves; }; then starts=yes; fi
    if [ $starts = yes ] || [ "$HAS_RESUME" = no ]; then check_signed; fi
    # The artifact may have kept its own latch through a second stop: which stop it is, only this host knows.
    same_stop || other_stop
    if [ $starts = yes ]; then let_in; fi
    if [ "$HAS_RESUME" = yes ]; then
        resume_said=$(printf '%s' "$signed" | run_resume from_account 2>&1 | bounded | base64 -w0)
        say "resume ${resume_said:--}"
        case $(printf '%s' "$resume_said" | base64 -d 2>/dev/null) in
        *'"trading_state": "ACTIVE"'* | *'"trading_state":"ACTIVE"'*) ;;
        *) return ;; # it said why not, and the latch stays
        esac
    fi
    # The latch goes last: as long as it is there, a change notes what serves from now on.
    { rm -f "$STATE/meant" && sync "$STATE"; } || refuse cannot-write "$STATE/meant can't be removed"
    lift_latch
    say 'released'
}

with_latch() { from_account "$@" --latch "$HALTED_OWN" </dev/null; } # COMMAND...: the artifact's own latch, and no request

verb_let_in() { # by root itself, where nobody can sign: the reason is written down here first
    needs by reason
    # All that sudo allows the deploy account is this very file; root itself comes by a shell, or without sudo.
    case ${SUDO_COMMAND:-} in *' '*) ;; */helper) refuse rights 'only root itself lets a host in, and not the deploy account' ;; esac
    [ -z "$SIGNERS" ] || refuse signers "this host knows signers: 'deploytool start' lets it in again, by two people"
    mutex
    read_latch || [ -e "$STATE/fenced" ] || refuse not-halted 'this host was not stopped'
    CUR=$ROOT/current latch=${HALTED:-0}
    now
    let_in_line="since $NOW by $by latch $latch reason $reason"
    { printf '%s\n' "$let_in_line" >>"$STATE/let-in" && sync "$STATE/let-in"; } 2>/dev/null ||
        refuse cannot-write "$STATE/let-in can't be written"
    signed_line=',"stop":"'"${HALTED:-none}"'"}' # nobody signed it; it is for the stop that holds here now
    if [ -e "$STATE/fenced" ] || ! serves; then let_in; fi
    if [ "$HAS_RESUME" = yes ] && [ -n "$HALTED_OWN" ]; then
        resume_said=$(run_resume with_latch 2>&1 | bounded | base64 -w0)
        say "resume ${resume_said:--}"
    fi
    { rm -f "$STATE/meant" && sync "$STATE"; } || refuse cannot-write "$STATE/meant can't be removed"
    lift_latch
    say 'released'
}
