"""The report as SARIF 2.1.0 (OASIS): code scanning shows each finding at its file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploytool import __version__
from deploytool.gate.model import REASONS, GateFinding, GateReport

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_ROOT = "%SRCROOT%"


def sarif(report: GateReport, exit_code: int) -> str:
    """The report as a SARIF log with one run."""
    rules = list(_rules(report))
    index = {rule["id"]: number for number, rule in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "deploytool gate",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": rules,
            }
        },
        "automationDetails": {"id": "deploytool-gate/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The repository's top folder."}}},
        "invocations": [
            {
                "executionSuccessful": not any(item.unknown for item in report.findings),
                "exitCode": exit_code,
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": str(item)}}
                    for item in report.findings
                    if item.unknown
                ],
            }
        ],
        "results": [_result(item, index[item.rule]) for item in report.findings],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rules(report: GateReport) -> Iterator[dict[str, Any]]:
    """Every check that ran, and every finer rule that found something."""
    known: dict[str, str] = {}
    for result in report.results:
        known[result.check.value] = REASONS[result.check]
        for finding in result.findings:
            known.setdefault(finding.rule, f"a rule of {result.check.value}: docs/flags.md")
    for name, reason in known.items():
        yield {
            "id": name,
            "name": "".join(word.capitalize() for word in name.split("_")),
            "shortDescription": {"text": f"{name}: {reason}."},
            "fullDescription": {"text": f"{name}: {reason}."},
            "help": {"text": f"What {name} wants, and the way out: docs/gate.md."},
            "defaultConfiguration": {"level": "error"},
        }


def _result(finding: GateFinding, index: int) -> dict[str, Any]:
    text = f"{finding.text}. To fix it: {finding.remedy}"
    same = hashlib.sha256(f"{finding.rule}\0{finding.path}\0{finding.text}".encode()).hexdigest()
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": "error",
        "message": {"text": text},
        "locations": [{"physicalLocation": _place(finding)}],
        "partialFingerprints": {"deploytoolFinding/v1": same},
    }


def _place(finding: GateFinding) -> dict[str, Any]:
    """Relative to the repository, as code scanning wants it; a file elsewhere by its URI."""
    path = Path(finding.path)
    where: dict[str, Any] = (
        {"uri": path.as_uri()}
        if path.is_absolute()
        else {"uri": quote(finding.path), "uriBaseId": _ROOT}
    )
    return {"artifactLocation": where, "region": {"startLine": finding.line}}
