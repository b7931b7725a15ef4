"""What faults on a host are made of: shell scripts that bring them, and scripts that lift them.

They run as root on the host itself, with ROOT, NAME, HOST, PORT, OLD, NEW, KEYS, HOST_KEYS, AGENT
and ``main_pid`` set. A lift takes away the cause; mending what it damaged is deploytool's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    """How a fault is brought and lifted. ``outside``: needs this machine's right to mount."""

    bring: str
    lift: str = ":"
    outside: bool = False


def _interpreter(case: str, before: str = ":") -> Script:
    """The first python3 on PATH is no longer Python's own: the service is started through it."""
    bring = f"""
{before}
cat >/usr/local/bin/python3.new <<'END'
#!/bin/sh
case "${{3:-}}" in
{case}
esac
exec /usr/bin/python3 "$@"
END
chmod 0755 /usr/local/bin/python3.new && mv /usr/local/bin/python3.new /usr/local/bin/python3
"""
    return Script(bring, "rm -f /usr/local/bin/python3")


def _drop_in(folder: str, lines: str, more_lift: str = ":") -> Script:
    path = f"{folder}/$NAME.service.d/rehearsal.conf"
    bring = f"""
mkdir -p "{folder}/$NAME.service.d"
{{ {lines}; }} >"{path}" && systemctl daemon-reload
"""
    return Script(bring, f'rm -f "{path}"; systemctl daemon-reload; {more_lift}')


_KILL_ALL = """
set +f
for fd in /proc/[0-9]*/fd/*; do
    case $(readlink "$fd") in "$ROOT/releases/"*)
        pid=${fd#/proc/}; kill -KILL "${pid%%/*}" 2>/dev/null ;;
    esac
done
:"""

# The directory that ls names first is the release that came last.
_NEWEST = 'newest=$(ls -td "$ROOT"/releases/*/ | head -n 1)$NAME'

