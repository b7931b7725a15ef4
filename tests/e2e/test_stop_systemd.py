"""A stop under systemd: what is fenced comes back by no supervisor, reboot or deployment (P6)."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Trio
from .workstation import NEW, ROOT, Ended

pytestmark = [pytest.mark.containers, pytest.mark.slow]


def _alive(trio: Trio) -> str:
    """What runs a release on the victim, by the kernel."""
    script = f"ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c '{ROOT}/releases/' || true"
    return trio.hurt(script).strip()


def _start(trio: Trio, folder: Path) -> Ended:
    """Two people let it in again."""
    asked = trio.desk.tool(
        *("start", "-i", trio.inventory, "--host", trio.victim, "--reason", "mended"),
        *("--by", "rehearsal", "--out", folder),
    )
    assert asked.code == 0, asked
    key = trio.desk.containers.folder / "second_ed25519"
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", "start.deploytool", "-f", str(key),
         str(folder / f"{trio.victim}.request")],
        check=True, capture_output=True, timeout=20,
    )  # fmt: skip
    return trio.desk.tool("start", "-i", trio.inventory, "--request", folder)


def test_p6_what_is_fenced_stays_so_until_two_people_start_it(trio: Trio, tmp_path: Path) -> None:
    victim = trio.victim
    trio.hurt("kill -STOP $(systemctl show -p MainPID --value router)")
    stopped = trio.desk.tool(
        "stop", "-i", trio.inventory, "--host", victim, "--reason", "hung", "--json"
    )
    (row,) = stopped.document["hosts"]
    assert (row["end"], row["stopped"]) == ("DEAD", True), row
    assert [step["rung"] for step in row["steps"]][-3:] == ["fence", "kill", "look"]
    assert _alive(trio) == "0"
    time.sleep(1.5)  # the unit's RestartSec, and some
    assert _alive(trio) == "0", "its supervisor started it again"
    assert trio.hurt("systemctl is-enabled router || true").strip() == "masked"

    # Somebody takes the mask off: what is written in the state folder still holds.
    trio.hurt("systemctl unmask router; systemctl start router || true; sleep 0.5")
    assert _alive(trio) == "0", "the unit itself must not start what is fenced"
    prepared = trio.desk.prepare("-i", trio.inventory, "--host", victim)
    assert prepared.code == 0, prepared
    trio.desk.containers.kill(victim)
    trio.desk.containers.start(victim)
    trio.hurt("systemctl is-system-running --wait >/dev/null || true; sleep 0.5")
    assert _alive(trio) == "0", "a reboot brought it back"
    refused = trio.deploy(NEW)
    assert refused.code == 3, refused
    assert _alive(trio) == "0", "a deployment brought it back"

    began = _start(trio, tmp_path / "asked")
    assert began.code == 0, began
    assert trio.hurt("systemctl is-active router").strip() == "active"
    assert trio.hurt("systemctl is-enabled router").strip() == "enabled"
    assert trio.status().code == 0


def test_p6_what_was_halted_comes_up_halted_whatever_its_account_did_to_its_latch(
    trio: Trio, tmp_path: Path
) -> None:
    def stop() -> None:
        words = ("--host", trio.victim, "--reason", "drill", "--json")
        (row,) = trio.desk.tool("stop", "-i", trio.inventory, *words).document["hosts"]
        assert row["end"] == "HALTED", row

    stop()
    state = f"{ROOT}/state/service"
    main = trio.hurt("systemctl show -p MainPID --value router").strip()
    trio.hurt(f"rm {state}/latch.json; kill -KILL {main}")
    as_it = "setpriv --reuid=router --regid=router --clear-groups"
    status = f"{as_it} {ROOT}/current/router status --json --state {state}"
    said = trio.hurt(f"until {status}; do sleep 0.2; done 2>/dev/null")
    assert f'"pid": {main}' not in said
    assert '"trading_state": "HALTED"' in said, said
    stop()  # the router has a latch of another name now: the stop that is ended names it
    began = _start(trio, tmp_path / "asked")
    assert began.code == 0, began
    assert '"trading_state": "ACTIVE"' in trio.hurt(status)


_WITNESS = """
import json, sys, time
print(json.dumps({"taken": time.time(), "last_child": dict.fromkeys(sys.argv[1:])}))
"""


@pytest.mark.parametrize("stays", [True, False])
def test_p6_what_else_has_the_service_s_account_is_named(
    trio: Trio, tmp_path: Path, *, stays: bool
) -> None:
    """It may have the service's login at the market: the fenced host is not called silent."""
    names = list(trio.names)
    command = [sys.executable, "-c", _WITNESS, *names]
    path = trio.desk.write_inventory("witnessed.yaml", names, silence={"command": command})
    account = trio.hurt("systemctl show -p User --value router").strip()
    assert account not in {"", "root"}
    as_it = f"setpriv --reuid={account} --regid={account} --clear-groups"
    # It is of no release root, and of no unit.
    pid = trio.hurt(f"cd /; setsid {as_it} sleep 600 </dev/null >/dev/null 2>&1 & echo $!").strip()
    if not stays:
        trio.hurt(f"kill {pid}")
    trio.hurt("kill -STOP $(systemctl show -p MainPID --value router)")
    stopped = trio.desk.tool(
        "stop", "-i", path, "--host", trio.victim, "--reason", "hung", "--json"
    )
    (row,) = stopped.document["hosts"]
    assert (row["end"], row["stopped"], row["silent"]) == ("DEAD", True, not stays), row
    named = f"process {pid} /usr/bin/sleep runs there and may send"
    assert (named in row["silence"]) is stays, row
    assert stopped.code == (6 if stays else 0), stopped
    if stays:
        trio.hurt(f"kill {pid}")  # a stop has left it alone: it is not of the service
    began = _start(trio, tmp_path / "asked")
    assert began.code == 0, began


_ASK = """
mv /usr/bin/python3 /usr/bin/python3.kept
printf '#!/bin/sh\\nexec sleep 600\\n' >/usr/bin/python3
chmod 755 /usr/bin/python3
for verb in latch halt_release halt; do
    printf 'deploytool/2 ab12 %s\\n{}\\n' $verb | timeout 1 AGENT || true
    sleep 0.5
    [ -e ROOT/state/service/latch.json ] && echo "latched $verb" || echo "not $verb"
done
mv -f /usr/bin/python3.kept /usr/bin/python3
"""


def test_p6_the_service_is_signalled_before_python_starts(trio: Trio, tmp_path: Path) -> None:
    agent = "/usr/local/libexec/deploytool/router/helper"
    said = trio.hurt(_ASK.replace("AGENT", agent).replace("ROOT", ROOT))
    shown = [line for line in said.splitlines() if line.startswith(("latched ", "not "))]
    assert shown == ["not latch", "not halt_release", "latched halt"], said
    # The artifact has named its latch by then: the stop writes down that one.
    stopped = trio.desk.tool(
        "stop", "-i", trio.inventory, "--host", trio.victim, "--reason", "runaway", "--json"
    )
    (row,) = stopped.document["hosts"]
    assert (row["end"], row["stopped"]) == ("HALTED", True), row
    began = _start(trio, tmp_path / "asked")
    assert began.code == 0, began
