#!/bin/sh
# The smallest thing that satisfies docs/contract.md: any executable file can be a release.
# Usage: artifact.sh --version | status STATE | serve STATE | halt STATE. The process itself answers, through a pipe.
VERSION=1.0
case ${1-} in
--version) echo "router $VERSION" && exit 0 ;;
halt) : >"$2/halted" && "$0" status "$2" >/dev/null && echo '{"latch": "disk", "trading_state": "HALTED"}'; exit ;;
status) # shellcheck disable=SC2016 # the inner shell expands them; nobody may be there to answer
    exec timeout 3 sh -c 'trap "rm -f \"$0.$$\"" EXIT && trap "exit 1" TERM && test -p "$0" && mkfifo "$0.$$" &&
        exec 3<>"$0.$$" && echo "$0.$$" >"$0" && read -r said <&3 && echo "$said"' "$2/ask" ;;
esac
exec 7<"$(readlink -f "$0")" # resolved once, and open as long as it runs: so the kernel can show it
release=$(sha256sum <&7) boot=$(cat /proc/sys/kernel/random/boot_id) ask=$2/ask
read -r stat <"/proc/$$/stat" && start=$(echo "${stat##*) }" | cut -d ' ' -f 20)
off='"flag_table": null, "wire": null, "armed": [], "epoch": 0, "reason": ""'
test -p "$ask" || mkfifo "$ask" && exec 8<>"$ask" && trap 'exit 0' TERM
while read -r answer <&8; do state=ACTIVE && [ ! -e "$2/halted" ] || state=HALTED
    [ ! -p "$answer" ] || printf '{"release": "%s", "version": "%s", "pid": %s, "start_ticks": %s, "boot_id": "%s", "trading_state": "%s", %s}\n' \
        "${release%% *}" "$VERSION" "$$" "$start" "$boot" "$state" "$off" 1<>"$answer"
done
