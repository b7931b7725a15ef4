"""What ``deploytool verify`` asks of each host past its own agent, when no specs are named.

Another program (testinfra), another connection (OpenSSH) and another account's rights (the deploy
account, without sudo) see the same release on disk and, under systemd, a service that runs.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

FLEET = json.loads(os.environ["DEPLOYTOOL_SPEC"])


def _current(host: Any) -> str:
    return f"{FLEET['roots'][host.backend.hostname]}/current"


def test_current_leads_to_a_release(host: Any) -> None:
    link = host.file(_current(host))
    assert link.is_symlink
    assert re.fullmatch(".*/releases/[0-9a-f]{64}", link.linked_to)


def test_its_bytes_are_what_its_folder_is_named_for(host: Any) -> None:
    digest = host.file(_current(host)).linked_to.rpartition("/")[2]
    artifact = host.file(f"{_current(host)}/{FLEET['service']}")
    assert artifact.sha256sum == digest


def test_only_root_can_change_it(host: Any) -> None:
    artifact = host.file(f"{_current(host)}/{FLEET['service']}")
    assert artifact.mode & 0o222 == 0
    if FLEET["supervisor"] == "systemd":  # without it, a rehearsal's hosts belong to one account
        assert artifact.user == "root"


if FLEET["supervisor"] == "systemd":

    def test_the_service_runs(host: Any) -> None:
        assert host.service(FLEET["service"]).is_running
