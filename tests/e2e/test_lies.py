"""P1: what looks deployed and is not. Seven lies at a time, each on a real host of its own.

``status`` must name each host with its own reason, and the honest one not at all. Whatever it then
says to do is done literally until the fleet is in parity again: advice that doesn't work is a lie
too.

A wrong clock is not among them: containers share the clock of the machine they run on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from .workstation import HELPER, NAMES, NEW, OLD, ROOT, UNIT, Ended, Workstation, runs

pytestmark = pytest.mark.containers

OLD_BY_HAND = f"""
as_router() {{ setpriv --reuid=router --regid=router --clear-groups "$@"; }}
mkdir -p /tmp/stray && chown router: /tmp/stray
as_router setsid {ROOT}/releases/@NEW@/router serve --state /tmp/stray \\
    --config {ROOT}/etc/router.json \\
    --listen 0.0.0.0:7999 --host @HOST@ >/tmp/stray/log 2>&1 </dev/null &
until as_router {ROOT}/releases/@NEW@/router status --json --state /tmp/stray >/dev/null
do sleep 0.1; done
"""
DROP_IN = f"""
mkdir -p /etc/systemd/system/router.service.d
printf '[Service]\\nExecStart=\\nExecStart={ROOT}/releases/@NEW@/router serve --state %s \
--config %s --listen 0.0.0.0:7001 --host @HOST@\\n' {ROOT}/state/service {ROOT}/etc/router.json \
    >/etc/systemd/system/router.service.d/10-old.conf
