"""Writes the parts of ``docs/`` that are drawn from the code. A test fails while they differ.

    .venv/bin/python scripts/docs.py

Each part is between ``<!-- generated: NAME -->`` and ``<!-- end -->``. Everything else in a page is
written by hand and stays.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import typer

from deploytool import __version__, errors
from deploytool.arming import table as arming
from deploytool.cli.main import app
from deploytool.parity.table import RULES
from deploytool.rollout import table as rollout
from deploytool.stop import table as stop

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "deploytool"
PROMISES = tuple(f"P{number}" for number in range(1, 9))
_RULE = re.compile(
    "(?:ARM|FLAGS?|GATE|LOCK|NOTHING|PLAN|PREFLIGHT|RELEASE|RESUME|START)(?:_[A-Z]+)+"
)


@cache
def tracked(pattern: str) -> tuple[Path, ...]:
    """The files of the repository that match; new ones that git does not ignore count too."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    names = sorted(filter(None, listed.split("\0")))
    return tuple(ROOT / name for name in names if (ROOT / name).exists())


def summary(source: str) -> str:
    """The first paragraph of a module's docstring, as one line."""
    text = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
    return " ".join(text.split())


# --- promises -------------------------------------------------------------------------------------


@cache
def _tests() -> tuple[tuple[str, str, str], ...]:
    """Every test file: its name, its source, and what it says of itself."""
    found = []
    for path in tracked("tests/**/test_*.py"):
        source = path.read_text(encoding="utf-8")
        found.append((path.relative_to(ROOT).as_posix(), source, summary(source)))
    return tuple(found)


def tests_of(promise: str) -> Iterator[tuple[str, str]]:
    """The test files that try to break a promise, each with what it says of itself.

    A file counts where a test in it is named for the promise (``test_p3_...``), or its first
    sentence names the promise.
    """
    named = re.compile(rf"def test_(?:p\d_)*{promise.lower()}_")
    for name, source, said in _tests():
        if named.search(source) or re.search(rf"\b{promise}\b", said):
            yield name, said


def promise_table(promise: str) -> str:
    """The table of a promise's tests, or the sentence that says that it has none."""
    rows = [f"| `{name}` | {said} |" for name, said in tests_of(promise)]
    if not rows:
        return "**Open: no test holds this promise yet.**"
    return "\n".join(["| tests | what they try |", "|---|---|", *rows])


# --- architecture ---------------------------------------------------------------------------------


def layers() -> list[list[str]]:
    """The packages, topmost first, as import-linter's contract has them."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    (contract,) = (c for c in linter["importlinter"]["contracts"] if c["type"] == "layers")
    return [[name.strip() for name in line.split("|")] for line in contract["layers"]]


def imports() -> dict[str, set[str]]:
    """Which package of deploytool imports which others, imports for type checking included."""
    found: dict[str, set[str]] = {}
    for path in tracked("deploytool/**.py"):
        owner = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "deploytool" and len(parts) > 1 and parts[1] != owner:
                    found.setdefault(owner, set()).add(parts[1])
    return found


def without_shortcuts(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that no longer path replaces, so that the diagram can be read."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for following in graph.get(todo.pop(), set()) - seen:
                seen.add(following)
                todo.append(following)
        return seen

    return {
        source: {t for t in targets if not any(t in reach(o) for o in targets - {t})}
        for source, targets in graph.items()
    }


def architecture_diagram() -> str:
    """The packages by layer, and who imports whom."""
    rows = [row for row in layers() if not {"errors", "__main__"} & {*row}]
    known = {name for row in rows for name in row}
    imported = imports()
    graph = without_shortcuts({name: imported.get(name, set()) & known for name in known})
    lines = ["```mermaid", "flowchart TD"]
    for number, row in enumerate(rows):
        lines += [f"    subgraph layer{number}[ ]", *(f"        {name}" for name in row), "    end"]
    for row in rows:
        for name in row:
            lines += [f"    {name} --> {other}" for other in sorted(graph[name])]
    return "\n".join([*lines, "```"])


def package_table() -> str:
    """Each package with its first sentence."""
    lines = ["| package | holds |", "|---|---|"]
    for row in layers():
        for name in row:
            if name == "__main__":
                continue
            path = PACKAGE / name / "__init__.py"
            source = path if path.exists() else PACKAGE / f"{name}.py"
            lines.append(f"| `{name}` | {summary(source.read_text(encoding='utf-8'))} |")
    return "\n".join(lines)


# --- reference ------------------------------------------------------------------------------------


def exit_rows() -> dict[int, tuple[str, str]]:
    """Every exit code: the class that carries it, if one does, and its meaning."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.DeploytoolError)
    ]
    rows = {0: ("", "Done, and proven on every declared host."), 1: ("", "A bug of deploytool.")}
    for kind in kinds:
        if kind is not errors.DeploytoolError and kind.exit_code not in rows:
            text = (kind.__doc__ or "").partition("\n\n")[0]
            rows[kind.exit_code] = (f"`{kind.__name__}`", " ".join(text.split()))
    return rows


def exit_codes() -> str:
    """The same as a table."""
    lines = ["| code | `error` in `--json` | meaning |", "|---|---|---|"]
    rows = sorted(exit_rows().items())
    return "\n".join([*lines, *(f"| {code} | {name} | {text} |" for code, (name, text) in rows)])


