"""The report for people, for programs, for CI servers (JUnit XML), and for GitHub's log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

from deploytool.gate.model import REASONS, GateFinding, GateReport, Result


def lines(report: GateReport) -> Iterator[str]:
    """A line for each check; what it looked at, where it passed."""
    for result in report.results:
        mark = "ok  " if result.passed else "FAIL"
        yield f"{mark} {result.check.value}: {REASONS[result.check]} ({result.seconds:.1f} s)"
        yield from (f"       {line}" for line in result.evidence)
        if not result.passed:
            count = len(result.findings)
            yield f"       {count} {'finding' if count == 1 else 'findings'}, named below"
    for check in report.left_out:
        yield f"not asked for: {check.value}: {REASONS[check]}"


def document(report: GateReport) -> dict[str, Any]:
    """The report for a program."""
    return {
        "checks": [
            {
                "check": result.check.value,
                "passed": result.passed,
                "reason": REASONS[result.check],
                "seconds": round(result.seconds, 2),
                "evidence": list(result.evidence),
                "findings": [
                    {
                        "rule": item.rule,
                        "path": item.path,
                        "line": item.line,
                        "text": item.text,
                        "remedy": item.remedy,
                        "unknown": item.unknown,
                    }
                    for item in result.findings
                ],
            }
            for result in report.results
        ],
        "left_out": [check.value for check in report.left_out],
    }


def junit(report: GateReport) -> str:
    """The report as JUnit XML: a check is a case; refused is a failure, not known an error."""
    cases = [*map(_case, report.results)]
    for check in report.left_out:
        case = ET.Element("testcase", classname="deploytool.gate", name=check.value, time="0")
        ET.SubElement(case, "skipped", message="it was not asked for")
        cases.append(case)
    told = {
        "name": "deploytool gate",
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": str(len(report.left_out)),
        "time": f"{sum(result.seconds for result in report.results):.3f}",
    }
    suites = ET.Element("testsuites", told)
    suite = ET.SubElement(suites, "testsuite", told)
    suite.extend(cases)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, "unicode") + "\n"


def _case(result: Result) -> ET.Element:
    case = ET.Element(
        "testcase",
        classname="deploytool.gate",
        name=result.check.value,
        time=f"{result.seconds:.3f}",
    )
    if result.findings:
        unknown = all(item.unknown for item in result.findings)
        first = result.findings[0]
        bad = ET.SubElement(
            case,
            "error" if unknown else "failure",
            message=_plain(first.text),
            type=first.rule,
        )
        bad.text = _plain("\n".join(map(str, result.findings)))
        case.set("file", _plain(first.path))
        case.set("line", str(first.line))
    out = ET.SubElement(case, "system-out")
    out.text = _plain("\n".join(result.evidence))
    return case


def _plain(text: str) -> str:
    """What XML can hold: it has no words for control characters."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def github(report: GateReport) -> Iterator[str]:
    """GitHub's workflow commands: each finding is shown at its line in the pull request."""
    for item in report.findings:
        place = f"file={_value(item.path)},line={item.line},title={_value(item.rule)}"
        yield f"::error {place}::{_data(_said(item))}"


def _said(item: GateFinding) -> str:
    return f"{item.text}. To fix it: {item.remedy}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _value(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
