# The last rungs of a stop, in the shell alone: they need no Python, no mutex and no other program
# than coreutils and grep. Format deploytool/1, so that a stop of any release works on this host.
# What keeps a change under way from reviving it is written first: STATE/halted and STATE/fenced.
# shellcheck shell=sh disable=SC2034,SC2154 # the settings are put in front, the caller comes after

say() { printf '%s\n' "$*"; }
finish() { say "deploytool $nonce end $*"; }

read_keys() { # -> latch by reason since seconds, checked; fails where the request is another
    latch='' by='' reason='' since='' seconds='' lines=0
    while [ $((lines = lines + 1)) -le 16 ] && IFS=' ' read -r key value; do
        case $key in .) return 0 ;; esac
        [ ${#value} -le 200 ] || return 1
        case $value in '' | *[!A-Za-z0-9@._:+-]*) return 1 ;; esac
        case $key:$value in
        latch:*[!0-9a-f]* | seconds:*[!0-9]* | seconds:???* | seconds:0?* | since:*[!0-9]* | since:????????????????*) return 1 ;;
        latch:* | by:* | reason:* | since:* | seconds:*) eval "$key=\$value" ;; # checked, and not evaluated
        *) return 1 ;;
        esac
    done
    return 1
}

group_members() { # NAME -> GROUP, its folder; MEMBERS, its processes and those of all groups below; fails where there are none
    MEMBERS='' groups=1000
    for GROUP in "/sys/fs/cgroup$1" "/sys/fs/cgroup/systemd$1" "/sys/fs/cgroup/unified$1" ''; do
        [ ! -e "$GROUP/cgroup.procs" ] || break
    done
    [ -n "$1" ] && [ -n "$GROUP" ] || return 1
    set +f
    walk_group "$GROUP"
    set -f
    [ -n "$MEMBERS" ]
} 2>/dev/null

walk_group() { # FOLDER: adds what is in it to MEMBERS; no other program is started: this stands before the first signal
    while [ ${#MEMBERS} -lt 65536 ] && IFS= read -r member; do
        case $member in 0 | 1) ;; *) MEMBERS="$MEMBERS$member " ;; esac # 0 is of another namespace, and to kill(2) a whole group
    done <"$1/cgroup.procs"
    for below in "$1"/*/ "$1"/.[!.]*/ "$1"/..?*/; do # every folder in there is a group, whatever it is called
        [ -e "$below/cgroup.procs" ] && [ $((groups = groups - 1)) -gt 0 ] && walk_group "${below%/}"
    done
} 2>/dev/null

services() { # -> SERVICES: the control group of systemd's services, beside that of init, which may be below a container's
    SERVICES=/system.slice
    while IFS= read -r line; do
        case $line in *:name=systemd:/*/init.scope | 0::/*/init.scope)
            SERVICES=/${line#*:*:/} SERVICES=${SERVICES%/init.scope}/system.slice ;;
        esac
    done </proc/1/cgroup
} 2>/dev/null

read_stat() { # PID -> stat, in one line: a process may have line breaks in its name
    stat=''
    while IFS= read -r part; do stat="$stat$part "; done <"/proc/$1/stat"
    [ -n "$stat" ]
} 2>/dev/null

ended() { # STAT: none of its threads runs any more; the first one, whose state it tells, may end before the others
    IFS=' '
    # shellcheck disable=SC2086 # the fields are split on purpose
    set -- ${1##*) }
    case $1 in [ZX]) [ "${18}" -le 1 ] ;; *) false ;; esac
} 2>/dev/null

members() { # -> MEMBERS: the service's processes by its supervisor's own list; GROUP, its folder
    MEMBERS='' GROUP='' groups=1
    if [ "$SUPERVISOR" = process ]; then
        IFS=' ' read -r member start 2>/dev/null <"$STATE/pid" || return 0
        case $member in '' | 0* | 1 | *[!0-9]*) return 0 ;; esac
        read_stat "$member" || return 0
        ended "$stat" && return 0
        # shellcheck disable=SC2086
        set -- ${stat##*) }
        [ "${20}" != "$start" ] || MEMBERS=$member
        return 0
    fi
    services
    group_members "$SERVICES/$NAME.service" && return 0
    usual=$GROUP unread=$groups
    shown=$(timeout -k 1 2 systemctl show "$NAME.service" -p ControlGroup --value 2>/dev/null) || no_such_group || unread=0
    group_members "$shown" || GROUP=${GROUP:-$usual}
    [ "$unread" -gt 0 ] || groups=0
}

