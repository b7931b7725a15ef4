"""A real router, real keys, the command line: what it takes to arm, and all that is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Router, base_config
from .peers import INFO, Client, Market, new_order
from .signing import Operator

NAME, BIT = "RETAIL_LIQUIDITY", 16
HOSTS = [f"router{n}" for n in range(1, 9)]
Change = Callable[[dict[str, Any]], object]


class Rig:
    """One router that was told its fleet and its signers, and an operator."""

    def __init__(self, router: Router, market: Market, folder: Path) -> None:
        self.router = router
        self.alice = Operator(folder, "alice")
        self.signers = folder / "allowed_signers"
        self.signers.write_text(self.alice.line())
        router.configure(base_config(market.port))
        router.extra = ["--fleet", "alpha", "--signers", str(self.signers)]
        router.start()
        router.until_up()
        self.release = hashlib.sha256(router.binary.read_bytes()).hexdigest()
        table = json.loads(router.binary.with_name("buildinfo.json").read_text())["flags"]
        (self.meaning,) = (e["digest"] for e in table["entries"] if e["name"] == NAME)

    def type(self, action: str, sealed: str = "") -> subprocess.CompletedProcess[str]:
        """The command line, as the inventory has it."""
        command = [str(self.router.binary), "flag", action, NAME, "--state", str(self.router.state)]
        return subprocess.run(command, input=sealed, capture_output=True, text=True, timeout=20)

    def ask(self, action: str, sealed: str = "") -> dict[str, Any]:
        """The same without a second Python."""
        request = {"command": "flag", "action": action, "flag": NAME}
        return self.router.ask(**request, **({"certificate": sealed} if sealed else {}))

    def done(self, action: str, sealed: str = "") -> dict[str, Any]:
        answer = self.ask(action, sealed)
        assert answer["ok"], answer
        return answer

    def certificate(self, nonce: str = "", **changes: Any) -> dict[str, Any]:
        """What is good here and now, over a nonce that is asked for unless it is given."""
        nonce = nonce or self.done("prepare")["nonce"]
        now = int(time.time())
        hosts = {
            host: {"nonce": hashlib.sha256(host.encode()).hexdigest(), "release": self.release}
            for host in HOSTS
        }
        hosts[self.router.host]["nonce"] = nonce
        return {
            "schema": 1, "fleet": "alpha", "inventory": "1" * 64, "hosts": hosts,
            "flags": {NAME: self.meaning}, "round": "2" * 32, "issued": now, "expires": now + 60,
            "epoch": max(now, self.done("show")["epoch"] + 1), **changes,
        }  # fmt: skip

    def seal(self, certificate: dict[str, Any], operator: Operator | None = None) -> str:
        content = line(certificate)
        return content + (operator or self.alice).sign(content.encode())

    def arm(self) -> dict[str, Any]:
        certificate = self.certificate()
        self.done("prepare", self.seal(certificate))
        self.done("commit")
        self.done("settle")
        return certificate

    def shown(self) -> dict[str, Any]:
        (found,) = (e for e in self.done("show")["flags"] if e["name"] == NAME)
        entry: dict[str, Any] = found
        return entry

    def refused(self, sealed: str, rule: str, why: str) -> None:
        """The router says why, nothing is promised, and nothing can be committed."""
        answer = self.ask("prepare", sealed)
        assert (answer["ok"], answer["rule"]) == (False, rule), answer
        assert why in answer["error"]
        assert self.ask("commit")["rule"] == "NOT_PROMISED"
        assert self.ask("settle")["rule"] == "NOT_COMMITTED"
        assert self.router.status()["armed"] == []
        assert self.shown()["state"] == "off"


def line(certificate: dict[str, Any]) -> str:
    return json.dumps(certificate, sort_keys=True, separators=(",", ":")) + "\n"


@pytest.fixture(scope="module")
def rig(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("arming")
    with Market() as market:
        router = Router(binaries["2026.1"], folder)
        try:
            yield Rig(router, market, folder)
        finally:
            router.kill()


@pytest.fixture(autouse=True)
def disarmed(rig: Rig) -> None:
    assert rig.done("disarm")["armed"] == []


def test_p3_armed_with_a_certificate_and_disarmed_with_nothing(rig: Rig) -> None:
    with Client(("127.0.0.1", rig.router.port)) as client:
        client.send(new_order("BEFORE", 100, flags=BIT))
        assert client.report().reason == 9
        certificate = rig.certificate()
        assert rig.done("prepare", rig.seal(certificate))["promise"] == certificate["epoch"]
        assert rig.shown()["state"] == "promised"
        client.send(new_order("PROMISED", 100, flags=BIT))
        assert client.report().reason == 9
        assert rig.done("commit")["provisional_s"] == 1
        assert rig.done("settle")["armed"] == [NAME]
        shown = rig.shown()
        assert (shown["state"], shown["epoch"]) == ("armed", certificate["epoch"])
        assert "alice" in shown["why"]
        assert abs(shown["since"] - time.time()) < 30
        assert rig.router.status()["epoch"] == certificate["epoch"]
        client.send(new_order("ARMED", 100, flags=BIT))
        assert client.report().kind == "0"
        assert any(i[8] & BIT and i[6] == certificate["epoch"] for i in client.infos)
        assert rig.done("disarm")["armed"] == []
        assert rig.router.status()["epoch"] == 0
        client.send(new_order("AFTER", 100, flags=BIT))
        while (report := client.report()).clordid != "AFTER":
            pass
        assert report.reason == 9


def test_p3_the_command_line_takes_the_certificate_on_standard_input(rig: Rig) -> None:
    nonce = json.loads(rig.type("prepare").stdout)
    assert (len(nonce["nonce"]), type(nonce["epoch"])) == (64, int)
    certificate = rig.certificate(nonce["nonce"])
    promised = rig.type("prepare", rig.seal(certificate))
    assert json.loads(promised.stdout)["promise"] == certificate["epoch"], promised.stderr
    assert json.loads(rig.type("commit").stdout)["provisional_s"] == 1
    assert json.loads(rig.type("disarm").stdout)["armed"] == []
    assert json.loads(rig.type("show").stdout)["epoch"] == certificate["epoch"]
    for sealed, says in (
        (rig.seal(certificate), "router: refused (NONCE_EXPIRED): ask for a new nonce"),
        ("x" * 60_000, "router: refused (CERTIFICATE_FORM): standard input is longer than"),
    ):
        ended = rig.type("prepare", sealed)
        assert (ended.returncode, ended.stdout) == (3, "")
        assert ended.stderr.startswith(says)
    command = [str(rig.router.binary), "flag", "prepare", NAME, "--state", str(rig.router.state)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as endless:
        assert endless.wait(20) == 3, "an input that never ends is no certificate, and no wait"


EDITS: list[tuple[Change, str]] = [
    (lambda c: c.update(fleet="beta"), "it is for fleet beta, this is alpha"),
    (lambda c: c["hosts"].pop("router8"), "not over exactly the fleet's hosts: router8"),
    (
        lambda c: c["hosts"].update(router9={**c["hosts"]["router8"], "nonce": "9" * 64}),
        "not over exactly the fleet's hosts: router9",
    ),
    (lambda c: c["hosts"].pop("router1"), "it is not for router1"),
    (
        lambda c: [host.update(release="b" * 64) for host in c["hosts"].values()],
        "it is for release bbbbbbbbbbbb, this is",
    ),
    (lambda c: c["hosts"]["router1"].update(nonce="f" * 64), "it is a replay"),
    (lambda c: c["flags"].update({NAME: "0" * 64}), f"reads {NAME} otherwise"),
    (lambda c: c.update(flags={"OTHER": "0" * 64}), f"reads {NAME} otherwise"),
    (lambda c: c.update(epoch=1), "epoch 1 is not newer than"),
    (
        lambda c: c.update(issued=c["issued"] - 61, expires=c["expires"] - 61),
        "it expired 1 s ago",
    ),
    (
        lambda c: c.update(issued=c["issued"] + 40, expires=c["expires"] + 40),
        "it is from the future by",
    ),
    (
        lambda c: c.update(issued=c["issued"] - 3600, expires=c["expires"] - 3600),
        "it expired 35",
    ),
    (
        lambda c: c.update(issued=c["issued"] + 3600, expires=c["expires"] + 3600),
        "it is from the future by",
    ),
]


@pytest.mark.parametrize(("change", "why"), EDITS)
def test_p3_what_an_operator_signed_for_something_else_is_refused(
    rig: Rig, change: Change, why: str
) -> None:
    if "not newer" in why:
        rig.done("prepare", rig.seal(rig.certificate()))
    certificate = rig.certificate()
    if "expired 1 s" in why:  # so that it is not two by the time it is asked
        time.sleep(1 - time.time() % 1)
        certificate["issued"] = int(time.time())
        certificate["expires"] = certificate["issued"] + 60
    change(certificate)
    rig.refused(rig.seal(certificate), "CERTIFICATE", why)


BAD_FORMS: list[tuple[Change, str]] = [
    (lambda c: c.update(schema=2), "schema"),
    (lambda c: c.update(schema=True), "schema"),
    (lambda c: c.update(more=1), "nothing else"),
    (lambda c: c.pop("round"), "nothing else"),
    (lambda c: c.update(hosts={}), "hosts"),
    (lambda c: c.update(flags={}), "flags"),
    (lambda c: c.update(epoch=0), "epoch"),
    (lambda c: c.update(epoch="7"), "epoch"),
    (lambda c: c.update(expires=float(c["expires"])), "expires"),
    (lambda c: c.update(expires=c["issued"] + 61), "within 60 s"),
    (lambda c: c.update(expires=c["issued"]), "within 60 s"),
    (lambda c: c["hosts"]["router8"].update(release="b" * 64), "that is no parity"),
    (
        lambda c: c["hosts"]["router8"].update(nonce=c["hosts"]["router1"]["nonce"]),
        "each router issues its own",
    ),
]


@pytest.mark.parametrize(("change", "why"), BAD_FORMS)
def test_p3_what_is_no_certificate_is_refused_whoever_signed_it(
    rig: Rig, change: Change, why: str
) -> None:
    certificate = rig.certificate()
    change(certificate)
    rig.refused(rig.seal(certificate), "CERTIFICATE_FORM", why)


@pytest.mark.parametrize(
    ("respell", "rule", "why"),
    [
        (lambda text: text.replace('"epoch":', '"epoch": ', 1), "CERTIFICATE_FORM", "canonical"),
        (lambda text: text.replace('"epoch"', '"\\u0065poch"', 1), "CERTIFICATE_FORM", "canonical"),
        (lambda text: text[: len(text) // 4], "SIGNATURE", "one line"),
        (lambda text: text[200:], "CERTIFICATE_FORM", "cut"),
        (lambda text: text.replace('"fleet"', '"fleet', 1), "CERTIFICATE_FORM", "cut"),
        (lambda text: text[:-1], "SIGNATURE", "one line"),
        (lambda text: text.partition("\n")[0] + "\n", "SIGNATURE", "one line"),
        (lambda text: text.partition("\n")[2], "SIGNATURE", "one line"),
        (lambda text: "x" * 50_000 + text, "SIGNATURE", "more than 49152 bytes"),
        (lambda _: "\n", "SIGNATURE", "one line"),
        (lambda text: "[" * 20_000 + text, "CERTIFICATE_FORM", "cut"),
        (
            lambda text: text.replace('"inventory":"1', '"inventory":"2', 1),
            "SIGNATURE",
            "not alice's signature",
        ),
        (
            lambda text: text.replace('"round":"2', '"round":"3', 1),
            "SIGNATURE",
            "not alice's signature",
        ),
    ],
)
def test_p3_edited_or_cut_after_it_was_signed(
    rig: Rig, respell: Callable[[str], str], rule: str, why: str
) -> None:
    sealed = rig.seal(rig.certificate())
    altered = respell(sealed)
    assert altered != sealed
    rig.refused(altered, rule, why)


def test_p3_signed_by_a_stranger_or_for_another_purpose(rig: Rig, tmp_path: Path) -> None:
    stranger = Operator(tmp_path, "mallory")
    rig.refused(rig.seal(rig.certificate(), stranger), "SIGNATURE", "none of the signers'")
    content = line(rig.certificate())
    signed = rig.alice.sign(content.encode(), "start.deploytool")
    rig.refused(content + signed, "SIGNATURE", "for parity.deploytool")


def test_p3_a_certificate_is_good_once(rig: Rig) -> None:
    certificate = rig.certificate()
    sealed = rig.seal(certificate)
    assert "promise" in rig.done("prepare", sealed)
    assert rig.ask("prepare", sealed)["rule"] == "NONCE_EXPIRED"
    rig.done("commit")
    rig.done("settle")
    rig.done("disarm")
    rig.refused(sealed, "NONCE_EXPIRED", "ask for a new nonce")
    rig.done("prepare")
    rig.refused(sealed, "CERTIFICATE", "it is a replay; epoch")
    nonce = rig.done("prepare")["nonce"]
    again = rig.certificate(nonce, epoch=certificate["epoch"])
    rig.refused(rig.seal(again), "CERTIFICATE", "is not newer than")


def test_p3_a_refused_certificate_used_up_its_nonce(rig: Rig) -> None:
    nonce = rig.done("prepare")["nonce"]
    rig.refused("garbage", "SIGNATURE", "one line")
    rig.refused(rig.seal(rig.certificate(nonce)), "NONCE_EXPIRED", "ask for a new nonce")


def test_p3_without_a_certificate_nothing_is_armed(rig: Rig) -> None:
    for _ in range(2):
        assert rig.ask("commit")["rule"] == "NOT_PROMISED"
        assert rig.ask("settle")["rule"] == "NOT_COMMITTED"
        rig.done("prepare")
    assert rig.router.status()["armed"] == []


def test_p3_restarted_in_between_it_is_off_and_says_so_and_its_epoch_is_remembered(
    rig: Rig,
) -> None:
    certificate = rig.arm()
    asked = rig.certificate  # a nonce of the old process is nothing to the new one
    for number in (signal.SIGKILL, signal.SIGTERM):
        old_nonce = "" if number == signal.SIGKILL else rig.done("prepare")["nonce"]
        assert rig.router.process is not None
        rig.router.process.send_signal(number)
        rig.router.process.wait(20)
        rig.router.start()
        rig.router.until_up()
        assert rig.router.status()["armed"] == []
        assert rig.router.status()["epoch"] == 0
        shown = rig.shown()
        assert shown["state"] == "off"
        assert "process started" in shown["why"]
        assert f"every runtime flag is off, as after every start: {NAME}" in rig.router.stderr()
        assert rig.done("show")["epoch"] >= certificate["epoch"]
        assert rig.done("prepare")["epoch"] >= certificate["epoch"]
        with Client(("127.0.0.1", rig.router.port)) as client:
            client.send(new_order(f"R{number}", 100, flags=BIT))
            assert client.report().reason == 9
        if old_nonce:
            rig.refused(rig.seal(asked(old_nonce)), "CERTIFICATE", "replay")
        rig.done("prepare")
        again = asked(epoch=certificate["epoch"])
        rig.refused(rig.seal(again), "CERTIFICATE", "is not newer than")


def test_p3_a_commit_disarms_by_itself_and_says_so(rig: Rig) -> None:
    rig.done("prepare", rig.seal(rig.certificate()))
    rig.done("commit")
    with Client(("127.0.0.1", rig.router.port)) as client:
        assert client.info[8] & BIT
        kind, payload = client.packet()
        while kind != "U":
            kind, payload = client.packet()
        assert INFO.unpack(payload)[6:9] == (0, 19, 3)
    assert rig.shown()["state"] == "off"
    assert "not settled in time" in rig.shown()["why"]
    assert rig.ask("settle")["rule"] == "NOT_COMMITTED"


def test_p3_a_router_that_was_frozen_past_the_limit_routes_nothing_flagged(rig: Rig) -> None:
    assert rig.router.process is not None
    with Client(("127.0.0.1", rig.router.port)) as client:
        rig.done("prepare", rig.seal(rig.certificate()))
        rig.done("commit")
        rig.router.process.send_signal(signal.SIGSTOP)
        try:
            client.send(*(new_order(f"F{n}", 100, flags=BIT) for n in range(50)))
            time.sleep(1.2)
        finally:
            rig.router.process.send_signal(signal.SIGCONT)
        assert [client.report().reason for _ in range(50)] == [9] * 50


def test_p3_disarmed_while_the_signature_is_checked(
    binaries: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow `ssh-keygen`: orders flow, a disarm is answered at once, and it counts."""
    slow, begun, go = (tmp_path / name for name in ("ssh-keygen", "begun", "go"))
    slow.write_text(
        f"#!/bin/sh\ntouch {begun}\nwhile [ ! -e {go} ]; do sleep 0.02; done\n"
        'exec /usr/bin/ssh-keygen "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    go.touch()
    router = Router(binaries["2026.1"], tmp_path)

    def until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    with Market() as market:
        try:
            rig = Rig(router, market, tmp_path)
            monkeypatch.undo()
            request = {"command": "flag", "action": "prepare", "flag": NAME}
            request["certificate"] = rig.seal(rig.certificate())
            go.unlink()
            begun.unlink()
            with router.connect() as asking, Client(("127.0.0.1", router.port)) as client:
                asking.sendall(json.dumps(request).encode() + b"\n")
                until(begun.exists)
                client.send(*(new_order(f"S{n}", 100) for n in range(20)))
                assert {client.report().kind for _ in range(20)} <= {"0", "F"}
                rig.done("disarm")
                asking.setblocking(False)
                with pytest.raises(BlockingIOError):
                    asking.recv(1)
                asking.settimeout(5)
                go.touch()
                assert router.answer(asking)["rule"] == "OVERTAKEN"
            # And who asked and is gone is promised nothing.
            request["certificate"] = rig.seal(rig.certificate())
            go.unlink()
            begun.unlink()
            with router.connect() as asking:
                asking.sendall(json.dumps(request).encode() + b"\n")
                until(begun.exists)
            begun.unlink()
            go.touch()
            until(begun.exists)  # the check's second step
            time.sleep(0.3)
            assert rig.shown()["state"] == "off"
            assert rig.ask("commit")["rule"] == "NOT_PROMISED"
        finally:
            router.kill()


@pytest.mark.parametrize("content", ["", '{"epoch": true}', "[]"])
def test_an_epoch_that_cannot_be_read_blocks_arming_and_nothing_else(
    binaries: dict[str, Path], tmp_path: Path, content: str
) -> None:
    router = Router(binaries["2026.1"], tmp_path)
    router.state.mkdir(parents=True)
    (router.state / "epoch.json").write_text(content)
    with Market() as market:
        try:
            rig = Rig(router, market, tmp_path)
            answer = rig.ask("prepare")
            assert answer["rule"] == "EPOCH_UNKNOWN"
            assert "Remove that file" in answer["error"]
            assert rig.done("disarm")["armed"] == []
            assert rig.shown()["state"] == "off"
        finally:
            router.kill()


def test_an_epoch_that_cannot_be_written_is_no_promise(
    binaries: dict[str, Path], tmp_path: Path
) -> None:
    router = Router(binaries["2026.1"], tmp_path)
    with Market() as market:
        try:
            rig = Rig(router, market, tmp_path)
            (router.state / "epoch.new").mkdir()
            rig.refused(rig.seal(rig.certificate()), "EPOCH_NOT_WRITTEN", "can't be written")
            (router.state / "epoch.new").rmdir()
            (router.state / "epoch.json").mkdir()
            rig.refused(rig.seal(rig.certificate()), "EPOCH_NOT_WRITTEN", "can't be replaced")
        finally:
            router.kill()


def test_it_arms_whatever_its_supervisor_does_with_the_ends_of_children(
    binaries: dict[str, Path], tmp_path: Path
) -> None:
    router = Router(binaries["2026.1"], tmp_path)
    with Market() as market:
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # what starts now inherits it
        try:
            router.configure(base_config(market.port))
            router.start(wait=False)
        finally:
            signal.signal(signal.SIGCHLD, before)
        try:
            assert router.process is not None
            router.until(bool)
            now = Path(f"/proc/{router.process.pid}/status").read_text()
            (mask,) = re.findall(r"^SigIgn:\t(\w+)$", now, re.MULTILINE)
            assert not int(mask, 16) >> (signal.SIGCHLD - 1) & 1
        finally:
            router.kill()


@pytest.mark.parametrize(
    ("without", "rule", "why"),
    [
        ("--signers", "SIGNATURE", "started without --signers"),
        ("--fleet", "FLEET", "started without --fleet"),
    ],
)
def test_a_router_that_was_not_told_arms_nothing_and_trades(
    binaries: dict[str, Path], tmp_path: Path, without: str, rule: str, why: str
) -> None:
    router = Router(binaries["2026.1"], tmp_path)
    with Market() as market:
        try:
            rig = Rig(router, market, tmp_path)
            router.stop()
            at = router.extra.index(without)
            del router.extra[at : at + 2]
            router.start()
            router.until_up()
            rig.refused(rig.seal(rig.certificate()), rule, why)
            with Client(("127.0.0.1", router.port)) as client:
                client.send(new_order("A", 100))
                assert client.report().kind == "0"
        finally:
            router.kill()
