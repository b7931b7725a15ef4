"""Whose result a spec's is: by its whole name, also where one name begins another (P2)."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from deploytool.fleet.model import HostSpec
from deploytool.parity.testinfra_specs import SpecResult, read_results

from .evidences import rendered

WEB = rendered().inventory.model_copy(
    update={"hosts": {name: HostSpec(address="192.0.2.1") for name in ("web", "web-2")}}
)


def told(*names: str) -> tuple[SpecResult, ...]:
    cases = "".join(f'<testcase name="{name}"/>' for name in names)
    return read_results(WEB, ET.fromstring(f"<suite>{cases}</suite>"))  # noqa: S314 our own text


def test_p2_hosts_whose_names_begin_alike_have_a_result_each() -> None:
    both = told("test_a[ssh://web_]", "test_a[ssh://web-2_]")
    assert [(r.host, r.passed, r.good) for r in both] == [("web", 1, True), ("web-2", 1, True)]


def test_p2_a_host_s_parameter_is_not_another_host() -> None:
    web, other = told("test_a[ssh://web_-2]", "test_b[ssh://web_-2_-x]")
    assert (web.passed, other.passed, other.good) == (2, 0, False)
    assert other.lines == ("no spec ran on this host",)