no_such_group() { # fails where a process is in a group of this name, so that only systemd could say which is meant
    set +f
    named=$(timeout -k 1 2 grep -lsE "/${NAME}[.]service(/|\$)" /proc/[0-9]*/cgroup)
    cut=$?
    set -f
    for member in $named; do
        member=${member#/proc/}
        ! read_stat "${member%/cgroup}" || ended "$stat" || return 1
    done
    [ $cut -lt 124 ]
} 2>/dev/null

in_service() { # PID: whether it is still the service's, since a number can be given to another process
    while IFS= read -r line; do
        case $line in */"$NAME.service" | */"$NAME.service"/*) return 0 ;; esac
    done <"/proc/$1/cgroup"
    [ "$SUPERVISOR" = process ] # members has compared its start time
} 2>/dev/null

signal_members() { # tells MEMBERS to halt, by the artifact's own signal; fails where none of them was told
    told='' tries=500 # what else there is of a service that breeds hears it from the agent, or is killed; no stop waits for it
    for member in $MEMBERS; do
        [ $((tries = tries - 1)) -ge 0 ] || break
        in_service "$member" && kill -s "$HALT_SIGNAL" "$member" 2>/dev/null && told=yes
    done
    [ -n "$told" ]
}

ours() { # -> OURS: MEMBERS, and all that executes a release here or, as the service's account, holds one open
    # -> HELD: who else holds one open, and may be interpreting it; WHOLE, unless cut short; BORN, when this look began
    OURS=" $MEMBERS " HELD=' ' pid='' WHOLE=yes BORN=$(started self) owner=''
    [ "$groups" -gt 0 ] || WHOLE=''
    IFS=' ' read -r _ _ owner _ <<END
$(timeout -k 1 2 ls -ldn "$STATE/service" 2>/dev/null)
END
    set +f # what is listed has a bound of time, and names are shown in one line each; -n asks no directory of accounts
    IFS='
'
    set --
    outlived=' ' itself=''
    for first in $({ timeout -k 1 3 grep -ls '^State:.[ZX]' /proc/[0-9]*/status || [ $? -lt 124 ] || echo cut-short; } 2>/dev/null); do
        case $first in cut-short) WHOLE='' && continue ;; esac
        pid=${first#/proc/} pid=${pid%/status}
        if read_stat "$pid" && ! ended "$stat"; then # its first thread has ended, and it goes on: the others show it
            outlived="$outlived$pid "
            set -- "$@" "/proc/$pid/task"/*/exe "/proc/$pid/task"/*/fd
        fi
    done
    IFS='
'
    for line in $({ timeout -k 1 3 ls -lnq /proc/[0-9]*/exe /proc/[0-9]*/fd "$@" 2>&1 || [ $? -lt 124 ] || echo cut-short; } |
        grep -F -e '/fd:' -e " -> $ROOT/releases/" -e cut-short -e "/proc/$$/exe -> " -e '/task/' -e ': Permission denied'); do
        # A line is "RIGHTS ... LINK -> TARGET": whatever a target is called, the link is what stands before the first arrow.
        link=${line%% -> *} target=${line#* -> }
        case $line in
        cut-short) WHOLE='' && continue ;;
        ls:*"'/proc/1/"*) continue ;; # init is not the service
        ls:*': Permission denied') [ "$SUPERVISOR" = process ] || WHOLE='' && continue ;;
        ls:*) continue ;;
        /proc/*/fd:) pid=${line#/proc/} pid=${pid%%/*} && continue ;;
        *' -> '*) ;;
        *) continue ;; # what it leads to was gone
        esac
        case $link in
        *" /proc/"*/exe)
            pid=${link##* /proc/} pid=${pid%%/*} acts=yes
            case $outlived in *" $pid "*) outlived="${outlived%%" $pid "*} ${outlived#*" $pid "}" ;; esac
            [ "$pid" != $$ ] || itself=yes
            ;;
        *) acts='' ;;
        esac
        case $acts:$target in
        *:"$ROOT/releases/.incoming."*) continue ;;
        yes:"$ROOT/releases/"*) ;;
        :"$ROOT/releases/"*"/$NAME" | :"$ROOT/releases/"*"/$NAME (deleted)") ;;
        *) continue ;;
        esac
        case $OURS$HELD in *" $pid "*) continue ;; esac
        case $pid in 1 | "$$") ;; *) if [ -n "$acts" ] || runs_as "$pid" "$owner"; then OURS="$OURS$pid "; else HELD="$HELD$pid "; fi ;; esac
    done
    set -f
    IFS=' '
    # A list that lacks this very shell, or a process of which no thread was shown, is not whole.
    case $itself$outlived in 'yes ') ;; *) WHOLE='' ;; esac
}

