"""P1: a fleet is not proven because its files are right: what else is on a host can act as it.

Each host gets one state, planted as root past SSH. ``status`` must say of each what it is, by the
rule that finds it; ``deploy`` refuses; what is no reason to doubt a host is told, and does not
count. What is advised is done until the fleet is in parity again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from .test_lies import Lie, follow
from .workstation import NAMES, NEW, OLD, ROOT, Ended, Workstation

pytestmark = pytest.mark.containers

VENUE, PORT = "router8", 4001
PROBE = "/usr/local/bin/venue-probe"
SERVE = f"--config {ROOT}/etc/router.json --listen 0.0.0.0:7999 --host @HOST@"
LISTENER = (
    "import socket,time; s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1);"
    f"s.bind(('0.0.0.0',{PORT})); s.listen(9); open('/tmp/venue','w'); time.sleep(900)"
)


def runs_copy(program: str, before: str = "", after: str = "", account: str = "router") -> str:
    """Starts a build that is not the service's own, and waits until it says that it trades."""
    return f"""
mkdir -p /tmp/stray /tmp/copies && chown {account}: /tmp/stray && cd /tmp/copies
{before}
as_it() {{ setpriv --reuid={account} --regid={account} --clear-groups "$@"; }}
as_it setsid {program} serve --state /tmp/stray {SERVE} >/tmp/stray/log 2>&1 </dev/null &
until as_it {ROOT}/releases/@OLD@/router status --json --state /tmp/stray | grep -q ACTIVE
do sleep 0.1; done
{after}
"""


def beside(account: str, program: str) -> str:
    """Starts a program as an account, and leaves it to itself."""
    as_it = f"setpriv --reuid={account} --regid=nogroup --clear-groups"
    return f"{as_it} setsid {program} >/dev/null 2>&1 </dev/null & sleep 0.3\n"


CONNECTED = f"-c 'exec 3<>/dev/tcp/@VENUE@/{PORT}; read line <&3'"
PROCESSES: Mapping[str, tuple[str, str]] = {
    "router1": ("acts", runs_copy("/tmp/copies/orders", f"cp {ROOT}/releases/@NEW@/router orders")),
    "router2": (
        "acts",
        runs_copy(
            "/tmp/copies/a",
            f"cp {ROOT}/releases/@NEW@/router a",
            "mv a 'b c'",
            account="games",
        ),
    ),
    "router3": (
        "acts",
        runs_copy("/tmp/copies/gone", f"cp {ROOT}/releases/@NEW@/router gone", "rm gone"),
    ),
    "router4": ("acts", runs_copy("./here", f"cp {ROOT}/releases/@OLD@/router here")),
    "router5": (
        "acts",
        runs_copy(f"{ROOT}/releases/@NEW@/router", after=f"rm -rf {ROOT}/releases/@NEW@"),
    ),
    "router6": ("acts", beside("nobody", f"bash {CONNECTED}")),
    "router7": (
        "account",
        # It ignores SIGTERM, as an interactive shell does.
        """setsid sudo -n -u router bash -c "trap '' TERM; exec tail -f /dev/null" \
            >/dev/null 2>&1 </dev/null & sleep 0.5""",
    ),
    "router8": ("beside", beside("games", f"tail -f {ROOT}/current/router")),
}
"""Of each host: the rule that finds what is planted there, and how it is planted."""
SURROUNDINGS: Mapping[str, tuple[str, Lie]] = {
    "router1": (
        "preload-same",
        Lie("", "ls /lib/*/libm.so.6 >/etc/ld.so.preload", "", by_hand="rm /etc/ld.so.preload"),
    ),
    "router2": (
        "starters",
        Lie(
            "",
            "printf '[Service]\\nExecStart=%s/releases/@NEW@/router serve\\n[Install]\\n"
            f"WantedBy=multi-user.target\\n' {ROOT} >/etc/systemd/system/legacy.service; "
            "systemctl enable --quiet legacy",
            "",
            by_hand="systemctl disable --quiet legacy; rm /etc/systemd/system/legacy.service",
        ),
    ),
    "router3": (
        "starters",
        Lie(
            "",
            f"mkdir -p /etc/cron.d; echo '@reboot root sh -c \"cd {ROOT}; ./go\"' >/etc/cron.d/old",
            "",
            by_hand="rm /etc/cron.d/old",
        ),
    ),
    "router4": (
        "environment-same",
        Lie(
            "",
            "systemctl set-environment PYTHONPATH=/tmp/mine; systemctl restart router; "
            "systemctl unset-environment PYTHONPATH",
            "",
            by_hand=":",  # nothing shows it by now; the deployment restarts the process
        ),
    ),
}


