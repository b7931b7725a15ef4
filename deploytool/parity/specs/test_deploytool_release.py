"""What ``deploytool verify`` asks of each host past its own agent, when no specs are named.

Another program (testinfra), another connection (OpenSSH) and another account's rights (the deploy
account, without sudo) see the same release on disk and, under systemd, a service that runs.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import pytest

FLEET = json.loads(os.environ["DEPLOYTOOL_SPEC"])
SYSTEMD = FLEET["supervisor"] == "systemd"


class OnDisk(NamedTuple):
    """What ``current`` leads to, and what lies there."""

    folder: str
    sha256: str
    mode: str
    owner: str


_SEEN: dict[str, OnDisk] = {}


@pytest.fixture
def on_disk(host: Any) -> OnDisk:
    """Seen once: each command is a round trip to the host."""
    name = host.backend.hostname
    if name not in _SEEN:
        current = f"{FLEET['roots'][name]}/current"
        file = f"{current}/{FLEET['service']}"
        said = host.check_output(
            "readlink %s && sha256sum <%s && stat -L -c '%%a %%U' %s", current, file, file
        )
        folder, digest, _, mode, owner = said.split()
        _SEEN[name] = OnDisk(folder, digest, mode, owner)
    return _SEEN[name]


def test_the_bytes_are_what_their_folder_is_named_for(on_disk: OnDisk) -> None:
    assert on_disk.folder.split("/")[-2:] == ["releases", on_disk.sha256]


def test_only_root_can_change_them(on_disk: OnDisk) -> None:
    assert int(on_disk.mode, 8) & 0o222 == 0
    if SYSTEMD:  # without it, a rehearsal's hosts belong to one account
        assert on_disk.owner == "root"


if SYSTEMD:

    def test_the_service_runs(host: Any) -> None:
        assert host.service(FLEET["service"]).is_running
