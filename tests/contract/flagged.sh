#!/bin/sh
# A release with one runtime flag, ICEBERG on bit 2: docs/contract.md, section 8, for any binary. Its own process
# answers through a pipe, checks certificates with stock ssh-keygen, and keeps nothing over a restart but the epoch.
# Usage: flagged.sh --version | serve STATE FLEET HOST SIGNERS | status STATE | flag VERB NAME STATE
VERSION=1.0 NAME=ICEBERG BIT=2 COMMIT_S=2
MEANING=d59206ede2d4f9c70151d19660af8bd7fa6fabeb26636b39934efac5f5e6d7fe
WIRE=1f53b1c73e02eb477017b28321171845cdbfd847aabadb27cb181e69a3936e37
TABLE=8fba4a0a55ac0e1971dd54121ac554984dfd9276323289462adeda3f294af6a3
put() { # VERB STATE: put the question to the process, with what comes on standard input, and pass its answer on
    ask=$2/ask mine=$2/ask.$$ && trap 'rm -f "$mine" "$mine".*' EXIT && trap 'exit 1' TERM
    test -p "$ask" && mkfifo "$mine" && head -c 49153 >"$mine.in" && exec 3<>"$mine" && echo "$mine $1" >"$ask" &&
        read -r code said <&3 && if [ "$code" = 0 ]; then echo "$said"; else echo "router: $said" >&2 && exit 3; fi
}
case ${1-} in
--version) echo "router $VERSION" && exit 0 ;;
put) put "$2" "$3" && exit 0 || exit $? ;;
status) exec timeout 3 "$0" put status "$2" </dev/null ;;
flag) [ "$3" = "$NAME" ] || [ "$2" = show ] || { echo "router: refused (FLAG_UNKNOWN): no flag $3" >&2 && exit 3; }
    for state; do :; done && exec timeout 5 "$0" put "$2" "$state" ;;
esac
exec 7<"$(readlink -f "$0")" # resolved once, and open as long as it runs: so the kernel can show it
state=$2 fleet=$3 host=$4 signers=$5 flag=off since=null nonce='' epoch=0 until=0
release=$(sha256sum <&7) && release=${release%% *} boot=$(cat /proc/sys/kernel/random/boot_id)
read -r stat <"/proc/$$/stat" && start=$(echo "${stat##*) }" | cut -d ' ' -f 20)
newest=$(cat "$state/epoch" 2>/dev/null) || newest=0
say() { echo "$*" 1<>"$answer"; }
number() { sed -n "1s/.*\"$1\":\([0-9]\{1,16\}\)[,}].*/\1/p" "$answer.in"; }
has() { grep -qF -- "$1" "$answer.line" || { why="CERTIFICATE): it does not say $1" && false; }; }
turn() { flag=$1 since=$now until=$2 nonce=; }
believe() { # whether the certificate is for this process, now; $why says why not
    head -n 1 "$answer.in" >"$answer.line" && tail -n +2 "$answer.in" >"$answer.sig" && e=$(number epoch) x=$(number expires) i=$(number issued)
    has "\"fleet\":\"$fleet\"" && has "\"$host\":{\"nonce\":\"${nonce:-none}\",\"release\":\"$release\"}" &&
        has "\"$NAME\":\"$MEANING\"" || return 1
    why="CERTIFICATE): its epoch is not newer than $newest" && [ "${e:-0}" -gt "$newest" ] || return 1
    why='CERTIFICATE): it expired, or is from the future' && [ "${x:-0}" -ge "$now" ] && [ $((${i:-0} - 30)) -le "$now" ] || return 1
    why='SIGNATURE): nobody who may has signed it' && who=$(ssh-keygen -Y find-principals -f "$signers" -s "$answer.sig") &&
        ssh-keygen -Y verify -f "$signers" -I "$who" -n parity.deploytool -s "$answer.sig" <"$answer.line" >/dev/null
}
refuse() { nonce='' && say "3 refused ($1" && false; }
test -p "$state/ask" || mkfifo "$state/ask" && exec 8<>"$state/ask" && trap 'exit 0' TERM
while read -r answer verb <&8; do
    [ -p "$answer" ] || continue
    now=$(date +%s)
    case $flag in promised | provisional) [ "$now" -le "$until" ] || turn off 0 ;; esac
    case $verb/$flag in
    prepare/armed | prepare/provisional) refuse "FLAG_ARMED): $NAME is $flag already; disarm it first" || continue ;;
    prepare/*) if [ ! -s "$answer.in" ]; then
        turn off 0 && nonce=$(head -c 32 /dev/urandom | sha256sum | cut -c 1-64) && say "0 {\"nonce\": \"$nonce\", \"epoch\": $newest}" && continue
    fi
        believe 2>/dev/null || refuse "$why" || continue
        echo "$e" >"$state/epoch.new" && sync "$state/epoch.new" && mv "$state/epoch.new" "$state/epoch" && sync "$state" ||
            refuse 'EPOCH_NOT_WRITTEN): the epoch is not on disk' || continue
        newest=$e epoch=$e && turn promised "$x" && say "0 {\"promise\": $e}" && continue ;;
    commit/promised) turn provisional $((now + COMMIT_S)) && say "0 {\"provisional_s\": $COMMIT_S}" && continue ;;
    commit/*) refuse "NOT_PROMISED): $NAME is $flag" || continue ;;
    settle/provisional) turn armed 0 ;;
    settle/*) refuse "NOT_COMMITTED): $NAME is $flag" || continue ;;
    disarm/*) turn off 0 ;;
    esac
    case $flag in provisional | armed) armed="[\"$NAME\"]" by=$epoch ;; *) armed='[]' by=0 ;; esac
    case $verb in
    show) say "0 {\"flags\": [{\"name\": \"$NAME\", \"bit\": $BIT, \"state\": \"$flag\", \"epoch\": $by, \"since\": $since}], \"armed\": $armed, \"epoch\": $newest}" ;;
    status) say "0 {\"release\": \"$release\", \"version\": \"$VERSION\", \"pid\": $$, \"start_ticks\": $start, \"boot_id\": \"$boot\"," \
        "\"flag_table\": \"$TABLE\", \"wire\": \"$WIRE\", \"armed\": $armed, \"epoch\": $by, \"trading_state\": \"ACTIVE\", \"reason\": \"\"}" ;;
    *) say "0 {\"armed\": $armed}" ;;
    esac
done