@pytest.fixture(scope="module")
def whole(desk: Workstation) -> Iterator[Path]:
    """An inventory that names the venue and who else may be connected to it; hosts made from it."""
    address = desk.address(VENUE)
    path = desk.write_inventory(
        "whole.yaml",
        list(NAMES),
        service={
            "connects": [f"{address}:{PORT}"],
            "neighbours": [{"executable": PROBE, "account": "nobody", "reason": "round trips"}],
        },
    )
    desk.root(VENUE, f'setsid python3 -c "{LISTENER}" >/dev/null 2>&1 </dev/null &')
    prepared = desk.prepare("-i", path)
    assert prepared.code == 0, prepared
    begun = desk.tool("deploy", "-i", path, NEW)  # every host has had it, and knows it
    assert begun.code == 0, begun
    yield path
    assert desk.prepare("-i", desk.inventory).code == 0


@pytest.fixture
def parity(desk: Workstation, whole: Path) -> Path:
    """The fleet in parity on the old release."""
    begun = desk.tool("deploy", "-i", whole, OLD)
    assert begun.code == 0, begun
    return whole


def begin_elsewhere(desk: Workstation, host: str) -> None:
    """Starts a copy that lies in a mount namespace of its own alone, as another account."""
    digest = desk.digest(NEW)
    inside = (
        f"mkdir -p /tmp/stray /tmp/own; chown games: /tmp/stray; mount -t tmpfs none /tmp/own;"
        f"cp {ROOT}/releases/{digest}/router /tmp/own/x; cd /tmp;"
        f"setpriv --reuid=games --regid=games --clear-groups setsid /tmp/own/x serve "
        f"--state /tmp/stray {SERVE.replace('@HOST@', host)} >/tmp/stray/log 2>&1 </dev/null &"
    )
    desk.from_outside(host, "unshare", "--mount", "sh", "-euc", inside)
    serves = "pgrep -u games >/dev/null && [ ! -e /tmp/own/x ] && [ -e /tmp/stray/control.sock ]"
    desk.root(host, f"until {serves}; do sleep 0.1; done")


def plant(desk: Workstation, scripts: Mapping[str, str]) -> None:
    """Runs each host's script there."""
    words = {"@OLD@": desk.digest(OLD), "@NEW@": desk.digest(NEW), "@VENUE@": desk.address(VENUE)}

    def one(host: str) -> None:
        script = scripts[host]
        for word, value in {**words, "@HOST@": host}.items():
            script = script.replace(word, value)
        desk.root(host, script)

    desk.each(tuple(scripts), one)


def found(status: Ended) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """By host, the rules that count, and those that only told something."""
    hosts: list[dict[str, Any]] = status.document["hosts"]
    counts, told = (
        {item["host"]: {each["rule"] for each in item[kind]} for item in hosts}
        for kind in ("findings", "notes")
    )
    return counts, told