started() { # PID: its start, in the unit of proc_pid_stat(5); "self" is the shell of a substitution
    read_stat "$1" || return 1
    IFS=' '
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    printf '%s' "${20}"
} 2>/dev/null

runs_as() { # PID OWNER: whether one of its accounts is this one
    while IFS='	' read -r key ids; do
        case $key in Uid:) ;; *) continue ;; esac
        case "	$ids	" in *"	$2	"*) return 0 ;; *) return 1 ;; esac
    done <"/proc/$1/status"
    return 1
} 2>/dev/null

fence() { # first so that neither the supervisor nor a reboot revives it
    members
    waits=0 UNTIL=0
    in_time || UNTIL=$((now + 3))
    case $(cat "$STATE/halted" 2>/dev/null) in
    *"latch $latch"*) ;; # it was told to halt, and what the artifact calls its own latch is kept there
    *)
        IFS=' '
        [ -z "$HALT_SIGNAL" ] || ! signal_members || waits=20
        printf 'latch %s\nby %s\nreason %s\nsince %s\n' "$latch" "$by" "$reason" "$since" 2>/dev/null >"$STATE/.halted.$latch.$$" &&
            mv -fT "$STATE/.halted.$latch.$$" "$STATE/halted" 2>/dev/null
        ;;
    esac
    fenced=yes
    printf '' 2>/dev/null >"$STATE/fenced" || fenced=no # not ":", whose failed redirection would end a shell
    if [ "$SUPERVISOR" = systemd ]; then
        masked=yes
        timeout -k 1 3 systemctl mask --quiet "$NAME.service" 2>/dev/null ||
            ln -sfn /dev/null "/etc/systemd/system/$NAME.service" 2>/dev/null || # without systemd's answer it holds from the next boot
            { masked=runtime && timeout -k 1 3 systemctl mask --runtime --quiet "$NAME.service" 2>/dev/null; } || masked=no
        say "masked $masked"
    fi
    [ $fenced = no ] || timeout -k 1 2 sync "$STATE/halted" "$STATE/fenced" "$STATE" 2>/dev/null || fenced=unsynced
    while [ $waits -gt 0 ] && in_time && members && [ -n "$MEMBERS" ]; do # so long it has to cancel before it is killed
        waits=$((waits - 1))
        sleep 0.1
    done
    say "fenced $fenced"
}

kill_these() { # PID...
    for pid in "$@"; do
        kill -s KILL "$pid" 2>/dev/null || continue
        case $KILLED in *" $pid "*) ;; *) KILLED="$KILLED$pid " killed=$((killed + 1)) ;; esac
    done
}

kill_seen() { # PID...: unless the number was given to another process since that look began
    for seen in "$@"; do
        begun=$(started "$seen") && [ "$begun" -le "$BORN" ] && kill_these "$seen"
    done
}

kill_group() { # what the control group names, all of it at once where that can be, and what is born in it meanwhile
    members
    passes=20
    [ -z "$GROUP" ] || echo 1 2>/dev/null >"$GROUP/cgroup.kill" || echo 1 2>/dev/null >"$GROUP/cgroup.freeze" || :
    while [ -n "$MEMBERS" ] && [ $((passes = passes - 1)) -ge 0 ]; do
        for member in $MEMBERS; do
            ! in_service "$member" || kill_these "$member"
        done
        [ $passes -ge 15 ] || in_time || break
        members
    done
    [ -z "$GROUP" ] || echo 0 2>/dev/null >"$GROUP/cgroup.freeze" || :
}

