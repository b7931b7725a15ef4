# --- flags ----------------------------------------------------------------------------------

CERTIFICATE_BYTES=49152 CERTIFICATE_S=5

armable() { # these verbs may not meet a rollout: a fleet that is being changed is mixed
    mutex
    for mark in lock rollout held; do
        [ ! -f "$STATE/$mark" ] || refuse changing "a rollout holds this host: $(tr '\n' ' ' <"$STATE/$mark")"
    done
}

feed() { printf '%s' "$1" | base64 -d; }

tell() { # FUNCTION BASE64: has a command read that; says how it ended and what it printed
    [ -n "$FLAGS" ] || refuse no-flags 'the inventory of this host names no commands for flags'
    CUR=$ROOT/current
    if [ ! -x "$CUR/$NAME" ]; then # the link may lead nowhere, and a process run armed all the same
        unit_state
        scan
        client_folder
    fi
    [ -x "$CUR/$NAME" ] || refuse nothing-active 'no release is active on this host'
    # What it printed, a line that no program can know, and then its errors and how it ended.
    told=$({
        told_errors=$({ feed "$2" | "$1" from_account 2>&1 1>&5 5>&-; printf '\nexit %s' "$?"; } | tail -c 1500)
        printf '\ndeploytool %s errors\n%s' "$REQUEST_NONCE" "$told_errors"
    } 5>&1 | bounded)
    told_errors=${told##*"deploytool $REQUEST_NONCE errors$NEWLINE"}
    [ "$told_errors" != "$told" ] || refuse too-much 'the command printed more than an answer can be'
    say "code ${told_errors##*exit }"
    say "answer $(printf '%s' "${told%"$NEWLINE"deploytool "$REQUEST_NONCE" errors*}" | base64 -w0)"
    say "errors $(printf '%s' "${told_errors%"$NEWLINE"exit *}" | base64 -w0)"
}

# The functions stand in the settings, and put the flag, a checked word, where the inventory says.
verb_flag_observe() { tell run_flag_observe ''; }

verb_flag_prepare() { # size 0: asks for a nonce; else so many bytes follow, a sealed certificate
    needs flag size
    [ "$size" -le $CERTIFICATE_BYTES ] || refuse bad-request "a certificate has at most $CERTIFICATE_BYTES bytes"
    armable
    sealed=$(timeout -k 1 $CERTIFICATE_S head -c "$size" | base64 -w0)
    [ "$(feed "$sealed" | wc -c)" -eq "$size" ] || refuse short-copy "not all of $size bytes arrived"
    tell run_flag_prepare "$sealed"
}

verb_flag_commit() {
    needs flag
    armable
    tell run_flag_commit ''
}

verb_flag_settle() {
    needs flag
    armable
    tell run_flag_settle ''
}

verb_flag_disarm() { # always: off is the safe state, so it waits for nobody and no mark stops it
    needs flag
    tell run_flag_disarm ''
}

