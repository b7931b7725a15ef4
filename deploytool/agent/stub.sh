# How the agent starts: this part reads one line and gives way, to Python for format deploytool/2,
# or to the last rungs of a stop for format deploytool/1. Whatever Python is like, a stop gets past.
# shellcheck shell=sh disable=SC2154 # the settings and the last rungs are put in front

refuse() { finish "refused $*"; exit 0; } # after a refusal no further request is read

needs() { # KEY...: these must have been in the request
    for key in "$@"; do
        eval "[ -n \"\$$key\" ]" || refuse bad-request "$key is missing"
    done
}

answer_last_rung() { # VERB
    printf '\ndeploytool %s begin\n' "$nonce"
    case $1 in fence | kill | look) ;; *)
        refuse other-version "this host's agent is of another version, and takes '$1' in format deploytool/2 only" ;;
    esac
    read_keys || refuse bad-request 'it is not a request of the last rungs'
    command cd -P "$ROOT" 2>/dev/null || refuse not-prepared 'the release root is missing'
    ROOT=$PWD STATE=$PWD/state
    command cd / || refuse not-prepared 'there is no root folder'
    case $1 in
    fence) needs latch by reason since && fence ;;
    kill) needs latch by reason since seconds && kill_all ;;
    look) look ;;
    esac
    finish ok
}

# Python sees nothing of the environment, and is told what the line said that was read here. It
# compiles this file's own bytes, those after a certain line, and no other file of deploytool.
BOOT='
import sys
def refuse(text):
    sys.stdout.write("\ndeploytool %s begin\n{\"code\":\"lacks-program\",\"text\":\"%s\"}\ndeploytool %s end refused\n"
                     % (sys.argv[2], text, sys.argv[2]))
    sys.stdout.flush()
if sys.version_info < (3, 9):
    refuse("Python 3.9 or newer is needed on this host; %s is Python %d.%d" % ((sys.executable,) + sys.version_info[:2]))
else:
    with open(sys.argv[1], "rb") as file:
        content = file.read(16777217)
    parts, at = {}, content.index(b"\n#@AGENT@\n") + 10
    index, _, _ = content[at:].partition(b"\n\n")
    at += len(index) + 2
    for line in index.decode("ascii").split("\n"):
        name, size = line.split(" ")
        parts[name] = content[at:at + int(size)]
        at += int(size)
    space = {"__name__": "loader"}
    exec(compile(parts["loader"], "loader", "exec"), space)
    try:
        main = space["load"](parts)
    except Exception as error:
        refuse("Python on this host is damaged: %s %s" % (type(error).__name__, getattr(error, "name", "")))
    else:
        main(content, parts, sys.argv[2:])
'

# The service is told by its own signal before Python starts, which takes far longer. The agent signals again: it also
# knows of supervisors, and of control groups, that are not the usual ones.
signal_service() {
    [ -n "$HALT_SIGNAL" ] && [ "$SUPERVISOR" = systemd ] || return 0
    services
    ! group_members "$SERVICES/$NAME.service" || signal_members
}

become_agent() {
    printf '\ndeploytool %s arrived\n' "$nonce" # that this host was reached, whatever Python does now
    [ "$verb" != halt ] || signal_service
    # All that sudo allows the deploy account is this very file; root itself comes by a shell, or without sudo.
    caller=root && [ "${SUDO_COMMAND:-}" != "$0" ] || caller=deploy
    pythons=${PYTHON:-/usr/bin/python3 /usr/local/bin/python3} why='is not on this host'
    [ -z "$PYTHON" ] || [ ! -x "$PYTHON" ] || trusted "$PYTHON" || pythons='' why='can be changed by others than root'
    for python in $pythons; do
        [ ! -x "$python" ] || exec env -i PATH="$PATH" LANG=C "$python" -I -S -B -X utf8 -c "$BOOT" "$0" "$nonce" "$verb" "$caller"
    done
    printf '\ndeploytool %s begin\n{"code":"lacks-program","text":"%s %s"}\n' "$nonce" "${PYTHON:-python3}" "$why"
    finish refused
    exit 0
}

main() {
    [ $# -eq 0 ] || exit 64
    # shellcheck disable=SC3045 # dash, bash and busybox have it
    ulimit -S -v 1048576 2>/dev/null || : # whatever is sent; what the agent starts does not inherit it
    served=0
    while [ $((served = served + 1)) -le 1000 ] && IFS= read -r line; do
        [ -n "$line" ] || continue # it only keeps the connection from being cut as idle
        case $line in *[!A-Za-z0-9/_\ ]* | *' '*' '*' '*) exit 64 ;; esac
        IFS=' '
        # shellcheck disable=SC2086 # the words are split on purpose
        set -- $line
        format=${1-} nonce=${2-} verb=${3-}
        case $nonce in '' | *[!0-9a-f]*) exit 64 ;; esac
        case $format in
        deploytool/2)
            [ -n "$verb" ] || exit 64
            become_agent
            ;;
        deploytool/1) answer_last_rung "$verb" ;;
        *) exit 64 ;;
        esac
    done
}
