"""What is there to be taken as it is: the workflow, the hook, and the gate on this repository."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploytool.gate.model import REASONS, Check

ROOT = Path(__file__).parents[3]
OPTION = re.compile(r"(?<=\s)(--?[a-z]+)(?=\s)")


def deploytool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploytool.cli.main", *words],
        capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def commands() -> list[str]:
    """Every call of deploytool in the workflow and in the snippets of the page about the gate."""
    steps = [
        step["run"]
        for job in load(".github/workflows/gate.yml")["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    page = (ROOT / "docs/gate.md").read_text()
    text = "\n".join([*steps, *re.findall(r"```\w*\n(.*?)```", page, re.DOTALL)])
    lines = text.replace("\\\n", " ").splitlines()
    found = [line.strip() for line in lines if re.search(r"(^|[ /])deploytool [a-z]", line)]
    assert len(found) >= 6
    return [re.sub(r"^.*?deploytool ", "", line) for line in found]


@pytest.mark.parametrize("command", commands())
def test_every_command_that_is_shown_exists_with_its_options(command: str) -> None:
    words = shlex.split(command, comments=True)
    verb = words[:2] if words[0] in {"flags", "release", "fleet", "host"} else words[:1]
    done = deploytool(*verb, "--help")
    assert done.returncode == 0, done.stderr
    for option in OPTION.findall(f" {' '.join(words)} "):
        assert re.search(rf"(^|[\s,]){re.escape(option)}\b", done.stdout), option


def test_the_workflow_reads_all_history_and_can_t_be_talked_into_running_words() -> None:
    workflow = load(".github/workflows/gate.yml")
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        checkout = job["steps"][0]
        assert checkout["with"]["fetch-depth"] == 0
        assert checkout["with"]["persist-credentials"] is False
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "expressions are text in a shell: use env"


def test_the_hook_looks_at_registries_and_calls_what_is_there() -> None:
    (hook,) = load(".pre-commit-hooks.yaml")
    for name in (
        "router_binary/flags.yaml",
        "flags.yml",
        "router_binary/history/flags-2011.4.yaml",
    ):
        assert re.search(hook["files"], name)
    assert not re.search(hook["files"], "docs/flags.md")
    _, *words = shlex.split(hook["entry"])
    assert deploytool(*words, "--help").returncode == 0


def test_the_page_explains_every_check() -> None:
    page = (ROOT / "docs/gate.md").read_text()
    assert set(REASONS) == set(Check)
    for check in Check:
        assert f"`{check.value}`" in page
