"""A registry is read whole or refused with every mistake, each with file, line and path."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploytool.errors import InputError
from deploytool.registry.model import entries_of, table_digest
from deploytool.registry.source import load_registry, parse_registry, recall
from deploytool.release.model import FlagTable

from .registries import flag, registry, reserved


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(InputError) as refused:
        parse_registry(text, "flags.yaml")
    assert refused.value.exit_code == 2
    assert "deploytool flags lint" in refused.value.now
    return refused.value.details


def test_what_it_says_is_known_by_line() -> None:
    written = parse_registry(registry(flag("A", 1), reserved("B", 3)), "flags.yaml")
    assert [(e.name, e.bit, e.reserved) for e in written.entries] == [
        ("A", 1, False),
        ("B", 3, True),
    ]
    assert [e.place for e in written.entries] == ["flags.yaml:3", "flags.yaml:12"]


@pytest.mark.parametrize(
    ("entry", "path", "said"),
    [
        (flag("A", 16), "flags.0.bit", "found 16: input should be less than 16"),
        (flag("A", -1), "flags.0.bit", "greater than or equal to 0"),
        (flag("A", "0o3"), "flags.0.bit", "found '0o3': input should be a valid integer"),
        (flag("A", "010"), "flags.0.bit", "found 010, which YAML reads as 8"),
        (flag("A", "0x3"), "flags.0.bit", "found 0x3, which YAML reads as 3"),
        (flag("A", "1:3"), "flags.0.bit", "found 1:3, which YAML reads as 63"),
        (flag("A", "'3'"), "flags.0.bit", "valid integer"),
        (flag("A", "3.0"), "flags.0.bit", "valid integer"),
        (flag("A", "true"), "flags.0.bit", "valid integer"),
        (flag("on", 3), "flags.0.name", "found on, which YAML reads as true"),
        (flag("retail", 3), "flags.0.name", "pattern"),
        (flag("A" * 33, 3), "flags.0.name", "pattern"),
        (flag("A", 3, meaning="''"), "flags.0.meaning", "must not be empty"),
        (flag("A", 3, meaning=None), "flags.0.meaning", "field required"),
        (flag("A", 3, meaning='"a\\0b"'), "flags.0.meaning", "control characters"),
        (flag("A", 3, meaning='"\\ud800"'), "flags.0.meaning", "control characters"),
        (flag("A", 3, handler="nothing"), "flags.0.handler", "pattern"),
        (flag("A", 3, since="2026.1"), "flags.0.since", "found 2026.1: input should be a valid"),
        (flag("A", 3, activation="later"), "flags.0.activation", "'always' or 'runtime'"),
        (flag("A", 3, activation="runtime"), "flags.0", "wants requires: [parity]"),
        (flag("A", 3, requires="[parity]"), "flags.0", "wants requires: []"),
        (flag("A", 3, owner="&x me"), "document", "anchors and aliases"),
        (flag("A", 3) + "    bit: 4\n", "flags.0.bit", "line 11: the key is here twice"),
        (flag("A", 3) + "    digest: 4\n", "flags.0.digest", "is not a key of a flag registry"),
        (reserved("A", 3, when="2012-08-01"), "reserved.0.when", "valid string"),
        (reserved("A", 99), "reserved.0.bit", "less than 16"),
    ],
)
def test_a_mistake_is_named(entry: str, path: str, said: str) -> None:
    lines = mistakes(registry(entry))
    assert any(f": {path}: " in line and said in line for line in lines), lines
    assert all(line.startswith("flags.yaml:") for line in lines)


def test_all_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    lines = mistakes(registry(flag("a", 1), flag("B", 16, meaning="''"), reserved("C", "on")))
    assert [line.split(": ")[0] for line in lines] == [
        "flags.yaml:3",
        "flags.yaml:12",
        "flags.yaml:13",
        "flags.yaml:20",
        "flags.yaml:20",
    ]


@pytest.mark.parametrize(
    "text", ["", "[]", "flags", "schema: 1\n", "schema: 2\nflags: []\nreserved: []\n"]
)
def test_what_is_no_registry_is_refused(text: str) -> None:
    assert mistakes(text)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["a: [", "a: !x 1\n", "[" * 3000])
def test_what_is_no_yaml_is_refused(text: str) -> None:
    assert "is not YAML" in mistakes(text)[0]


def test_a_file_that_is_not_there_too_large_or_no_text(tmp_path: Path) -> None:
    path = tmp_path / "flags.yaml"
    for content in (None, b"#" * 300_000, b"\xff"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"flags\.yaml"):
            load_registry(path)


def test_an_old_version_is_read_by_the_rules_of_its_time() -> None:
    then = (
        "flags:\n  - {name: OLD, bit: 3, meaning: x}\n  - {name: odd name, bit: 4, colour: red}\n"
    )
    assert [(e.name, e.bit, e.place) for e in recall(then.encode(), "then")] == [
        ("OLD", 3, "then:2"),
        ("odd name", 4, "then:3"),
    ]


def test_blanks_and_line_breaks_are_no_difference_of_meaning() -> None:
    one = parse_registry(
        registry(flag("A", 1, meaning="Does  this,\n      and that.")), "f"
    ).entries
    (other,) = recall(registry(flag("A", 1, meaning='" Does this, and\\tthat."')).encode(), "then")
    assert one[0].content == other.content
    assert other.meaning == "Does this, and that."


@pytest.mark.parametrize(
    "then",
    [
        b"\xff",
        b"flags: [",
        b"- 1",
        b"reserved: []",
        b"flags: {A: 3}",
        b"flags: [3]",
        b"flags: [{name: A}]",
        b"flags: [{bit: 3}]",
        b"flags: [{name: A, bit: 16}]",
        b"flags: [{name: A, bit: 010}]",
        b"flags: [{name: A, bit: 3, meaning: 2020-01-01}]",
        b"flags: [{name: A, bit: 3, meaning: .nan}]",
        b"flags: &x []",
        b"flags: []\nflags: []",
        b"flags: []\n" + b"#" * 300_000,
    ],
)
def test_an_old_version_that_can_t_be_read_says_so_and_is_never_nothing(then: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        recall(then, "then")


def _table() -> FlagTable:
    entries = parse_registry(registry(flag("A", 1), reserved("B", 3)), "f").entries
    said: list[dict[str, object]] = [
        {
            "name": "A",
            "bit": 1,
            "meaning": "Does a.",
            "handler": "router.a:A",
            "activation": "always",
            "requires": [],
            "state": "active",
            "digest": entries[0].digest,
        },
        {"name": "B", "bit": 3, "state": "reserved", "digest": entries[1].digest},
    ]
    return FlagTable(table=table_digest(entries), wire="0" * 64, entries=tuple(said))


def test_a_manifest_s_table_is_believed_only_where_its_digests_are_true() -> None:
    table = _table()
    assert [str(e) for e in entries_of(table, "m")] == ["A on bit 1", "B on bit 3"]
    assert not entries_of(FlagTable(table=table_digest(()), wire="0" * 64), "m")
    for change in ({"bit": 2}, {"meaning": "Does b."}, {"state": "gone"}, {"digest": "x"}):
        altered = ({**table.entries[0], **change}, table.entries[1])
        with pytest.raises(ValueError, match=r"digest|state"):
            entries_of(table.model_copy(update={"entries": altered}), "m")
    with pytest.raises(ValueError, match="table"):
        entries_of(table.model_copy(update={"entries": table.entries[:1]}), "m")
