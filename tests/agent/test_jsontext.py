"""JSON without the module ``json``: reads, writes and refuses the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.agent import jsontext

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    PLAIN.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans())
def test_it_writes_and_reads_what_json_does(value: object, sort: bool) -> None:
    text = json.dumps(value, separators=(",", ":"), sort_keys=sort)
    assert jsontext.dumps(value, sort=sort) == text
    assert jsontext.loads(f" \n{text}\t", dict, str) == value


@given(st.text(alphabet=' [{]}",:0189.eE+-truefalsn\\\\u'))
def test_it_refuses_what_json_refuses(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 # of any kind
            jsontext.loads(text, dict, str)
    else:
        assert jsontext.loads(text, dict, str) == expected


def test_what_json_does_not_have_is_refused() -> None:
    for value in (float("nan"), float("inf"), b"", {1, 2}):
        with pytest.raises((ValueError, TypeError)):
            jsontext.dumps(value)
    with pytest.raises(ZeroDivisionError):
        jsontext.loads("[NaN]", dict, lambda _word: 1 / 0)
