"""``deploytool flags lint``: every source is read, every end says what next."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from deploytool.agent.model import ManifestShown, Other
from deploytool.cli import main
from deploytool.cli.output import Ended
from deploytool.errors import FaultKind, HostFault
from deploytool.parity.model import Evidence, RoundAnswers
from deploytool.parity.round import look, probe_request
from deploytool.registry.lint import Linted, LintRequest, conclude, lint
from deploytool.registry.rules import FlagRule
from deploytool.release.model import FlagTable, Release
from deploytool.release.store import add
from deploytool.simulation import fleet, program
from tests.unit.evidences import but

from .artifacts import manifest, put, table, zipapp
from .conftest import Repo
from .registries import BEFORE, INCIDENT, RLP, flag, registry, reserved

HIDDEN = flag("HIDDEN", 0)
HANDLER: dict[str, str | bytes] = {
    "router/__init__.py": "",
    "router/hidden.py": "class HIDDEN: pass",
}


def release(
    tmp_path: Path, text: str | None, members: dict[str, str | bytes], version: str
) -> Release:
    """A release in the store."""
    content = zipapp({"__main__.py": f"# {version}", **members})
    artifact = put(tmp_path / "made" / version, content)
    flags = None if text is None else table(text)
    return add(tmp_path / "store", artifact, manifest(content, flags, version))


def linted(repo: Repo, store: Path, seen: RoundAnswers | None = None) -> Linted:
    return lint(LintRequest(repo.registry, repo.folder, None, store), seen)


def live(host: str, flags: FlagTable | None) -> Evidence:
    """What a host shows that runs a build with this flag table."""
    made, content = program.build("2011.4")
    rendered = fleet.Rendered.of(fleet.inventory(2))
    running = fleet.running(host, rendered, made.model_copy(update={"flags": flags}), content)
    return look(running, probe_request(), 5)


def test_p4_every_release_in_the_store_is_a_source(repo: Repo, tmp_path: Path) -> None:
    repo.commit(registry(HIDDEN))
    store = tmp_path / "store"
    release(tmp_path, registry(HIDDEN), HANDLER, "1")
    release(tmp_path, None, {}, "shell")
    assert conclude(linted(repo, store), "again") is None
    old = {**HANDLER, "router/power_peg.py": "class PowerPeg: pass"}
    release(tmp_path, BEFORE, old, "2011.4")
    repo.write(registry(HIDDEN, RLP))
    (refusal,) = linted(repo, store).refusals
    assert refusal.rule is FlagRule.BIT_NO_REUSE
    assert "router 2011.4 (" in refusal.text


def test_a_release_whose_code_still_has_what_it_says_is_retired(repo: Repo, tmp_path: Path) -> None:
    now = registry(HIDDEN, reserved("POWER_PEG", 3))
    repo.commit(now)
    release(tmp_path, now, {**HANDLER, "router/x.py": "class PowerPeg: pass"}, "1")
    release(tmp_path, now, {"router/__init__.py": ""}, "2")
    found = linted(repo, tmp_path / "store")
    assert {refusal.rule for refusal in found.refusals} == {FlagRule.RETIRED_UNREACHABLE}
    assert {refusal.place.split(":")[0].split(" (")[0] for refusal in found.refusals} == {
        "router 1",
        "router 2",
    }


def test_the_past_tells_which_code_was_a_retired_flag_s(repo: Repo, tmp_path: Path) -> None:
    repo.commit(registry(HIDDEN, flag("POWER_PEG", 3, handler="router.far:Side")))
    now = registry(HIDDEN, reserved("POWER_PEG", 3))
    repo.commit(now)
    release(tmp_path, now, {**HANDLER, "router/far.py": "class Side: pass"}, "1")
    (refusal,) = linted(repo, tmp_path / "store").refusals
    assert "router.far:Side carried out POWER_PEG" in refusal.text


def test_a_release_that_can_t_be_looked_into_is_trouble(repo: Repo, tmp_path: Path) -> None:
    repo.commit(registry(HIDDEN))
    lies = {**HANDLER, "build.json": json.dumps({"flags": {"entries": []}})}
    for members in ({**HANDLER, "x.so": "\x7fELF"}, lies):
        release(tmp_path, registry(HIDDEN), members, "1")
    found = linted(repo, tmp_path / "store")
    assert sorted(source.kind for source in found.unread) == ["artifact", "artifact"]
    error = conclude(found, "deploytool flags lint")
    assert error is not None
    assert error.exit_code == 2
    assert not found.refusals


def test_a_manifest_that_lies_about_its_table_is_trouble(repo: Repo, tmp_path: Path) -> None:
    repo.commit(registry(HIDDEN))
    content = zipapp(HANDLER)
    flags = table(registry(HIDDEN)).model_copy(update={"table": "0" * 64})
    add(tmp_path / "store", put(tmp_path / "made", content), manifest(content, flags))
    (source,) = linted(repo, tmp_path / "store").unread
    assert source.kind == "release"
    assert "digest" in source.trouble


def test_p4_the_incident_is_refused_against_a_live_old_build(repo: Repo, tmp_path: Path) -> None:
    """The eighth server: its build is in no history and no store; only the host knows it."""
    repo.commit(registry(HIDDEN))
    repo.write(INCIDENT)
    good = live("router1", table(registry(HIDDEN)))
    assert not linted(repo, tmp_path / "store", {"router1": good}).refusals
    seen = {"router1": good, "router2": live("router2", table(BEFORE))}
    found = linted(repo, tmp_path / "store", seen)
    (refusal,) = found.refusals
    assert refusal.rule is FlagRule.BIT_NO_REUSE
    assert "POWER_PEG at router2, build " in refusal.text
    assert found.count("host") == 2
    error = conclude(found, "again")
    assert error is not None
    assert error.exit_code == 3


def test_p4_a_host_whose_build_was_not_seen_is_never_nothing(repo: Repo, tmp_path: Path) -> None:
    repo.commit(registry(HIDDEN))
    good = live("router2", table(registry(HIDDEN)))
    other = Other(pid=9, role="acts", ways=("maps",), release="a" * 64, detail="/x")
    hidden = Other(pid=77, role="unseen", detail="no right")
    shown = good.shown.manifest
    assert shown is not None
    altered = shown.but(text=str(shown.text).replace("HIDDEN", "SHOWN"))
    bad: list[tuple[Evidence | HostFault, str]] = [
        (HostFault(FaultKind.UNREACHABLE, "no route"), "unreachable"),
        (but(good, manifest=None), "its manifest is not here"),
        (but(good, manifest=altered), "its manifest is not here"),
        (
            but(good, manifest=ManifestShown(sha="a" * 64, text="{}")),
            "its manifest is not here",
        ),
        (but(good, others=(other,)), "its manifest is not here"),
        (but(good, runs=()), "could not be seen"),
        (but(good, others=(hidden,)), "could not be seen"),
        (live("router2", None), "does not say what its bits mean"),
        (live("router2", FlagTable(table="0" * 64, wire="0" * 64)), "digest"),
    ]
    for host, trouble in bad:
        seen: RoundAnswers = {"router1": good, "router2": host}
        found = linted(repo, tmp_path / "store", seen)
        assert [trouble in source.trouble for source in found.unread] == [True], trouble
        assert found.unread[0].place.startswith("router2")
        error = conclude(found, "again")
        assert error is not None
        assert error.exit_code == 5


def test_a_build_that_runs_but_is_active_nowhere_is_known_from_the_store(
    repo: Repo, tmp_path: Path
) -> None:
    repo.commit(registry(HIDDEN))
    old = release(tmp_path, registry(HIDDEN), HANDLER, "0")
    good = live("router1", table(registry(HIDDEN)))
    stale = good.shown.runs[0].but(sha=old.manifest.sha256)
    found = linted(repo, tmp_path / "store", {"r": but(good, runs=(stale,))})
    assert found.unread == ()
    assert found.count("host") == 2


def test_a_host_with_nothing_on_it_says_nothing(repo: Repo, tmp_path: Path) -> None:
    repo.commit(registry(HIDDEN))
    bare = fleet.bare("router1", fleet.Rendered.of(fleet.inventory(1)))
    seen: RoundAnswers = {"router1": look(bare, probe_request(), 5)}
    found = linted(repo, tmp_path / "store", seen)
    assert conclude(found, "again") is None
    assert found.count("host") == 1


BUILDER = """
import json, pathlib, sys
sys.path.insert(0, {tests!r})
from tests.unit.registry.artifacts import manifest, table, zipapp
here, out = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[3])
content = zipapp({{"r.py": (here / "code.py").read_text()}})
(out / "router").write_bytes(content)
(out / "router").chmod(0o755)
made = manifest(content, table((here / {registry!r}).read_text()))
(out / "buildinfo.json").write_bytes(made.canonical())
"""


def test_today_s_build_is_made_and_looked_into(repo: Repo, tmp_path: Path) -> None:
    mine = flag("A", 1, handler="r:A")
    repo.commit(registry(mine, reserved("POWER_PEG", 3)))
    tests = str(Path(__file__).parents[3])
    repo.write('version: "1"\nregistry: flags.yaml\n', "app/builds/1.yaml")
    repo.write(BUILDER.format(tests=tests, registry="flags.yaml"), "app/build.py")
    repo.write("class A: pass", "app/code.py")
    found = linted(repo, tmp_path / "store")
    assert conclude(found, "again") is None
    assert found.count("today's build") == 1
    repo.write("class A: pass\nclass PowerPeg: pass", "app/code.py")
    assert {r.rule for r in linted(repo, tmp_path / "store").refusals} == {
        FlagRule.RETIRED_UNREACHABLE
    }
    repo.write(registry(mine), "app/other.yaml")
    repo.write(BUILDER.format(tests=tests, registry="other.yaml"), "app/build.py")
    (source,) = linted(repo, tmp_path / "store").unread
    assert "flag table is not the one" in source.trouble


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["deploytool", "flags", "lint", *arguments])
    return main._run()


def test_the_command_s_exit_codes_and_its_document(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(repo.registry)
    repo.commit(BEFORE)
    monkeypatch.chdir(repo.folder)
    assert run(monkeypatch, "--registry", path) == 0
    assert "every rule holds, against 1 versions in the history" in capsys.readouterr().out
    repo.write(INCIDENT)
    assert run(monkeypatch, "--registry", path, "--json") == 3
    out, shown = capsys.readouterr()
    said = json.loads(out)
    assert (said["exit"], said["rule"]) == (3, "FLAG_BIT_NO_REUSE")
    assert [r["rule"] for r in said["refusals"]] == ["FLAG_BIT_NO_REUSE"]
    assert said["refusals"][0]["place"].endswith("flags.yaml:11")
    assert [(s["kind"], s["entries"]) for s in said["sources"]] == [("commit", 2)]
    assert "What to do now:" in shown
    assert f"deploytool flags lint --registry {path}" in shown
    assert run(monkeypatch, "--registry", path, "--store", "nowhere") == 2
    assert run(monkeypatch, "--registry", path, "--branch", "nowhere") == 2
    assert run(monkeypatch, "--registry", "nowhere") == 2
    assert run(monkeypatch, "--registry", path, "-i", "nowhere") == 2


def test_the_command_looks_at_the_fleet(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploytool.cli import flagging, flags

    repo.commit(registry(HIDDEN))
    old = live("router1", table(BEFORE))
    monkeypatch.setattr(flagging, "_seen", lambda _path: {"router1": old})
    with pytest.raises(Ended) as ended:
        flags.lint(repo.registry, inventory=Path("fleet.yaml"))
    assert ended.value.error.exit_code == 3
    assert "-i fleet.yaml" in ended.value.error.now
    assert "FLAG_NO_DELETE_UNLESS_RESERVED" in ended.value.error.what
