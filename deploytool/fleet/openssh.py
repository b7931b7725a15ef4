"""What every OpenSSH client of ours is told before it reads a person's own configuration.

This is the one place that decides whom SSH trusts and how it logs in. ``ssh`` takes the first value
that it finds for an option. So each client gets a configuration that begins with these settings and
then includes the person's own: ``stop`` and the specs run ``ssh`` with it, and the routes of every
other command are what ``ssh -G`` makes of it. ``ssh`` hands the configuration on to the client that
it starts for each jump host, so the same holds at every hop.

``stop`` imports this, so it imports next to nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

from deploytool.fleet.paths import PlainNames

_TRUST = (
    ("StrictHostKeyChecking", "yes"),
    ("GlobalKnownHostsFile", "/dev/null"),
    ("KnownHostsCommand", "none"),
    ("VerifyHostKeyDNS", "no"),
    ("NoHostAuthenticationForLocalhost", "no"),
    ("CheckHostIP", "no"),
    ("UpdateHostKeys", "no"),
    # Leaves out host certificates. With a list that only takes away, ssh still asks first for the
    # types of key that are pinned; a list of the person's own would hide a pinned type.
    ("HostKeyAlgorithms", "-*-cert-v01@openssh.com"),
)
"""The pinned keys are trusted, and nothing else is: no other file, command, DNS record or CA."""
_LOGIN = (
    ("BatchMode", "yes"),
    ("PubkeyAuthentication", "yes"),
    ("PreferredAuthentications", "publickey"),
    ("PasswordAuthentication", "no"),
    ("KbdInteractiveAuthentication", "no"),
    ("HostbasedAuthentication", "no"),
    ("GSSAPIAuthentication", "no"),
    ("AddKeysToAgent", "no"),
)
"""Only keys log in, and no client asks a question."""
_SESSION = (
    ("SessionType", "default"),
    ("RemoteCommand", "none"),
    ("RequestTTY", "no"),
    ("StdinNull", "no"),
    ("ForkAfterAuthentication", "no"),
    ("PermitLocalCommand", "no"),
    ("ControlMaster", "no"),
    ("ControlPath", "none"),
    ("ClearAllForwardings", "yes"),
    ("ForwardAgent", "no"),
    ("ForwardX11", "no"),
    ("Tunnel", "no"),
    ("Compression", "no"),
    ("LogLevel", "ERROR"),
)
"""Nothing of a person's own changes what is run, and nothing is forwarded."""
KEEPALIVE_S = 5
"""An open connection carries something at least so often, in seconds.

Firewalls forget a silent one after minutes, and sshd's ``ChannelTimeout`` may be as short as its
administrator likes. That one counts only what the agent is sent: an empty line, which it ignores.
"""
ALIVE = (("ServerAliveInterval", str(KEEPALIVE_S)), ("ServerAliveCountMax", "3"))
"""A peer that is silent for 15 s is gone."""
TURNED_AWAY = (
    "it hangs up before its greeting, as sshd does when too many log in at once (MaxStartups)"
)
UNVERIFIED = (
    ("StrictHostKeyChecking", "no"),
    ("UserKnownHostsFile", "/dev/null"),
    ("IdentitiesOnly", "yes"),
)
"""Only for a halt to a host for which no usable file pins a key: whatever answers gets nothing but
the stop, no secret can leak to it, and nothing that it answers is believed (docs/stop.md)."""

_SYSTEM_CONFIG = "/etc/ssh/ssh_config"
_CONFIG_BYTES_AT_MOST = 4 * 1024 * 1024


def settings(known_hosts: str, connect_timeout_s: float) -> tuple[tuple[str, str], ...]:
    """The options of every client, as pairs of keyword and value.

    ``known_hosts``: the file of the pinned keys, by a plain name (``PlainNames``).
    """
    timeout = ("ConnectTimeout", str(max(1, round(connect_timeout_s))))
    return (*_TRUST, ("UserKnownHostsFile", known_hosts), *_LOGIN, *_SESSION, *ALIVE, timeout)


def as_words(options: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """The same for a command line."""
    return tuple(word for key, value in options for word in ("-o", f"{key}={value}"))


def configuration(options: tuple[tuple[str, str], ...], own: str | None, plain: PlainNames) -> str:
    """Gives the plain name of a configuration: ``options``, then the person's own.

    ``own``: the file that the inventory names (``ssh.config_file``). None: the files that ``ssh``
    reads by itself. It is good for as long as ``plain`` lives.

    Raises:
        OSError: this machine has no room for it.
    """
    lines = [f"{key} {value}" for key, value in options]
    if own is None:
        lines += ["Include ~/.ssh/config", f"Include {_SYSTEM_CONFIG}"]
    elif _may_be_included(own):
        lines.append(f"Include {plain.of(own)}")
    else:
        lines.append(_text(own))
    return plain.holding("\n".join([*lines, ""]))


def _may_be_included(path: str) -> bool:
    """Whether ``ssh`` includes it: it refuses what others may write to, though not as ``-F``."""
    try:
        found = os.stat(path)  # noqa: PTH116 pathlib would read it twice
    except OSError:
        return True  # ssh passes over a file that is not there
    return found.st_uid in {0, os.getuid()} and not found.st_mode & 0o022


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(_CONFIG_BYTES_AT_MOST).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
