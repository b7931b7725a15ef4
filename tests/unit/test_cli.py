"""The command line: one document with --json, 2 for what a person got wrong, help that teaches."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deploytool.cli import deploying, status
from deploytool.cli.output import path_hint
from deploytool.errors import DeploytoolError, InputError, Refused
from deploytool.registry.model import entries_of
from deploytool.release.model import FlagTable
from deploytool.rollout.model import Plan
from tests.forked import deploytool
from tests.schemas import valid

TIMEOUT_S = 60


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(cwd), **environment}
    variables["PYTHONPATH"] = str(Path(__file__).parents[2])
    return deploytool(*words, cwd=cwd, variables=variables, timeout_s=TIMEOUT_S)


def test_the_command_is_the_same_in_a_process_that_imports_everything_itself(
    tmp_path: Path,
) -> None:
    for words in (("--help",), ("status", "-i", "absent.yaml", "--json")):
        here = run(*words, cwd=tmp_path)
        apart = subprocess.run(
            here.args, capture_output=True, text=True, cwd=tmp_path, timeout=TIMEOUT_S,
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path),
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
        )  # fmt: skip
        assert here.returncode == apart.returncode
        assert (here.stdout, here.stderr) == (apart.stdout, apart.stderr)


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What is on stdout: exactly one JSON document."""
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    assert value["exit"] == done.returncode
    if "deploytool.cli.main" in done.args:
        valid(done.args[3:], value)
    return value


