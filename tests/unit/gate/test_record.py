"""What a record shows, and what it never can: pure, over everything that can be wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.fleet.model import RehearsalDemand
from deploytool.gate.record import Kept, PlayedFaults, PlayedScenario, RehearsalRecord, Shape, shown
from deploytool.gate.records import keep, read_all

from .repository import new_key

NOW = 1_800_000_000
RELEASE, OTHER = "a" * 64, "b" * 64
SHAPE = Shape(service="router", supervisor="systemd", waves=(1, 3, 4))
DEMAND = RehearsalDemand(records="records", signers="signers", scenarios=("healthy",), faults=0)
FAULTS = PlayedFaults(
    faults=("hangs", "gone"), seed=20120801, planned=60, played=60, struck=58,
    false_successes=0, unresolved=0, unexpected=0,
)  # fmt: skip


def scenario(name: str = "healthy", points: int = 5, held: int = 5) -> PlayedScenario:
    return PlayedScenario(name=name, passed=points == held, points=points, held=held)


def record(**other: Any) -> RehearsalRecord:
    return RehearsalRecord.model_validate(
        {
            "tool": "deploytool 1", "release": RELEASE, "version": "1", "baseline": OTHER,
            "fleet": "container", "shape": SHAPE, "began": NOW - 100, "ended": NOW - 10,
            "scenarios": (scenario(),), **other,
        }
    )  # fmt: skip


def lacking(*records: RehearsalRecord, demand: RehearsalDemand = DEMAND) -> str:
    kept = [Kept(f"record {number}", item, "ci") for number, item in enumerate(records)]
    return "; ".join(shown(kept, RELEASE, SHAPE, demand, NOW)[1])


def test_a_record_of_just_this_shows_it() -> None:
    evidence, lacks = shown([Kept("r", record(), "ci")], RELEASE, SHAPE, DEMAND, NOW)
    assert lacks == ()
    assert "healthy 5/5" in evidence[0]
    assert evidence[0].endswith("ci")


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"release": OTHER}, "it is of 1 (bbbbbbbb)"),
        ({"ended": NOW - 14 * 86_400 - 1, "began": 0}, "14.0 days old"),
        ({"ended": NOW + 301}, "in the future"),
        ({"began": NOW}, "ended before it began"),
        ({"scenarios": ()}, "healthy was not rehearsed"),
        ({"scenarios": (scenario(held=4),)}, "showed 4 of 5"),
        ({"scenarios": (scenario(points=0, held=0),)}, "showed 0 of 0"),
        ({"scenarios": (scenario("other"),)}, "healthy was not rehearsed"),
        ({"shape": SHAPE.model_copy(update={"waves": (1, 3, 3)})}, "7 hosts"),
        ({"shape": SHAPE.model_copy(update={"waves": (4, 4)})}, "waves 4 + 4"),
        ({"shape": SHAPE.model_copy(update={"supervisor": "process"})}, "under process"),
        ({"shape": SHAPE.model_copy(update={"service": "gateway"})}, "of gateway"),
    ],
)
def test_a_record_of_anything_else_does_not(other: dict[str, Any], says: str) -> None:
    assert says in lacking(record(**other))


@pytest.mark.parametrize("edge", [{"ended": NOW - 14 * 86_400, "began": 0}, {"ended": NOW + 299}])
def test_the_limits_are_the_last_that_count(edge: dict[str, Any]) -> None:
    assert lacking(record(**edge)) == ""


def test_a_failure_is_not_undone_by_an_older_success_nor_a_success_by_an_older_failure() -> None:
    bad = (scenario(held=4),)
    later, sooner = NOW - 5, NOW - 50
    assert lacking(record(ended=sooner), record(ended=later, scenarios=bad))
    assert not lacking(record(ended=later), record(ended=sooner, scenarios=bad))


def test_a_scenario_that_nobody_demands_must_not_have_failed_either() -> None:
    assert "other showed 1 of 2" in lacking(record(scenarios=(scenario(), scenario("other", 2, 1))))


WANTED = DEMAND.model_copy(update={"faults": 60})


def test_cases_of_faults_are_counted_over_all_good_campaigns() -> None:
    half = FAULTS.model_copy(update={"planned": 32, "played": 32, "struck": 30})
    few = SHAPE.model_copy(update={"waves": (1, 2)})
    one = record(scenarios=(), faults=half, shape=few)
    assert "30 cases of faults struck" in lacking(record(), one, demand=WANTED)
    another = half.model_copy(update={"seed": 7})
    two = record(scenarios=(), faults=another, shape=few)
    assert lacking(record(), one, two, demand=WANTED) == ""


@pytest.mark.parametrize(
    ("other", "counts"),
    [
        ({}, 30),
        ({"ended": NOW - 50}, 30),
        ({"baseline": "c" * 64}, 30),
        ({"struck": 20}, 30),
        ({"seed": 7}, 60),
        ({"faults": ("gone",)}, 60),
        ({"fleet": "local"}, 60),
        ({"shape": SHAPE.model_copy(update={"waves": (1, 2)})}, 60),
    ],
    ids=str,
)
def test_the_same_cases_count_once_however_often_they_were_kept(
    other: dict[str, Any], counts: int
) -> None:
    half = FAULTS.model_copy(update={"planned": 30, "played": 30, "struck": 30})
    campaign = {key: value for key, value in other.items() if key in {"seed", "faults", "struck"}}
    rest = {key: value for key, value in other.items() if key not in campaign}
    first = record(scenarios=(), faults=half)
    again = record(scenarios=(), **{**rest, "faults": half.model_copy(update=campaign)})
    for pair in ((first, again), (again, first)):
        said = lacking(record(), *pair, demand=WANTED)
        assert said == "" if counts == 60 else f"{counts} cases of faults struck" in said


@pytest.mark.parametrize("struck", [0, 61])
def test_a_campaign_of_which_nothing_struck_shows_nothing(struck: int) -> None:
    idle = FAULTS.model_copy(update={"struck": struck})
    assert f"{struck} of which struck" in lacking(record(), record(scenarios=(), faults=idle))


@pytest.mark.parametrize("bad", ["false_successes", "unresolved", "unexpected"])
def test_one_lie_is_one_too_many(bad: str) -> None:
    """Whatever else was rehearsed, before or after."""
    liar = FAULTS.model_copy(update={bad: 1})
    good = record(scenarios=(), faults=FAULTS)
    assert "1 " in lacking(record(), good, record(scenarios=(), faults=liar), demand=WANTED)
    assert lacking(record(), record(scenarios=(), faults=liar))


def test_a_campaign_that_was_cut_short_does_not_count() -> None:
    cut = FAULTS.model_copy(update={"played": 59})
    assert lacking(record(), record(scenarios=(), faults=cut), demand=WANTED)
    none = FAULTS.model_copy(update={"played": 0, "planned": 0})
    assert lacking(record(), record(scenarios=(), faults=none))


def test_faults_on_two_hosts_show_little() -> None:
    two = SHAPE.model_copy(update={"waves": (1, 1)})
    assert lacking(record(), record(scenarios=(), faults=FAULTS, shape=two), demand=WANTED)


@given(st.lists(st.sampled_from(["release", "shape", "trouble", "old", "failed"]), max_size=4))
def test_nothing_but_a_whole_record_passes(flaws: list[str]) -> None:
    """Any number of records, each with one flaw, never add up to one without."""
    flawed = {
        "release": Kept("r", record(release=OTHER), "ci"),
        "shape": Kept("r", record(shape=SHAPE.model_copy(update={"waves": (7,)})), "ci"),
        "trouble": Kept("r", record(), trouble="it was edited"),
        "old": Kept("r", record(ended=0, began=0), "ci"),
        "failed": Kept("r", record(scenarios=(scenario(held=0),)), "ci"),
    }
    assert shown([flawed[name] for name in flaws], RELEASE, SHAPE, DEMAND, NOW)[1]


# --- files ------------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return new_key(tmp_path, "ci")


@pytest.fixture
def signers(key: Path, tmp_path: Path) -> Path:
    path = tmp_path / "signers"
    path.write_text(f'ci namespaces="rehearsal.deploytool" {key.with_suffix(".pub").read_text()}')
    return path


def test_what_is_kept_is_read_again(key: Path, signers: Path, tmp_path: Path) -> None:
    path = keep(tmp_path / "records", record(), key)
    assert path.stat().st_mode & 0o777 == 0o644
    (found,) = read_all(tmp_path / "records", signers)
    assert (found.record, found.signer, found.trouble) == (record(), "ci", "")
    assert [item.name for item in path.parent.iterdir()] == [path.name], "no draft is left"


def test_every_single_edit_is_noticed(key: Path, signers: Path, tmp_path: Path) -> None:
    """Each value in the record is changed in turn, in its right spelling: none is believed."""
    path = keep(tmp_path / "records", record(faults=FAULTS), key)
    line, _, signature = path.read_text().partition("\n")
    said = json.loads(line)
    edits = 0
    for at in (("release",), ("version",), ("ended",), ("shape", "waves"), ("faults", "played"),
               ("faults", "false_successes"), ("scenarios",), ("fleet",)):  # fmt: skip
        copy = json.loads(line)
        inner = copy
        for step in at[:-1]:
            inner = inner[step]
        old = inner[at[-1]]
        inner[at[-1]] = old + 1 if isinstance(old, int) else old[:-1]
        assert copy != said
        text = json.dumps(copy, sort_keys=True, separators=(",", ":"))
        path.write_text(f"{text}\n{signature}")
        (found,) = read_all(path.parent, signers)
        assert found.trouble, at
        assert not found.signer
        edits += 1
    assert edits == 8


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace('{"baseline"', '{ "baseline"'),
        lambda text: text.replace("\n", "\r\n", 1),
        lambda text: text[:-50],
        lambda text: text.partition("\n")[0] + "\n",
        lambda text: text + "more\n",
        lambda _: "",
        lambda _: "\x00\xff",
        lambda _: "{}\n",
    ],
    ids=["a blank", "a line's end", "cut", "unsigned", "more", "empty", "noise", "no record"],
)
def test_a_file_that_is_not_as_it_was_written_is_not_believed(
    spoil: Any, key: Path, signers: Path, tmp_path: Path
) -> None:
    path = keep(tmp_path / "records", record(), key)
    path.write_bytes(spoil(path.read_text()).encode("latin-1"))
    (found,) = read_all(path.parent, signers)
    assert found.trouble
    assert not found.signer


def test_a_key_that_signs_other_things_signs_no_record(
    key: Path, signers: Path, tmp_path: Path
) -> None:
    signers.write_text(f'ci namespaces="parity.deploytool" {key.with_suffix(".pub").read_text()}')
    keep(tmp_path / "records", record(), key)
    (found,) = read_all(tmp_path / "records", signers)
    assert found.trouble


def test_no_folder_of_records_holds_no_record(signers: Path, tmp_path: Path) -> None:
    assert read_all(tmp_path / "absent", signers) == ()
