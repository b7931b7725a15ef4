"""YAML as people read it: what YAML would silently make of a word is a mistake with a line."""

from __future__ import annotations

import pytest
import yaml

from deploytool.fleet.yaml_source import DEPTH_AT_MOST, Document, named


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("on", "true"),
        ("No", "false"),
        ("yes", "true"),
        ("010", "8"),
        ("0x3", "3"),
        ("0b11", "3"),
        ("1_0", "10"),
        ("1:30", "90"),
        ("+5", "5"),
    ],
)
def test_a_word_that_yaml_reads_as_something_else_is_a_mistake(word: str, read: str) -> None:
    for text in (f"a: 1\nb: {word}\n", f"a: 1\n{word}: b\n"):
        document = Document(text)
        (line,) = named(document.mistakes, document, "f.yaml")
        assert f"line 2: found {word}, which YAML reads as {read};" in line
        assert f'"{word}" in quotes' in line


@pytest.mark.parametrize("word", ["true", "false", "3", "-1", "0", "0.5", '"on"', "'010'", "0o3"])
def test_a_word_that_is_what_it_looks_like_is_none(word: str) -> None:
    assert not Document(f"a: {word}\n").mistakes


def test_a_key_given_twice_is_named_with_its_second_line() -> None:
    document = Document("a: 1\nb:\n  c: 1\n  c: 2\n")
    assert named(document.mistakes, document, "f") == ("f:4: b.c: line 4: the key is here twice",)


@pytest.mark.parametrize("text", ["a: &x 1\nb: *x\n", "a: &x {b: 1}\n", "&x a: 1\n"])
def test_anchors_are_refused(text: str) -> None:
    document = Document(text)
    assert document.value is None
    assert "anchors" in document.mistakes[0].text


def test_it_is_read_to_a_depth_that_no_file_of_ours_has() -> None:
    assert not Document("[" * DEPTH_AT_MOST + "]" * DEPTH_AT_MOST).mistakes
    for open_ in ("[", "{a: "):
        with pytest.raises(yaml.YAMLError, match="nested too deeply"):
            Document(open_ * (DEPTH_AT_MOST + 1))


@pytest.mark.parametrize(
    "text", ["a: [", "a: 2026-13-45\n", "[" * 5000, "a: 1\n---\nb: 2\n", "a: !x 1"]
)
def test_what_is_not_yaml_says_so_and_nothing_worse(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        Document(text)
