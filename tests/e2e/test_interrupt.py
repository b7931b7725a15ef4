"""Ctrl-C: whenever it comes, what is left is what was there before, and that is proven."""

from __future__ import annotations

import pytest

from .conftest import Trio
from .workstation import NEW, OLD, ROOT

pytestmark = pytest.mark.containers


def test_p7_ctrl_c_while_staging_switches_nothing(trio: Trio) -> None:
    trio.hurt(f"rm -rf {ROOT}/releases/{trio.desk.digest(NEW)}")
    before = trio.looks()
    ended = trio.desk.interrupted("staging: ", "deploy", "-i", trio.inventory, NEW)
    assert ended.code == 130, ended
    assert "proven to be what they were" in ended.err
    assert trio.looks() == before
    assert trio.status().code == 0


@pytest.mark.parametrize("at", ["switching: router1", "switching: router2"])
def test_p7_ctrl_c_during_a_wave_brings_back_what_was_switched(trio: Trio, at: str) -> None:
    ended = trio.desk.interrupted(at, "deploy", "-i", trio.inventory, NEW)
    assert ended.code == 130, ended
    assert "proven to be what they were" in ended.err
    assert trio.all_run(OLD)
    assert all(look["locked"] == "no" for look in trio.looks().values())
    assert trio.status().code == 0


def test_p7_ctrl_c_before_anything_was_changed_leaves_no_lock(trio: Trio) -> None:
    before = trio.looks()
    ended = trio.desk.interrupted("checking: ", "deploy", "-i", trio.inventory, NEW)
    assert ended.code == 130, ended
    assert trio.looks() == before
