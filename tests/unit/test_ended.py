"""A service that does not run is told with how it ended, as systemd saw it."""

from __future__ import annotations

import pytest

from deploytool.agent.model import Property
from deploytool.parity.ended import how_it_ended
from deploytool.parity.rules import main_rule
from tests.unit.evidences import but, good, wanted


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ({}, ""),
        ({"Result": "success", "ExecMainCode": "0", "ExecMainStatus": "0"}, ""),
        ({"Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0"}, ""),
        ({"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "3"}, "exit code 3"),
        (
            {"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "1", "NRestarts": "4"},
            "exit code 1, started again 4 times",
        ),
        (
            {"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "203", "NRestarts": "1"},
            "exit code 203/EXEC, the artifact can't be executed, started again once",
        ),
        (
            {"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"},
            "ended by SIGKILL",
        ),
        (
            {"Result": "core-dump", "ExecMainCode": "3", "ExecMainStatus": "11"},
            "ended by SIGSEGV, with a core dump",
        ),
        (
            {"Result": "oom-kill", "ExecMainCode": "2", "ExecMainStatus": "9"},
            "the kernel killed it for want of memory, ended by SIGKILL",
        ),
        ({"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "64"}, "ended by SIGRTMAX"),
        ({"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "99"}, "ended by signal 99"),
        ({"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "x\n"}, ""),
        ({"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "٣"}, ""),
        (
            {"Result": "exec-condition", "NRestarts": "x"},
            "it was not started, for it is fenced or was never confirmed",
        ),
    ],
)
def test_what_systemd_says_is_said_in_words(unit: dict[str, str], said: str) -> None:
    assert how_it_ended(unit) == said


def test_systemd_s_own_codes_name_what_it_could_not_do() -> None:
    for number in range(200, 246):
        said = how_it_ended({"ExecMainCode": "1", "ExecMainStatus": str(number)})
        assert said.startswith(f"exit code {number}/")
        assert len(said) > len(f"exit code {number}/") + 5


def test_the_last_word_of_the_service_stands_in_the_finding_and_all_of_them_beside_it() -> None:
    unit = (
        Property(name="ExecMainCode", value="1"),
        Property(name="ExecMainStatus", value="3"),
    )
    log = ("one", f"{'x' * 300}two\x1b[2J")
    gone = but(good(), main=0, unit=unit, log=log)
    (finding,) = main_rule(wanted(), gone)
    assert finding.found.startswith("no main process; exit code 3; it said last: xxx")
    assert finding.found.endswith("two [2J")
    assert len(finding.found) < 300
    assert finding.facts["log"] == ["one", f"{'x' * 300}two [2J"]
    (plain,) = main_rule(wanted(), but(good(), main=0, unit=()))
    assert plain.found == "no main process"
