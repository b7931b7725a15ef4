"""docs/contract.md, section 8: what is asked of two artifacts that share no line of code.

One is the order router, the other a shell script. Both are told by their command lines alone, and
certificates are signed with real keys.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.router.conftest import Router, base_config, build
from tests.router.signing import Operator

SCRIPT = Path(__file__).with_name("flagged.sh")
HOSTS = ("router1", "router2")
FLEET = "alpha"


class Artifact(Protocol):
    """A process on a host, and its command line."""

    flag: str
    meaning: str
    release: str
    commit_s: float

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def run(self, *words: str, sent: str = "") -> subprocess.CompletedProcess[str]: ...


class OrderRouter:
    flag, commit_s = "RETAIL_LIQUIDITY", 1.0

    def __init__(self, folder: Path, signers: Path) -> None:
        info = build("2026.1", folder / "build")
        (self.meaning,) = (e["digest"] for e in info["flags"]["entries"] if e["name"] == self.flag)
        self.release = info["sha256"]
        self._router = Router(folder / "build" / "router", folder)
        config = base_config(9)  # nobody listens there: no market is needed to arm
        config["hosts"] = {host: config["hosts"][host] for host in HOSTS}
        self._router.configure(config)
        self._router.extra = ["--fleet", FLEET, "--signers", str(signers)]

    def start(self) -> None:
        self._router.start()

    def kill(self) -> None:
        self._router.kill()

    def run(self, *words: str, sent: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(self._router.binary), *words, "--state", str(self._router.state)]
        return subprocess.run(command, input=sent, capture_output=True, text=True, timeout=20)


class ShellScript:
    flag, commit_s = "ICEBERG", 2.0

    def __init__(self, folder: Path, signers: Path) -> None:
        (found,) = re.findall(r"^MEANING=(\w+)$", SCRIPT.read_text(), re.MULTILINE)
        self.meaning = str(found)
        self.release = sha256(SCRIPT.read_bytes()).hexdigest()
        self._state = folder / "state"
        self._state.mkdir()
        self._told = [str(self._state), FLEET, HOSTS[0], str(signers)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([SCRIPT, "serve", *self._told], stdin=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while self.run("status").returncode:
            assert time.monotonic() < end

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def run(self, *words: str, sent: str = "") -> subprocess.CompletedProcess[str]:
        words = tuple(word for word in words if word != "--json")
        command = [str(SCRIPT), *words, str(self._state)]
        return subprocess.run(command, input=sent, capture_output=True, text=True, timeout=20)


class Bench:
    """One artifact under test, and the operators."""

    def __init__(self, kind: Callable[[Path, Path], Artifact], folder: Path) -> None:
        self.alice = Operator(folder, "alice")
        self.mallory = Operator(folder, "mallory")
        signers = folder / "allowed_signers"
        signers.write_text(self.alice.line())
        self.artifact = kind(folder, signers)

    def flag(self, verb: str, sent: str = "") -> dict[str, Any]:
        done = self.artifact.run("flag", verb, self.artifact.flag, sent=sent)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def refused(self, verb: str, sent: str = "") -> str:
        """The rule by which it was refused: exit 3, and nothing on standard output."""
        done = self.artifact.run("flag", verb, self.artifact.flag, sent=sent)
        assert (done.returncode, done.stdout) == (3, ""), done
        found = re.match(r"router: refused \(([A-Z_]+)\): \S", done.stderr)
        assert found, done.stderr
        return found[1]

    def shown(self) -> dict[str, Any]:
        answer = self.flag("show")
        (entry,) = (e for e in answer["flags"] if e["name"] == self.artifact.flag)
        assert {"bit", "state", "epoch", "since"} <= set(entry)
        assert answer["armed"] == self.status()["armed"]
        found: dict[str, Any] = entry
        return found

    def status(self) -> dict[str, Any]:
        done = self.artifact.run("status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def certificate(self, epoch: int, nonce: str = "", **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        hosts = {
            host: {"nonce": sha256(host.encode()).hexdigest(), "release": self.artifact.release}
            for host in HOSTS
        }
        hosts[HOSTS[0]]["nonce"] = nonce or self.flag("prepare")["nonce"]
        flags = {self.artifact.flag: self.artifact.meaning}
        return {
            "schema": 1, "fleet": FLEET, "inventory": "1" * 64, "hosts": hosts, "flags": flags,
            "round": "2" * 32, "issued": now, "expires": now + 60, "epoch": epoch, **changes,
        }  # fmt: skip

    def seal(self, certificate: dict[str, Any], who: Operator | None = None) -> str:
        line = json.dumps(certificate, sort_keys=True, separators=(",", ":")) + "\n"
        return line + (who or self.alice).sign(line.encode())


@pytest.fixture(scope="module", params=[OrderRouter, ShellScript])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    made = Bench(request.param, tmp_path_factory.mktemp("flags"))
    made.artifact.start()
    try:
        yield made
    finally:
        made.artifact.kill()


def test_p3_the_whole_way_up_and_down(bench: Bench) -> None:
    assert bench.shown()["state"] == "off"
    nonce = bench.flag("prepare")
    assert re.fullmatch("[0-9a-f]{64}", nonce["nonce"])
    epoch = nonce["epoch"] + 1
    sealed = bench.seal(bench.certificate(epoch, nonce["nonce"]))
    assert bench.flag("prepare", sealed)["promise"] == epoch
    assert bench.shown()["state"] == "promised"
    assert bench.status()["armed"] == []
    assert bench.flag("commit")["provisional_s"] == bench.artifact.commit_s
    assert bench.flag("settle")["armed"] == [bench.artifact.flag]
    shown = bench.shown()
    assert (shown["state"], shown["epoch"]) == ("armed", epoch)
    assert abs(shown["since"] - time.time()) < 30
    assert bench.status()["epoch"] == epoch
    assert bench.refused("prepare") == "FLAG_ARMED"
    assert bench.flag("disarm")["armed"] == []
    assert bench.flag("disarm")["armed"] == []
    assert (bench.shown()["state"], bench.status()["epoch"]) == ("off", 0)
    assert bench.refused("prepare", sealed) in ("NONCE_EXPIRED", "CERTIFICATE"), "a replay"


def test_p3_a_commit_that_nobody_settles_falls(bench: Bench) -> None:
    epoch = bench.flag("show")["epoch"] + 1
    bench.flag("prepare", bench.seal(bench.certificate(epoch)))
    bench.flag("commit")
    time.sleep(bench.artifact.commit_s + 1.1)
    assert bench.shown()["state"] == "off"
    assert bench.refused("settle") == "NOT_COMMITTED"
    assert bench.status()["armed"] == []


Change = Callable[[dict[str, Any]], object]
WRONG: dict[str, Change] = {
    "another fleet": lambda c: c.update(fleet="beta"),
    "another build": lambda c: [h.update(release="b" * 64) for h in c["hosts"].values()],
    "another round, whose nonce was another": lambda c: c["hosts"][HOSTS[0]].update(nonce="f" * 64),
    "another meaning": lambda c: c["flags"].update(dict.fromkeys(c["flags"], "0" * 64)),
    "not for this host": lambda c: c["hosts"].pop(HOSTS[0]),
    "an epoch that was": lambda c: c.update(epoch=c["epoch"] - 1),
    "expired": lambda c: c.update(issued=c["issued"] - 62, expires=c["expires"] - 62),
    "from the future": lambda c: c.update(issued=c["issued"] + 40, expires=c["expires"] + 40),
}


@pytest.mark.parametrize("case", WRONG)
def test_p3_a_certificate_for_something_else_is_refused(bench: Bench, case: str) -> None:
    nonce = bench.flag("prepare")
    if nonce["epoch"] == 0:  # so that there is one that was
        bench.flag("prepare", bench.seal(bench.certificate(1, nonce["nonce"])))
        nonce = bench.flag("prepare")
    certificate = bench.certificate(nonce["epoch"] + 1, nonce["nonce"])
    WRONG[case](certificate)
    assert bench.refused("prepare", bench.seal(certificate)) == "CERTIFICATE"
    assert bench.refused("commit") == "NOT_PROMISED"


def test_p3_by_hand_cut_edited_or_by_a_stranger(bench: Bench) -> None:
    assert bench.flag("disarm")["armed"] == []
    assert bench.refused("commit") == "NOT_PROMISED"
    assert bench.refused("settle") == "NOT_COMMITTED"
    epoch = bench.flag("show")["epoch"] + 1
    sealed = bench.seal(bench.certificate(epoch), bench.mallory)
    assert bench.refused("prepare", sealed) == "SIGNATURE"
    sealed = bench.seal(bench.certificate(epoch))
    assert bench.refused("prepare", sealed.replace('"round":"2', '"round":"3')) == "SIGNATURE"
    sealed = bench.seal(bench.certificate(epoch))
    cut = sealed[: len(sealed) - 60]
    assert bench.refused("prepare", cut) == "SIGNATURE"
    line = json.dumps(bench.certificate(epoch), sort_keys=True, separators=(",", ":")) + "\n"
    started = line + bench.alice.sign(line.encode(), "start.deploytool")
    assert bench.refused("prepare", started) == "SIGNATURE"
    assert bench.refused("commit") == "NOT_PROMISED"


def test_p3_a_restart_is_off_and_remembers_the_epoch(bench: Bench) -> None:
    epoch = bench.flag("show")["epoch"] + 1
    bench.flag("prepare", bench.seal(bench.certificate(epoch)))
    bench.flag("commit")
    bench.flag("settle")
    assert bench.status()["armed"] == [bench.artifact.flag]
    bench.artifact.kill()
    bench.artifact.start()
    assert bench.shown()["state"] == "off"
    assert bench.status()["epoch"] == 0
    assert bench.flag("prepare")["epoch"] == epoch
    assert bench.refused("prepare", bench.seal(bench.certificate(epoch))) == "CERTIFICATE"
    assert bench.refused("commit") == "NOT_PROMISED"
