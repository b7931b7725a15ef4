"""The incident as a pull request: refused on three counts, each at its line, in every format."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from deploytool.cli import main
from deploytool.cli.output import Ended, show_error
from tests.unit.registry.registries import POWER_PEG, RLP, registry

from .repository import FLEET, HIDDEN, GateRepository, new_key, refused
from .schema import check_sarif

pytestmark = pytest.mark.slow

BEFORE = registry(HIDDEN, POWER_PEG.replace("power_peg:", "far_side:"))
AFTER = registry(HIDDEN, RLP)
FAR_SIDE = '''\
"""Trades at the far side of the market until the parent is filled."""


class PowerPeg:
    """Never told when that is."""
'''
NEW = '"""Offers retail orders first."""\n\n\nclass RetailLiquidityProgram:\n    """New."""\n'


@pytest.fixture
def pull_request(repository: GateRepository) -> GateRepository:
    """Bit 3 is given to RLP; the code of Power Peg stays; the eighth host was left out."""
    fresh = repository.folder
    shutil.rmtree(fresh / ".git")
    repository.git("init", "-q", "-b", "main")
    repository.write("app/router/far_side.py", FAR_SIDE)
    repository.change("app/builds/1.yaml", "fast]", "far_side]")
    repository.path("app/router/fast.py").unlink()
    repository.write("app/flags.yaml", BEFORE)
    repository.commit()
    repository.rehearse()
    assert refused(repository.run()) == {}, "before the pull request all is well"
    repository.git("checkout", "-q", "-b", "pr")
    repository.write("app/flags.yaml", AFTER)
    repository.write("app/router/rlp.py", NEW)
    repository.change("app/builds/1.yaml", "far_side]", "far_side, rlp]")
    repository.change(
        "app/router/cli.py", '"""Carries', 'from router import far_side\n\n"""Carries'
    )
    repository.change(
        "app/router/cli.py", "    for entry", "    print(far_side.PowerPeg)\n    for entry"
    )
    repository.commit()
    for path in repository.path("records").iterdir():
        path.unlink()
    seven = repository.record().shape.model_copy(update={"waves": (1, 3, 3)})
    repository.rehearse(shape=seven)
    return repository


def gate(repository: GateRepository, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """``deploytool gate``, as a person or CI types it in the repository; gives the exit code."""
    monkeypatch.chdir(repository.folder)
    words = ["gate", "--registry", "app/flags.yaml", "--branch", "main", *options]
    monkeypatch.setattr(sys, "argv", ["deploytool", *words])
    try:
        main.app(words, standalone_mode=False)
    except Ended as end:
        show_error(end.error)
        return end.error.exit_code
    return 0


def test_it_is_refused_on_three_counts_in_sarif(
    pull_request: GateRepository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    repository = pull_request
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    files = {name: tmp_path / name for name in ("gate.sarif", "gate.xml")}
    options = ("--sarif", str(files["gate.sarif"]), "--junit", str(files["gate.xml"]), "--json")
    assert gate(repository, monkeypatch, *options) == 3
    told = capsys.readouterr()

    log = json.loads(files["gate.sarif"].read_text())
    check_sarif(log)
    (run,) = log["runs"]
    places = {
        (item["ruleId"], place["artifactLocation"]["uri"], place["region"]["startLine"])
        for item in run["results"]
        for place in (item["locations"][0]["physicalLocation"],)
    }
    assert {
        ("FLAG_BIT_NO_REUSE", "app/flags.yaml", repository.line("app/flags.yaml", "name: RLP")),
        ("GATE_RETIRED_CODE", "app/router/far_side.py", 4),
        ("GATE_REHEARSED", FLEET, repository.line(FLEET, "rehearsal:")),
    } <= places
    assert {rule for rule, _, _ in places} == {
        "FLAG_BIT_NO_REUSE", "GATE_RETIRED_CODE", "GATE_REHEARSED"
    }  # fmt: skip
    assert run["invocations"][0]["exitCode"] == 3
    seven = [item for item in run["results"] if item["ruleId"] == "GATE_REHEARSED"]
    assert "7 hosts" in seven[0]["message"]["text"]
    assert "8 hosts" in seven[0]["message"]["text"]

    document = json.loads(told.out)
    assert document["exit"] == 3
    bad = [item["check"] for item in document["checks"] if not item["passed"]]
    assert bad == ["GATE_FLAGS", "GATE_RETIRED_CODE", "GATE_REHEARSED"]

    suites = ET.parse(files["gate.xml"]).getroot()  # noqa: S314 our own
    failed = [
        case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None
    ]
    assert failed == bad
    assert suites.get("tests") == "7"
    assert suites.get("failures") == "3"

    line = repository.line("app/flags.yaml", "name: RLP")
    assert f"::error file=app/flags.yaml,line={line},title=FLAG_BIT_NO_REUSE::" in told.err


def test_mended_it_passes(
    pull_request: GateRepository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another bit, the old code gone and reserved, and all eight rehearsed."""
    repository = pull_request
    old = "reserved:\n  - bit: 3\n    name: POWER_PEG\n    why: Retired.\n    when: today\n"
    text = registry(HIDDEN, RLP.replace("bit: 3", "bit: 5")).replace("reserved: []\n", old)
    repository.write("app/flags.yaml", text)
    repository.path("app/router/far_side.py").unlink()
    repository.change("app/builds/1.yaml", "far_side, rlp]", "rlp]")
    repository.change("app/router/cli.py", "from router import far_side\n\n", "")
    repository.change("app/router/cli.py", "    print(far_side.PowerPeg)\n", "")
    repository.commit()
    repository.rehearse()
    assert gate(repository, monkeypatch) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "The gate lets it pass: 7 of 7 checks." in told
    assert "::error" not in told


def test_what_is_not_asked_for_is_said(
    repository: GateRepository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    shutil.rmtree(repository.path("records"))
    out = tmp_path / "gate.xml"
    assert gate(repository, monkeypatch) == 3
    assert gate(repository, monkeypatch, "--skip", "GATE_REHEARSED", "--junit", str(out)) == 0
    told = capsys.readouterr().out
    assert "not asked for: GATE_REHEARSED" in told
    assert "6 of 6 checks, 1 not asked for" in told
    (case,) = (c for c in ET.parse(out).getroot().iter("testcase") if c.find("skipped") is not None)  # noqa: S314 our own
    assert case.get("name") == "GATE_REHEARSED"
    assert gate(repository, monkeypatch, "--check", "GATE_INVENTORY") == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--check", "GATE_FLAGS", "--skip", "GATE_FLAGS"),
        ("--check", "GATE_NOTHING"),
        ("--skip", "GATE_NOTHING"),
        ("--sarif", "absent/gate.sarif", "--check", "GATE_INVENTORY"),
    ],
    ids=" ".join,
)
def test_what_a_person_got_wrong_ends_with_two(
    options: tuple[str, ...], repository: GateRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploytool.errors import DeploytoolError

    try:
        code = gate(repository, monkeypatch, *options)
    except DeploytoolError as error:
        code = error.exit_code
    assert code == 2


def test_a_record_by_a_stranger_is_not_believed(repository: GateRepository, tmp_path: Path) -> None:
    from deploytool.gate.records import keep

    for path in repository.path("records").iterdir():
        path.unlink()
    keep(repository.path("records"), repository.record(), new_key(tmp_path, "stranger"))
    keep(repository.path("records"), repository.record(ended=int(repository.request.now) - 5), None)
    (finding,) = refused(repository.run())["GATE_REHEARSED"]
    assert "its signer may not sign" in finding.text
    assert "not signed" in finding.text