"""
LISTENER = (
    "import socket,time; s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1);"
    "s.bind(('0.0.0.0',7001)); s.listen(); open('/tmp/holds','w'); time.sleep(600)"
)


@dataclass(frozen=True)
class Lie:
    """``told`` as root on the victim; ``found`` must match what status says of it."""

    name: str
    told: str
    found: str
    by_hand: str = ""
    """What a person does who is told what, but not how."""


WHAT_RUNS = (
    Lie("restarted", "systemctl restart router", "start of the service: .*restarted"),
    Lie(
        "replaced by a file of the same size and time",
        f"cd {ROOT}/current; cp -p router /tmp/forged; printf x | dd of=/tmp/forged bs=1 seek=9000 "
        "conv=notrunc status=none; touch -r router /tmp/forged; chmod 0555 /tmp/forged; "
        "mv -f /tmp/forged router",
        "artifact on disk|running code",
    ),
    Lie(
        "altered in place, through the page cache",
        f"printf x | dd of={ROOT}/current/router bs=1 seek=9000 conv=notrunc status=none",
        "artifact on disk|running code",
    ),
    Lie("second process of another build", OLD_BY_HAND, "running code: .*process"),
    Lie("second copy of the same build", OLD_BY_HAND.replace("@NEW@", "@OLD@"), "a second copy"),
    Lie("link switched without a restart", f"ln -sfn releases/@NEW@ {ROOT}/current", "current: "),
    Lie(
        "port held by another",
        f'systemctl stop router; rm -f /tmp/holds; setsid python3 -c "{LISTENER}" '
        ">/dev/null 2>&1 </dev/null & until [ -e /tmp/holds ]; do sleep 0.1; done",
        "port 7001|service: ",
    ),
)
WHAT_WILL_RUN = (
    Lie("drop-in, loaded", f"{DROP_IN}systemctl daemon-reload", "DropInPaths|10-old.conf"),
    Lie(
        "drop-in, loaded and run",
        f"{DROP_IN}systemctl daemon-reload; systemctl restart router",
        "running code|DropInPaths",
    ),
    Lie("drop-in, not loaded yet", DROP_IN, "NeedDaemonReload|10-old.conf"),
    Lie("masked", "systemctl mask --quiet router", "unit's .*(masked|null)"),
    Lie("disabled", "systemctl disable --quiet router", "unit's UnitFileState: .*disabled"),
    Lie(
        "unit changed",
        f"sed -i s/^Restart=.*/Restart=no/ {UNIT}; systemctl daemon-reload",
        "unit file",
    ),
    Lie("stopped", "systemctl stop router", "service: expected running"),
)
WHAT_LIES_THERE = (
    Lie("manifest altered", f"sed -i s/2026/2027/ {ROOT}/current/release.json", "manifest on disk"),
    Lie("artifact deleted, still running", f"rm -rf {ROOT}/releases/@OLD@", "disk|delet|current"),
    Lie(
        "configuration changed",
        f"cp -p {ROOT}/etc/router.json /tmp/kept; sed -i s/10000/10001/ {ROOT}/etc/router.json",
        "running configuration .*as the process was started with",
        by_hand=f"mv -f /tmp/kept {ROOT}/etc/router.json",
    ),
    Lie(
        "configuration missing",
        f"mv {ROOT}/etc/router.json /tmp/kept",
        "configuration .*missing",
        by_hand=f"mv -f /tmp/kept {ROOT}/etc/router.json",
    ),
    Lie("helper altered", f"echo '# and more' >>{HELPER}", "host agent"),
    Lie("releases writable by all", f"chmod 0777 {ROOT}/releases", "mode of releases"),
    Lie("artifact writable", f"chmod 0775 {ROOT}/current/router", "mode of the artifact"),
)


@pytest.mark.parametrize(
    "lies",
    [
        pytest.param(WHAT_RUNS, id="what-runs"),
        pytest.param(WHAT_WILL_RUN, id="what-will-run"),
        pytest.param(WHAT_LIES_THERE, id="what-lies-there"),
    ],
)
def test_p1_lies_are_found_by_name_and_the_advice_mends_them(
    desk: Workstation, lies: tuple[Lie, ...]
) -> None:
    for version in (NEW, OLD):
        begun = desk.tool("deploy", "-i", desk.inventory, version)
        assert begun.code == 0, begun
    digests = {"@OLD@": desk.digest(OLD), "@NEW@": desk.digest(NEW)}
    told = dict(zip(NAMES, lies, strict=False))
    for host, lie in told.items():
        script = lie.told.replace("@HOST@", host)
        for word, digest in digests.items():
            script = script.replace(word, digest)
        desk.root(host, script)

    status = desk.tool("status", "-i", desk.inventory)
    assert status.code == 5, status
    named = {line.split(":")[0].strip(): line for line in details(status)}
    assert set(named) == set(told), status
    for host, lie in told.items():
        assert re.search(lie.found, named[host]), (lie, named[host])

    follow(desk, status, told)
    assert all(runs(look, digests["@OLD@"]) for look in desk.looks(NAMES).values())
    processes = desk.each(
        NAMES, lambda host: len(desk.seen_as_root(host).process.filter(user="router"))
    )
    assert processes == dict.fromkeys(NAMES, 1)


def details(ended: Ended) -> list[str]:
    return [line for line in ended.err.splitlines() if line.startswith("  router")]


def follow(
    desk: Workstation, status: Ended, told: Mapping[str, Lie], inventory: Path | None = None
) -> None:
    """Does what is advised, as often as something is, up to a bound."""
    for _ in range(2 * len(told)):
        on_host = re.match(r"On (\w+), as root: (.*); then: deploytool", status.now)
        in_words = re.match(r"On (\w+), ", status.now)
        if on_host:
            desk.root(on_host[1], on_host[2])
        elif in_words:
            assert told[in_words[1]].by_hand, status
            desk.root(in_words[1], told[in_words[1]].by_hand)
        done = desk.paste(status)
        if done.argv[0] != "status" and done.code != 3:  # a refusal has advice of its own
            assert done.code == 0, f"the advice did not work: {done}"
            done = desk.tool("status", "-i", inventory or desk.inventory)
        status = done
        if status.code == 0:
            return
    pytest.fail(f"not mended by following the advice:\n{status}")
