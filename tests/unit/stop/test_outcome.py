"""What a stop came to, as people read it: nothing twice, nothing broken, a line for each host."""

from __future__ import annotations

import pytest

from deploytool.stop.model import End, StopRequest
from deploytool.stop.outcome import HostRow, StopOutcome, conclude, lines

ORDER = StopRequest("me@here", "drill", "ab12", 0.0, "")
NO_WITNESS = "the inventory names no witness (silence:), so no one else has seen the silence"


def row(host: str, end: End = End.HALTED, *, silent: bool = False) -> HostRow:
    how = "the router says HALTED, latch 9c357bba9fffaac8"
    held = end is End.HALTED
    return HostRow(host, end, 1.0, how, held, silent, 0.5, "", None, None, "no lease", (), ())


@pytest.mark.parametrize("columns", [80, 140, 400])
def test_the_table_keeps_to_the_terminal_and_loses_no_word(columns: int) -> None:
    answer = StopOutcome(ORDER, tuple(row(f"router{n}") for n in range(1, 9)), NO_WITNESS)
    shown = lines(answer, columns)
    assert all(len(line) <= columns for line in shown)
    begun = [line for line in shown if line.startswith("router")]
    assert [line.split()[0] for line in begun] == [f"router{n}" for n in range(1, 9)]
    assert " ".join(" ".join(shown).split()).count("says HALTED, latch 9c357bba9fffaac8") == 8
    assert columns > 80 or len(shown) > 9


def test_hosts_that_lack_the_same_share_a_line_and_none_is_left_out() -> None:
    rows = (row("router1"), row("router2", End.OUT_OF_REACH), row("router3"))
    error = conclude(StopOutcome(ORDER, rows, NO_WITNESS), "my fleet.yaml")
    assert error is not None
    assert error.exit_code == 6
    assert [line.split(":")[0] for line in error.details] == ["router1, router3", "router2"]
    assert error.now.endswith("deploytool stop -i 'my fleet.yaml' --host router2")


def test_without_a_witness_nothing_is_confirmed_and_with_one_all_is() -> None:
    error = conclude(StopOutcome(ORDER, (row("router1"),), NO_WITNESS), "f.yaml")
    assert error is not None
    assert error.exit_code == 6
    assert "router1" in error.what
    assert conclude(StopOutcome(ORDER, (row("router1", silent=True),), ""), "f.yaml") is None