SCRIPTS: Mapping[str, Script] = {
    "auth-refused": Script('mv "$KEYS" "$KEYS.away"', 'mv "$KEYS.away" "$KEYS"'),
    "host-key-changed": Script(
        """
for key in $HOST_KEYS; do
    mv "$key" "$key.away"
    type=ed25519; case $key in *ecdsa*) type=ecdsa ;; esac
    ssh-keygen -q -t $type -N '' -f "$key.other" && mv "$key.other" "$key"
done
""",
        'for key in $HOST_KEYS; do mv "$key.away" "$key"; rm -f "$key.other.pub"; done',
    ),
    "shell-noise": Script(
        r"""
cp -p "$KEYS" "$KEYS.away"
noise='command="echo Welcome; eval \"$SSH_ORIGINAL_COMMAND\"; echo deploytool 00 end ok" '
while IFS= read -r line; do printf '%s%s\n' "$noise" "$line"; done <"$KEYS.away" >"$KEYS"
""",
        'mv "$KEYS.away" "$KEYS"',
    ),
    "sudo-asks": Script(
        "mv /etc/sudoers.d/deploytool-$NAME /root/sudoers.away",
        "mv /root/sudoers.away /etc/sudoers.d/deploytool-$NAME",
    ),
    "sessions-killed": Script(
        """
first=$(systemctl show -p MainPID --value ssh)
for pid in $(pidof sshd); do [ "$pid" = "$first" ] || kill -KILL "$pid" || :; done
"""
    ),
    "bytes-changed": Script(f"{_NEWEST}; printf '!' >>\"$newest\""),
    # The releases move to a small disk that is full; what runs holds the old files open.
    "disk-full": Script(
        """
mkdir -p /mnt/small && mount -t tmpfs -o size=4m small /mnt/small
cp -a "$ROOT/releases/." /mnt/small/ && chmod 0755 /mnt/small
dd if=/dev/zero of=/mnt/small/.fill bs=64k status=none 2>/dev/null
mount --bind /mnt/small "$ROOT/releases"
""",
        'umount -l "$ROOT/releases"; umount -l /mnt/small',
        outside=True,
    ),
    # The mounts stay when the fault is lifted: what was started under them must keep its paths.
    # What the service itself writes all day is a mount of its own, or the other would stay busy.
    "disk-read-only": Script(
        """
cut -d' ' -f5 /proc/self/mountinfo | grep -qx "$ROOT" ||
    { mount --bind "$ROOT" "$ROOT" && mount --bind "$ROOT/state/service" "$ROOT/state/service"; }
# A disk that is being written to is let finish what it writes.
tries=100
until mount -o remount,ro,bind "$ROOT" 2>/dev/null; do
    tries=$((tries - 1)); [ $tries -gt 0 ] || exit 1; sleep 0.05
done
""",
        'mount -o remount,rw,bind "$ROOT"',
        outside=True,
    ),
    "rights-lost": Script('chmod 0644 "$AGENT"', 'chmod 0755 "$AGENT"'),
    "agent-changed": Script(
        'cp -p "$AGENT" "$AGENT.away"; echo "# changed" >>"$AGENT"',
        'mv "$AGENT.away" "$AGENT"',
    ),
    "config-changed": Script(
        'cp -p "$ROOT/etc/router.json" "$ROOT/etc/away"; echo >>"$ROOT/etc/router.json"',
        'mv "$ROOT/etc/away" "$ROOT/etc/router.json"',
    ),
    "wont-start": _interpreter("serve) exit 1 ;;"),
    "dies-young": _interpreter("serve) (sleep 2; kill -KILL $$) & ;;"),
    "version-lies": _interpreter('--version) echo "router 0.0"; exit ;;'),
    "status-stale": _interpreter(
        "status) cat /run/stale.json; exit ;;",
        '"$ROOT/current/$NAME" status --json --state "$ROOT/state/service" >/run/stale.json',
    ),
    "crashes": Script('kill -KILL "$(main_pid)"'),
    "restarted": Script('systemctl restart "$NAME"'),
    "silent": Script('kill -STOP "$(main_pid)"', 'kill -CONT "$(main_pid)" 2>/dev/null || :'),
    "old-survives": _drop_in(
        "/run/systemd/system",
        "printf '[Service]\\nKillMode=none\\nSendSIGKILL=no\\n'",
        f'systemctl stop "$NAME"; {_KILL_ALL}; systemctl reset-failed "$NAME"; :',
    ),
    "second-copy": Script(
        """
other=$ROOT/releases/$NEW; [ -e "$other" ] || other=$ROOT/releases/$OLD
mkdir -p /run/second
systemd-run --quiet --unit=second-copy --setenv=LANG=C "$other/$NAME" serve --state /run/second \
    --config "$ROOT/etc/router.json" --listen 127.0.0.1:7999 --host "$HOST"
sleep 0.5
""",
        "systemctl stop second-copy; systemctl reset-failed second-copy 2>/dev/null || :",
    ),
    "port-kept": Script(
        """
systemctl stop "$NAME"
systemd-run --quiet --unit=port-keeper /usr/bin/python3 -c \
    'import socket,sys,time; s=socket.create_server(("",int(sys.argv[1]))); time.sleep(999)' "$PORT"
sleep 0.3
""",
        'systemctl stop port-keeper; systemctl start "$NAME" || :',
    ),
    "drop-in": _drop_in(
        "/etc/systemd/system",
        "echo '[Service]'; echo ExecStart=; "
        'sed -n "/^ExecStart=/s,/current/,/releases/$OLD/,p" '
        '"/usr/local/lib/systemd/system/$NAME.service"',
    ),
    "link-switched": Script(
        """
for other in "$OLD" "$NEW" none; do
    [ "$(readlink "$ROOT/current")" != "releases/$other" ] || continue
    if [ "$other" = none ]; then rm -f "$ROOT/current"; break; fi
    [ -e "$ROOT/releases/$other" ] || continue
    ln -sfn "releases/$other" "$ROOT/.by-hand" && mv -T "$ROOT/.by-hand" "$ROOT/current"
    break
done
"""
    ),
}