def fault_kinds() -> str:
    """Why a host gave no usable answer, in the words that are printed."""
    return "\n".join(f"- {kind.value}" for kind in errors.FaultKind)


def rule_ids() -> set[str]:
    """Every id of a rule that the program can name in a refusal."""
    return {
        node.value
        for path in tracked("deploytool/**.py")
        if path.relative_to(PACKAGE).parts[0] not in {"market", "simulation"}  # the router's codes
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and _RULE.fullmatch(node.value)
    }


def parity_rules() -> str:
    """Every rule of a proof, as the table has it."""
    rows = [f"| `{rule.id}` | {rule.about} |" for rule in RULES]
    return "\n".join(["| rule | holds |", "|---|---|", *rows])


# --- decisions ------------------------------------------------------------------------------------


def decisions() -> str:
    """Every decision, by its number."""
    lines = ["| number | decision | accepted |", "|---|---|---|"]
    for path in tracked("docs/decisions/[0-9]*.md"):
        title, accepted = path.read_text(encoding="utf-8").split("\n")[:2]
        date = re.match(r"Accepted (\d{4}-\d\d-\d\d)", accepted)
        day = date[1] if date else "no date"
        lines.append(f"| {path.name[:4]} | [{title[2:]}]({path.name}) | {day} |")
    return "\n".join(lines)


# --- the manual page ------------------------------------------------------------------------------

MANUAL = ROOT / "docs" / "deploytool.1"


def manual() -> str:
    """The manual page, in roff: what ``--help`` says first of each command."""
    root = typer.main.get_command(app)
    lines = [
        '.\\" Written by scripts/docs.py.',
        f'.TH DEPLOYTOOL 1 "" "deploytool {__version__}" "User Commands"',
        ".SH NAME",
        "deploytool \\- put a build on a fleet over SSH and prove that every host runs it",
        ".SH SYNOPSIS",
        ".B deploytool",
        ".I COMMAND",
        "[\\fIOPTION\\fR ...]",
        ".SH DESCRIPTION",
        "Each command answers to \\fB\\-h\\fR with its options. With \\fB\\-\\-json\\fR it prints",
        "one JSON document on standard output, and nothing else there.",
        "With \\fB\\-\\-verbose\\fR it shows each request to a host, its answer and its time;",
        "\\fB\\-\\-log\\-file\\fR \\fIFILE\\fR appends the same lines to FILE. Secrets are masked.",
        ".SH COMMANDS",
    ]
    for name, text in _commands(root, ""):
        lines += [".TP", f".B {_roff(name)}", _roff(text)]
    lines += [".SH EXIT STATUS"]
    for code, (_, text) in sorted(exit_rows().items()):
        lines += [".TP", f".B {code}", _roff(text.replace("``", ""))]
    lines += [".SH ENVIRONMENT"]
    for name, text in ENVIRONMENT.items():
        lines += [".TP", f".B {name}", _roff(text)]
    lines += [
        ".SH FILES",
        ".TP",
        ".I .deploytool",
        "Releases, journals, records and throwaway fleets: in the inventory's folder or the",
        "nearest one above it that has such a folder, else in the working folder.",
    ]
    return "\n".join(lines) + "\n"


ENVIRONMENT = {
    "DEPLOYTOOL_HOME": "The folder to use instead of .deploytool.",
    "DEPLOYTOOL_INVENTORY": "The inventory of commands that are given none with -i.",
    "NO_COLOR": "Where set, nothing is coloured.",
}


def _commands(group: Any, before: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401 click's, or typer's own copy of it
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            text = (command.help or "").partition("\n\n")[0]
            yield f"{before}{name}", " ".join(text.split())


def _roff(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace("\n'", "\n\\&'")


# --- the three tables -----------------------------------------------------------------------------


def rollout_states() -> str:
    """The rollout's table as a diagram."""
    first = {purpose.value: step for purpose, step in rollout.FIRST.items()}
    return _mermaid(rollout.TABLE.mermaid(first))


def arming_states() -> str:
    """The table of an arming and a disarming as a diagram."""
    first = {purpose.value: step for purpose, step in arming.FIRST.items()}
    return _mermaid(arming.TABLE.mermaid(first))


def stop_states() -> str:
    """The table of one host's ladder as a diagram."""
    return _mermaid(stop.TABLE.mermaid({"": stop.FIRST}))


def _mermaid(diagram: str) -> str:
    return f"```mermaid\n{diagram}\n```"


# --- pages ----------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[], str]] = {
    **{f"tests of {name}": partial(promise_table, name) for name in PROMISES},
    "packages": package_table,
    "diagram": architecture_diagram,
    "rollout states": rollout_states,
    "arming states": arming_states,
    "stop states": stop_states,
    "exit codes": exit_codes,
    "fault kinds": fault_kinds,
    "decisions": decisions,
    "parity rules": parity_rules,
}
_PART = re.compile(r"(<!-- generated: ([^>]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def drawn(page: str) -> str:
    """A page with its generated parts as the code has them now.

    Raises:
        KeyError: it names a part that is not generated here.
    """
    return _PART.sub(lambda m: m[1] + PARTS[m[2]]() + m[3], page)


def main() -> int:
    """Writes every page that differs; says which."""
    for path in tracked("docs/**.md"):
        page = path.read_text(encoding="utf-8")
        if (now := drawn(page)) != page:
            path.write_text(now, encoding="utf-8")
            print(path.relative_to(ROOT))
    MANUAL.write_text(manual(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
