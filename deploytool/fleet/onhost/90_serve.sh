# --------------------------------------------------------------------------------------------

serve() { # one request, in a process of its own: what it opened and set ends with it
    read_request
    [ -z "$LACKING" ] || refuse lacks-program "$LACKING is not on this host"
    command cd -P "$ROOT" 2>/dev/null || refuse not-prepared "the release root is missing"
    ROOT=$PWD
    command cd / || refuse not-prepared 'there is no root folder'
    STATE=$ROOT/state
    { [ -d "$STATE" ] && [ -d "$ROOT/releases" ]; } || refuse not-prepared "$ROOT lacks its folders"
    case $VERB in
    probe) probe ;;
    lock) verb_lock ;;
    takeover) verb_takeover ;;
    renew) verb_renew ;;
    unlock) verb_unlock ;;
    stage) verb_stage ;;
    activate) verb_activate ;;
    confirm) verb_confirm ;;
    hold) verb_hold ;;
    expire) verb_expire ;;
    retire) verb_retire ;;
    quiesce) verb_quiesce ;;
    fence) verb_fence ;;
    kill) verb_kill ;;
    look) verb_look ;;
    latch) verb_latch ;;
    lease) verb_lease ;;
    resume) verb_resume ;;
    let_in) verb_let_in ;;
    flag_observe) verb_flag_observe ;;
    flag_prepare) verb_flag_prepare ;;
    flag_commit) verb_flag_commit ;;
    flag_settle) verb_flag_settle ;;
    flag_disarm) verb_flag_disarm ;;
    *) refuse bad-request 'unknown verb' ;;
    esac
    finish ok
}

main() {
    [ $# -eq 0 ] || exit 64
    LACKING=''
    for program in sha256sum stat dd readlink flock timeout setpriv sync mv head tail tr wc base64; do
        command -v "$program" >/dev/null 2>&1 || LACKING=$program
    done
    served=0
    while [ $served -lt 10000 ] && IFS=' ' read -r format nonce VERB; do
        served=$((served + 1))
        # After a refusal nobody knows how much of a payload was left unread.
        (serve) || exit 0
    done
}

main "$@"
