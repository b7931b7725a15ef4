#!/bin/sh
# shellcheck disable=SC2317 # some functions are called by the settings that are written in below
# The host helper of deploytool: the only program that sudo lets the deploy account run as root.
#
# It takes no argument. A request comes on standard input:
#     deploytool/1 NONCE VERB        then lines "key value", then a line ".", then the payload
# (and further requests may follow, until one is refused), and the answer goes to standard output
# between two lines that carry the nonce, so that a login message can't be taken for it:
#     deploytool NONCE begin ... deploytool NONCE end ok|refused CODE TEXT
# Everything it may touch is named in the settings below, written by "deploytool host prepare";
# a request can't name a path or a program. Only sh, coreutils and util-linux are needed.
# These parts are joined, in the order of their names, into one script.
set -uf
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 022
NEWLINE='
'

#@SETTINGS@

REQUEST_NONCE=0
STATUS_ANSWER=''
QUICK=no
PHASE=''
NOW=''
LINK=''
UNIT_STATE=''
NEW_LOCK=''
UPLOAD=''
STATE=$ROOT/state
FORMAT=deploytool/1

# --- answering ------------------------------------------------------------------------------

finish() {
    printf 'deploytool %s end %s\n' "$REQUEST_NONCE" "$1"
    [ "$1" = ok ]
    exit
}

refuse() { # CODE TEXT...: says no; whoever calls this has changed nothing that matters yet
    refuse_code=$1
    shift
    # What was uploaded for nothing goes away again.
    if [ -n "$UPLOAD" ]; then rm -rf "$UPLOAD" 2>/dev/null; fi
    refuse_text=$(printf '%s' "$*" | tr '\n\t' '  ')
    finish "refused $refuse_code $refuse_text"
}

say() { printf '%s\n' "$*"; }

# --- the request ----------------------------------------------------------------------------

hexadecimal() { case $1 in '' | *[!0-9a-f]*) return 1 ;; esac; }
number() { case $1 in '' | *[!0-9]* | ????????????????*) return 1 ;; esac; }
word() { case $1 in '' | *[!A-Za-z0-9@._:+-]*) return 1 ;; esac; }
flag_name() { case $1 in [!A-Z]* | '' | *[!A-Z0-9_]* | ?????????????????????????????????*) return 1 ;; esac; }
is_digest() { hexadecimal "$1" && [ ${#1} -eq 64 ]; }

read_request() {
    [ "$format" = "$FORMAT" ] || exit 64
    hexadecimal "$nonce" || exit 64
    REQUEST_NONCE=$nonce
    printf '\ndeploytool %s begin\n' "$REQUEST_NONCE"
    token='' release='' size='' manifest='' manifest_size='' holder='' purpose='' plan=''
    requires='' before='' pid='' start='' boot='' disk=read ask=always seconds='' keep='' verdict='' next=''
    latch='' by='' reason='' since='' only='' lease='' flag='' rollout=''
    : "$flag" # read by the commands in the settings
    lines=0
    while [ $lines -lt 64 ]; do
        lines=$((lines + 1))
        IFS=' ' read -r key value || refuse bad-request 'the request ended early'
        case $key in
        .) return ;;
        token | size | manifest_size | pid | start | seconds | keep | since)
            number "$value" || refuse bad-request "$key is not a number" ;;
        release | before) [ "$value" = none ] || is_digest "$value" || refuse bad-request "$key is not a SHA-256" ;;
        manifest) is_digest "$value" || refuse bad-request 'manifest is not a SHA-256' ;;
        holder | purpose | plan | rollout | boot | disk | ask | verdict | next | by | reason | lease) word "$value" || refuse bad-request "$key has characters that are not allowed" ;;
        latch | only) hexadecimal "$value" || refuse bad-request "$key is not hexadecimal" ;;
        flag) flag_name "$value" || refuse bad-request 'flag is not the name of one' ;;
        requires)
            word "$value" || refuse bad-request 'requires has characters that are not allowed'
            value="$requires $value" ;;
        *) refuse bad-request "unknown key" ;;
        esac
        eval "$key=\$value" # the key is one of the words above, and the value is not evaluated
    done
    refuse bad-request 'the request has too many lines'
}

needs() { # KEY...: these must have been in the request
    for need in "$@"; do
        eval "[ -n \"\$$need\" ]" || refuse bad-request "$need is missing"
    done
}

