#!/bin/sh
# Lets the fleet's admin key into a bare host and gives the router its configuration; prints the
# host's public keys. Runs as root, the same on containers and on virtual machines.
#   $1: the admin's public key; $2: the release root; standard input: the router's configuration.
# All else (accounts, folders, unit, rights) is what "deploytool host prepare" does on any host.
set -eu
umask 022
mkdir -p /root/.ssh
chmod 0700 /root/.ssh
printf '%s\n' "$1" >/root/.ssh/authorized_keys
mkdir -p "$2/etc"
cat >"$2/etc/router.json"
tries=0
until [ -s /etc/ssh/ssh_host_ed25519_key.pub ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { echo 'host keys did not appear within 30 s' >&2; exit 1; }
    sleep 0.1
done
cat /etc/ssh/ssh_host_*_key.pub
