#!/bin/sh
# Makes a freshly unpacked Debian ($1: where its root is; empty for /) a bare host: no host key, no
# machine-id, no account of ours. Containers and virtual machines are both made by this script.
set -eu
root=$1

# Both kinds of key, made by the host itself when it first starts: a client must then pick the kind
# that is pinned, as with real hosts.
rm -f "$root"/etc/ssh/ssh_host_*
cat >"$root/etc/systemd/system/host-keys.service" <<'END_UNIT'
[Unit]
Description=Host keys of this machine
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key.pub

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ecdsa -N "" -f /etc/ssh/ssh_host_ecdsa_key
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
END_UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../host-keys.service "$root/etc/systemd/system/multi-user.target.wants/host-keys.service"
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
