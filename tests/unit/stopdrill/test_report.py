"""The drill's table: rungs and times, and what nobody saw is not told as silence."""

from __future__ import annotations

from typing import Any

import pytest

from deploytool.rehearsal.scenarios.stopdrill import report


def row(**change: Any) -> dict[str, Any]:
    return {
        "host": "router5",
        "end": "DEAD",
        "at_s": 9.5,
        "silent": True,
        "last_child_s": -0.25,
        "steps": [
            {"rung": "quiesce", "event": "no answer in time", "at_s": 4.0},
            {"rung": "fence", "event": "done", "at_s": 4.2},
        ],
        **change,
    }


def test_a_row_tells_every_rung_with_its_time() -> None:
    assert report.row_text(row()) == (
        "router5: DEAD 9.50 s after the key (quiesce no answer in time 4.00 s, fence done 4.20 s); "
        "last child order 250 ms before the key"
    )
    assert report.ends({"router5": row()}) == {"router5": "DEAD"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"last_child_s": 0.0042}, "last child order 4 ms after the key"),
        ({"last_child_s": None}, "no child order of it was seen"),
        ({"last_child_s": None, "silent": False}, "silence not seen"),
        (
            {"last_child_s": 1.0, "silent": False},
            "last child order 1000 ms after the key, and perhaps not its last",
        ),
    ],
)
def test_what_nobody_saw_is_not_silence(change: dict[str, Any], words: str) -> None:
    assert report.last(row(**change)) == words
