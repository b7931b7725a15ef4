"""What ``service.unit`` says is what the process has, and is proven with the rest."""

from __future__ import annotations

import pytest
import yaml

from .conftest import MARKER
from .workstation import BROKEN, NEW, OLD, UNIT, Workstation

pytestmark = pytest.mark.containers
_HOST = "router8"
_SHARED = "/srv/shared"
_UNIT = {
    "environment": {"TZ": "UTC", "SAID": 'a "b" 100% $HOME \\ {host}'},
    "limits": {"sigpending": 4321, "core": 0},
    "capabilities": ["net_bind_service"],
    "writable": [_SHARED],
    "after": ["cron.service"],
    "nice": 3,
}
_SHOWS = """
pid=$(systemctl show -p MainPID --value router)
tr '\\0' '\\n' </proc/$pid/environ | grep -e ^SAID= -e ^TZ=
grep -e 'pending signals' -e 'core file' /proc/$pid/limits | tr -s ' '
grep -e CapAmb -e CapBnd /proc/$pid/status
ps -o ni= -p $pid | tr -d ' '
"""


def test_p1_the_process_has_what_the_unit_is_given(desk: Workstation) -> None:
    path = desk.write_inventory("unit.yaml", [_HOST], waves=["rest"], service={"unit": _UNIT})
    refused = desk.prepare("-i", path)
    assert refused.code == 5, refused
    assert f"{_SHARED}, which service.unit.writable names, is not on this host" in refused.err
    desk.root(_HOST, f"mkdir -p {_SHARED} && chown router: {_SHARED}")
    try:
        assert desk.prepare("-i", path).code == 0
        deployed = desk.tool("deploy", "-i", path, NEW)
        assert deployed.code == 0, deployed
        shown = desk.root(_HOST, _SHOWS).splitlines()
        assert set(shown[:2]) == {"TZ=UTC", f'SAID=a "b" 100% $HOME \\ {_HOST}'}
        limits = {
            "Max core file size 0 0 bytes ",
            "Max pending signals 4321 4321 signals ",
        }
        assert set(shown[2:4]) == limits
        assert set(shown[4:6]) == {"CapBnd:\t0000000000000400", "CapAmb:\t0000000000000400"}
        assert shown[6:] == ["3"]
        assert desk.tool("status", "-i", path).code == 0
        # One who edits it on the host is found.
        desk.root(_HOST, f"sed -i s/PENDING=4321/PENDING=99/ {UNIT}; systemctl daemon-reload")
        changed = desk.tool("status", "-i", path)
        assert changed.code == 5, changed
        assert "unit file: expected" in changed.err
        assert desk.paste(changed).code == 0
        assert desk.tool("status", "-i", path).code == 0
    finally:
        plain = desk.write_inventory("plain.yaml", [_HOST], waves=["rest"])
        assert yaml.safe_load(plain.read_text())["service"].get("unit") is None
        assert desk.prepare("-i", plain).code == 0
        assert desk.tool("deploy", "-i", plain, NEW).code == 0
        desk.root(_HOST, f"rm -rf {_SHARED}")


def test_a_build_that_does_not_start_says_why_in_the_same_answer(desk: Workstation) -> None:
    path = desk.write_inventory("dies.yaml", [_HOST], waves=["rest"])
    words = "router: this build does not start here"
    began = desk.tool("deploy", "-i", path, OLD)
    assert began.code == 0, began
    desk.root(_HOST, f"touch {MARKER}")
    try:
        ended = desk.tool("deploy", "-i", path, BROKEN)
    finally:
        desk.root(_HOST, f"rm {MARKER}")
    assert ended.code == 4, ended
    assert "no main process; exit code 1" in ended.err
    assert f"it said last: {words}" in ended.err
    shown = desk.tool("logs", _HOST, "-i", path, "--json")
    assert shown.code == 0, shown
    assert any(words in line for line in shown.document["lines"])
    assert "is no host of this inventory" in desk.tool("logs", "router1", "-i", path).err