def test_p1_what_acts_beside_the_service_is_named_and_what_reads_is_told(
    desk: Workstation, parity: Path
) -> None:
    plant(desk, {host: script for host, (_, script) in PROCESSES.items()})
    status = desk.tool("status", "-i", parity, "--json")
    assert status.code == 5, status
    counts, told = found(status)
    for host, (rule, _) in PROCESSES.items():
        assert rule in (told if rule == "beside" else counts)[host], (host, status)
    assert not counts["router8"], status
    refused = desk.tool("deploy", "-i", parity, NEW)
    assert refused.code == 3, refused
    assert "router8" not in refused.err, "who reads a release keeps nobody from anything"

    begun = desk.tool("status", "-i", parity)
    assert "router8: process" in begun.out, begun
    follow(desk, begun, {host: Lie("", "", "") for host in PROCESSES}, parity)
    desk.root("router8", "pkill -x tail")
    left = desk.each(NAMES, lambda h: desk.root(h, "pgrep -c -u router || :").strip())
    assert left == dict.fromkeys(NAMES, "1")


def test_p1_what_surrounds_the_service_is_part_of_the_proof(
    desk: Workstation, parity: Path
) -> None:
    plant(desk, {host: lie.told for host, (_, lie) in SURROUNDINGS.items()})
    state = f"{ROOT}/state"
    desk.from_outside("router5", "mount", "--bind", state, state)
    desk.from_outside("router5", "mount", "-o", "remount,bind,ro", state)
    begin_elsewhere(desk, "router7")
    beside_it = {
        "router6": f"cp /bin/bash {PROBE}\n" + beside("nobody", f"{PROBE} {CONNECTED}"),
        # It is not done: nothing takes what it packs.
        "router8": beside("nobody", f"sh -c 'tar -cf - {ROOT}/releases | sleep 900'"),
    }
    plant(desk, beside_it)
    rules = {host: rule for host, (rule, _) in SURROUNDINGS.items()}
    rules |= {"router5": "state", "router7": "acts"}
    try:
        status = desk.tool("status", "-i", parity, "--json")
    finally:
        # umount(8) of here finds no /proc of its own there.
        desk.from_outside("router5", "mount", "-o", "remount,bind,rw", state)
    assert status.code == 5, status
    counts, told = found(status)
    for host, rule in rules.items():
        assert rule in counts[host], (host, status)
    for host in beside_it:
        assert "beside" in told[host], (host, status)
    assert not {host for host, found_there in counts.items() if found_there} - {*rules}, status
    by_hand = {host: lie for host, (_, lie) in SURROUNDINGS.items()}
    follow(desk, desk.tool("status", "-i", parity), by_hand, parity)
    plant(desk, {"router6": "pkill -x venue-probe", "router8": "pkill -x tar; pkill -x sleep"})


def test_p1_contents_decide_which_configuration_runs_and_times_do_not(
    desk: Workstation, parity: Path
) -> None:
    """A change that all hosts share is no difference between them; the processes read another."""
    file = f"{ROOT}/etc/router.json"
    same = f"cp {file} /tmp/router.kept; sed 's/10000/10001/' /tmp/router.kept >{file}"
    plant(desk, dict.fromkeys(NAMES, same))
    changed = desk.tool("status", "-i", parity, "--json")
    assert changed.code == 5, changed
    assert found(changed)[0] == {host: {"config"} for host in NAMES}, changed
    plant(desk, dict.fromkeys(NAMES, f"cp /tmp/router.kept {file}; touch {file}"))
    # A library that the router has not loaded yet is read by its next start.
    plant(desk, {"router8": "sed -i '$a # more' /usr/lib/python3.*/this.py"})
    other = desk.tool("status", "-i", parity, "--json")
    differs = {h: rules for h, rules in found(other)[0].items() if rules}
    assert differs == {"router8": {"libraries-same"}}, other
    plant(desk, {"router8": "sed -i '$d' /usr/lib/python3.*/this.py"})
    again = desk.tool("status", "-i", parity)
    assert again.code == 0, again
    assert "Not covered (docs/proof.md): hosts that were never prepared;" in again.out
