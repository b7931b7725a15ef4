"""``flags status``: what is the same everywhere, and what differs or is not known."""

from __future__ import annotations

from typing import Any

import pytest

from deploytool.arming.checks import SenderObservation
from deploytool.arming.model import NOT_RUNNING, FlagState, Shown
from deploytool.arming.status import ABSENT, DIFFERS, UNKNOWN, remedy, rows
from deploytool.cli.flagtable import document, lines, show
from deploytool.errors import FaultKind, HostFault
from deploytool.parity.model import Evidence
from deploytool.parity.round import look, probe_request
from deploytool.simulation import fleet, program
from tests.unit.evidences import but
from tests.unit.registry.artifacts import table
from tests.unit.registry.registries import flag, registry, runtime

from . import fleets
from .fleets import NAMES, new, old, rendered

DARK = HostFault(FaultKind.TIMEOUT, "no answer")
OTHER = program.build(
    "2026.9", flags=table(registry(flag("HIDDEN", 0), runtime("RETAIL", 4, meaning="Else.")))
)


def shown(state: str = "off", epoch: int = 0, since: int | None = None) -> Shown:
    flags = (
        FlagState("HIDDEN", 0, "always", 0, None),
        FlagState("RETAIL", 4, state, epoch, since),
        FlagState("OTHER", 5, "off", 0, None),
    )
    armed = ("RETAIL",) if state in {"armed", "provisional"} else ()
    return Shown(flags, armed, epoch)


def other(name: str) -> Evidence:
    return look(fleet.running(name, rendered(), *OTHER), probe_request(), 5)


def found(seen: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    return {row.name: row for row in rows(seen, said)}


ALL = {name: new(name) for name in NAMES}
OFF = {name: shown() for name in NAMES}
ARMED = {name: shown("armed", 7, 1_800_000_000) for name in NAMES}
SENDERS = SenderObservation(0, frozenset({0, 4}), {})


def test_all_alike() -> None:
    for said, state in ((OFF, "off"), (ARMED, "armed")):
        table_ = found(ALL, said)
        assert list(table_) == ["HIDDEN", "RETAIL", "OTHER"]
        assert {cell.state for cell in table_["RETAIL"].cells.values()} == {state}
        assert all(row.same for row in table_.values())
    assert lines(rows(ALL, ARMED), ALL, SENDERS) == ()
    (row,) = [r for r in document(rows(ALL, ARMED), SENDERS)["flags"] if r["name"] == "RETAIL"]
    assert row["senders_use_it"]
    assert row["hosts"]["router1"] == {
        "state": "armed", "epoch": 7, "since": 1_800_000_000, "why": ""
    }  # fmt: skip


@pytest.mark.parametrize(
    ("host", "said", "state"),
    [
        (new("router3"), shown("armed", 7), "armed"),
        (new("router3"), shown("provisional", 7), "provisional"),
        (new("router3"), DARK, UNKNOWN),
        (DARK, shown(), UNKNOWN),
        (old("router3"), shown(), ABSENT),
        (other("router3"), shown(), DIFFERS),
        (but(new("router3"), manifest=None), shown(), UNKNOWN),
        (but(new("router3"), manifest=b"{}"), shown(), UNKNOWN),
        (but(new("router3"), status={"flag_table": "0" * 64}), shown(), UNKNOWN),
        (but(new("router3"), status=None), shown(), UNKNOWN),
        (new("router3"), Shown((), (), 0), UNKNOWN),
        (new("router3"), Shown((FlagState("RETAIL", 5, "off", 0, None),), (), 0), UNKNOWN),
    ],
)
def test_one_host_that_is_not_like_the_others_is_named(host: Any, said: Any, state: str) -> None:
    seen, told = {**ALL, "router3": host}, {**OFF, "router3": said}
    row = found(seen, told)["RETAIL"]
    assert row.cells["router3"].state == state
    assert not row.same
    assert any(line.startswith("router3: ") for line in lines(rows(seen, told), seen, SENDERS))


def test_armed_by_two_certificates_is_not_the_same() -> None:
    said = {**ARMED, "router2": shown("armed", 8)}
    assert not found(ALL, said)["RETAIL"].same


def test_a_host_where_nothing_runs_has_its_own_line_and_advice() -> None:
    dead = but(
        new("router3"),
        main=0,
        group=(),
        runs=(),
        processes=(),
        owners=(),
        open_ports=(),
        status=None,
    )
    assert dead.idle
    seen: dict[str, Any] = {**ALL, "router3": dead}
    told: dict[str, Any] = {**ARMED, "router3": DARK}
    table_ = rows(seen, told)
    row = found(seen, told)["RETAIL"]
    assert row.cells["router3"].state == NOT_RUNNING
    assert not row.same
    assert lines(table_, seen, SENDERS) == (
        "router3: nothing runs there, and nothing obeys a flag there",
    )
    assert "deploytool status -i f.yaml" in remedy(table_, seen, "f.yaml")[1]


def test_advice_names_the_flag_that_is_odd_or_the_host_that_is_dark() -> None:
    told = {**OFF, "router3": shown("armed", 7)}
    assert remedy(rows(ALL, told), ALL, "f.yaml")[1] == "deploytool flags disarm RETAIL -i f.yaml"
    dark: dict[str, Any] = {**ALL, "router3": DARK}
    means, now = remedy(rows(dark, {**OFF, "router3": DARK}), dark, "f.yaml")
    assert means == "What router3 obeys is UNKNOWN."
    assert "disarm" not in now


def test_senders_beside_the_hosts() -> None:
    assert any("off everywhere" in line for line in lines(rows(ALL, OFF), ALL, SENDERS))
    assert any("not known" in line for line in lines(rows(ALL, ARMED), ALL, DARK))
    assert lines(rows(ALL, OFF), ALL, DARK) == ()


def test_it_is_shown_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    show(rows(ALL, ARMED), NAMES, SENDERS)
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.startswith("RETAIL")]
    assert line.split()[1] == "4"
    assert line.count("armed") == len(NAMES)
    assert "use it" in line
    assert "7" in line
    assert "01-15" in line
    show((), NAMES, DARK)
    assert "No build" in capsys.readouterr().out
    assert fleets.NOW > 0