COMMANDS = (
    ("status",),
    ("verify",),
    ("plan",),
    ("deploy",),
    ("resume",),
    ("rollback",),
    ("release", "build"),
    ("release", "describe"),
    ("release", "show"),
    ("release", "verify"),
    ("release", "list"),
    ("host", "prepare"),
    ("host", "check"),
    ("host", "retire"),
    ("fleet", "up"),
    ("fleet", "down"),
    ("fleet", "status"),
    ("flags", "status"),
    ("start",),
    ("watch",),
    ("gate",),
    ("rehearse",),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_takes_json(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    done = run(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")
    assert "--json" in done.stdout
    summary = done.stdout.splitlines()[2].strip()
    assert len(summary) > 20


def test_help_teaches_the_way_in_and_the_exit_codes(tmp_path: Path) -> None:
    said = " ".join(run("--help", cwd=tmp_path).stdout.split())
    assert "deploytool rehearse" in said
    assert "deploytool deploy -i " in said
    for code in ("0 done", "2 bad input", "3 refused", "4 failed", "5 MIXED", "130", "1 a bug"):
        assert code in said


@pytest.mark.parametrize(
    "words",
    [(), ("release",), ("host",), ("host", "signers"), ("flags",), ("fleet",)],
    ids=" ".join,
)
def test_lists_of_commands_are_whole_sentences_at_80_columns(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    said = run(*words, "--help", cwd=tmp_path, COLUMNS="80").stdout
    commands = said.partition("Commands:\n")[2].splitlines()
    assert commands
    for line in commands:
        assert line.rstrip().endswith("."), line
        assert not line.rstrip().endswith("..."), line


def test_what_can_be_rehearsed_is_listed(tmp_path: Path) -> None:
    said = document(run("rehearse", "--list", "--json", cwd=tmp_path))
    assert {"healthy", "stop-drill"} <= {item["name"] for item in said["scenarios"]}
    assert all(item["fleets"] for item in said["scenarios"] + said["faults"])
    assert not list(tmp_path.iterdir()), "nothing was built or brought up"


def test_advice_says_what_to_type_where_deploytool_is_not_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "a venv" / "deploytool"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(script), "status"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert (path_hint() or "").endswith(f"alias deploytool='{script}'")
    (script.parent / "activate").touch()
    assert (path_hint() or "").endswith(f"type first: . '{script.parent}/activate'")
    monkeypatch.setenv("PATH", str(script.parent))
    assert path_hint() is None


WRONG = [
    ("deploi",),
    ("deploy",),
    ("deploy", "-i", "absent.yaml", "1.0"),
    ("status", "-i", "absent.yaml"),
    ("status", "-i", "empty.yaml"),
    ("status", "-i", "wrong.yaml"),
    ("status", "--colour", "red"),
    ("plan", "-i", "wrong.yaml", "1.0"),
    ("resume", "-i", "absent.yaml"),
    ("rollback", "-i", "absent.yaml"),
    ("verify", "-i", "absent.yaml"),
    ("host", "check", "-i", "absent.yaml"),
    ("host", "retire", "router1", "-i", "absent.yaml"),
    ("release", "show", "absent"),
    ("release", "build", "1.0", "--source", "absent"),
    ("release", "describe", "absent", "--name", "x", "--version", "1"),
    ("fleet", "up", "--hosts", "0"),
    ("fleet", "up", "--fleet", "moon"),
    *(("status", "-i", f"{keys}.yaml") for keys in ("lost", "damaged", "latin", "folder")),
    ("host", "check", "-i", "damaged.yaml"),
    ("host", "prepare", "-i", "latin.yaml"),
    ("plan", "-i", "damaged.yaml", "1.0"),
    ("release", "describe", "/bin/true", "--name", "x", "--version", "1", "--store", "empty.yaml"),
    (
        "release",
        "describe",
        "/bin/true",
        "--name",
        "x",
        "--version",
        "1",
        "--store",
        "empty.yaml/s",
    ),
    ("release", "show", "x" * 300),
]
SMALL = """\
fleet: small
expect: 1
release_root: /opt/router
service:
  name: router
  supervisor: systemd
  start: ["{{current}}/router"]
  version: ["{{current}}/router", "--version"]
  status: ["{{current}}/router", "status"]
ssh: {{known_hosts: {keys}}}
waves: [rest]
hosts: {{one: {{address: 192.0.2.1}}}}
"""


def inventories(folder: Path) -> None:
    """Inventories that are right but for their pinned keys, each called after what is wrong."""
    for keys in ("lost", "damaged", "latin", "folder"):
        (folder / f"{keys}.yaml").write_text(SMALL.format(keys=keys))
    (folder / "damaged").write_text("192.0.2.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA!\n")
    (folder / "latin").write_bytes(b"# M\xfcller's\n")
    (folder / "folder").mkdir()


@pytest.mark.slow
@pytest.mark.parametrize("words", WRONG, ids=lambda words: " ".join(words)[:80])
def test_what_a_person_got_wrong_ends_with_two_and_three_lines(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "wrong.yaml").write_text("fleet: on\nexpect: 8\n")
    inventories(tmp_path)
    plain = run(*words, cwd=tmp_path)
    assert plain.returncode == 2, plain.stderr
    assert plain.stdout == ""
    for line in ("What happened:", "What it means:", "What to do now:"):
        assert plain.stderr.count(line) == 1
    assert "\033[" not in plain.stderr, "colour is for terminals"
    said = document(run(*words, "--json", cwd=tmp_path))
    assert {"exit", "error", "what", "means", "now", "details"} <= said.keys()
    assert said["means"].startswith("Nothing")


@pytest.mark.parametrize("words", [(), ("release",), ("fleet",), ("host",)], ids=" ".join)
def test_no_word_is_answered_with_help(words: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")


def test_p2_a_wrong_inventory_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("fleet: on\nexpect: 8\n")
    said = document(run("status", "-i", "wrong.yaml", "--json", cwd=tmp_path))
    assert any(line.startswith("wrong.yaml:1: fleet") for line in said["details"])
    assert any(": hosts" in line for line in said["details"])


def test_a_plan_that_cant_be_written_is_bad_input(tmp_path: Path) -> None:
    plan = Plan.model_construct(id="x")
    for place in (tmp_path, tmp_path / "absent" / "plan.json"):
        with pytest.raises(InputError, match="can't be written") as caught:
            deploying._write(place, plan)
        assert caught.value.means == "Nothing was touched."


def test_a_release_is_described_and_listed_as_documents(tmp_path: Path) -> None:
    file = tmp_path / "thing"
    file.write_text("#!/bin/sh\necho thing 1\n")
    file.chmod(0o755)
    words = ("release", "describe", "thing", "--name", "thing", "--version", "1", "--json")
    made = document(run(*words, cwd=tmp_path))
    assert made["manifest"]["version_line"] == "thing 1"
    listed = document(run("release", "list", "--json", cwd=tmp_path))
    assert [item["manifest"]["sha256"] for item in listed["releases"]] == [
        made["manifest"]["sha256"]
    ]
    for verb in ("show", "verify"):
        assert document(run("release", verb, "1", "--json", cwd=tmp_path))["manifest"]


def test_any_artifact_can_have_flags(tmp_path: Path) -> None:
    """What the script of the contract shows of itself is what its manifest says."""
    folder = Path(__file__).parents[1] / "contract"
    (wire,) = re.findall(r"^WIRE=(\w+)$", (folder / "flagged.sh").read_text(), re.MULTILINE)
    words = ["release", "describe", str(folder / "flagged.sh"), "--name", "router"]
    words += ["--version", "1.0", "--flags", str(folder / "flagged.yaml"), "--json"]
    flags = document(run(*words, "--wire", wire, cwd=tmp_path))["manifest"]["flags"]
    table = FlagTable.model_validate_json(json.dumps(flags))
    (entry,) = entries_of(table, "flagged.sh")
    shown = (folder / "flagged.sh").read_text()
    for said in (f"MEANING={entry.digest}", f"TABLE={table.table}", f"NAME={entry.name}"):
        assert said in shown
    for wrong in ((), ("--wire", "latest")):
        assert run(*words, *wrong, cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("module", "words", "next_command"),
    [
        ("typer", "status -i 'a fleet.yaml'", "deploytool status -i 'a fleet.yaml'"),
        ("typer", "release list", "deploytool status -i INVENTORY"),
        ("deploytool.stop.watch_client", "stop --all -i f.yaml", "deploytool stop --all -i f.yaml"),
    ],
)
def test_ctrl_c_is_never_answered_with_a_traceback(
    module: str, words: str, next_command: str, tmp_path: Path
) -> None:
    """Not even while modules are still being read in: what is imported first breaks it off."""
    code = (
        "import sys\n"
        "class Struck:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Struck())\n"
        "from deploytool.cli.entry import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *shlex.split(words), "--json"],
        capture_output=True, text=True, cwd=tmp_path, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert document(done)["now"].removesuffix(" --json").endswith(next_command)


def test_a_long_wait_says_for_whom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "_QUIET_S", 0.05)
    with status.waiting(("router1", "router2"), 30) as heard:
        heard("router1", None)
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    told = "waiting for router2 (each has 30 s to answer), "
    assert lines
    assert all(line.startswith(told) for line in lines)
    with status.waiting(("router1",), 30) as heard:
        heard("router1", None)
        time.sleep(0.5)
    assert capsys.readouterr().err == "", "all have answered"


def test_a_fleet_that_is_not_there_is_said_to_be_absent(tmp_path: Path) -> None:
    said = document(run("fleet", "status", "--json", cwd=tmp_path))
    assert said["state"] == "absent"


def test_the_version_is_said(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert re.fullmatch(r"deploytool \d+\.\d+\.\d+\n", done.stdout)


def test_exit_codes_are_each_one_kinds_own() -> None:
    def kinds(parent: type[DeploytoolError]) -> list[type[DeploytoolError]]:
        return [kind for child in parent.__subclasses__() for kind in (child, *kinds(child))]

    codes = {kind.__name__: kind.exit_code for kind in kinds(DeploytoolError)}
    assert codes == {
        "InputError": 2,
        "EnvironmentProblem": 2,
        "Refused": 3,
        "Restored": 4,
        "NotProven": 5,
        "StopNotConfirmed": 6,
        "Interrupted": 130,
    }
    assert Refused("RULE", "what", "means", "now").rule == "RULE"