in_time() { # whether it is before UNTIL, in seconds since boot
    IFS=. read -r now rest </proc/uptime
    IFS=' '
    [ "$now" -lt "$UNTIL" ]
}

kill_all() { # the service first, which needs no look at the host; then strays of this root, until a look finds none
    UNTIL=0 killed=0 KILLED=' ' quiet=0
    in_time || UNTIL=$((now + seconds)) # it reads the clock
    while :; do
        kill_group
        ours
        # shellcheck disable=SC2086
        set -- $OURS
        kill_seen "$@"
        if [ $#$WHOLE = 0yes ]; then quiet=$((quiet + 1)); else quiet=0; fi
        # What starts strays again and again is without one for a moment.
        if [ $quiet -ge 2 ] || [ $quiet$killed = 10 ]; then break; fi
        in_time || break
        sleep 0.1
    done
    say "killed $killed"
    latch_artifact
}

# An artifact that can latch without running comes up halted when it is let in again, and is asked by this very file for
# that: it may not have been told before, or was too busy. Nothing waits for its success.
latch_artifact() {
    printf 'deploytool/2 %s halt\n{"latch":"%s","by":"%s","reason":"%s","since":%s,"seconds":1}\n' \
        "$nonce" "$latch" "$by" "$reason" "$since" | timeout -k 1 2 sh "$0" >/dev/null 2>&1 || :
}

still_populated() { # whether the kernel counts processes in GROUP that no list of it named
    while IFS= read -r line; do
        case $line in 'populated 1') return 0 ;; esac
    done <"$GROUP/cgroup.events"
    return 1
} 2>/dev/null

may_send() { # what else runs as the service's account, and is not gone in a moment
    case $SUPERVISOR:$owner in systemd:[1-9]*) ;; *) return 0 ;; esac
    set +f
    others=$(timeout -k 1 2 grep -lsE "^Uid:.*[[:space:]]$owner([[:space:]]|\$)" /proc/[0-9]*/status)
    [ $? -lt 124 ] || quiet=0
    set -f
    [ -z "$others" ] || sleep 0.3
    for other in $others; do
        other=${other#/proc/} other=${other%/status}
        case $OURS$HELD in *" $other "*) continue ;; esac
        begun=$(started "$other") && [ "$begun" -le "$BORN" ] && read_stat "$other" && ! ended "$stat" && say "may $other"
    done
} 2>/dev/null

look() { # what is alive of the service and of this release root, who listens, and what stops it
    seen='' passed='' quiet=0 looks=4 # two of them have to find nothing: see kill_all
    while [ -z "$seen" ] && [ $quiet -lt 2 ] && [ $((looks = looks - 1)) -ge 0 ]; do
        [ $looks -eq 3 ] || sleep 0.1
        members
        ours
        acted=''
        for pid in $OURS $HELD; do
            read_stat "$pid" || { acted=$pid passed=$pid && continue; } # it has gone since it was listed
            ended "$stat" || { seen=yes && say "alive $pid"; }
        done
        ! still_populated || WHOLE=''
        case $acted$WHOLE in yes) quiet=$((quiet + 1)) ;; *) quiet=0 ;; esac
    done
    [ -n "$seen" ] || [ $quiet -ge 2 ] || [ -z "$passed" ] || { seen=yes && say "alive $passed"; } # one after the other
    may_send
    listens=$({ timeout -k 1 3 cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || [ $? -lt 124 ] || echo cut-short; } |
        grep -F -e ' 0A ' -e cut-short)
    for port in $PORTS; do
        hex=:$(printf '%04X' "$port") nowhere=00000000
        case $listens in *"$hex $nowhere:0000 0A "* | *"$hex $nowhere$nowhere$nowhere$nowhere:0000 0A "*) seen=yes && say "open $port" ;; esac
    done
    case $listens in *cut-short*) quiet=0 ;; esac
    [ -n "$seen" ] || [ $quiet -ge 2 ] || refuse cannot-look 'not every process of this host could be inspected'
    [ ! -e "$STATE/halted" ] || say "halted $(tr '\n' ' ' <"$STATE/halted")"
    [ ! -e "$STATE/fenced" ] || say fenced
}
