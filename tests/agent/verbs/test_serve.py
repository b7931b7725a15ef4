"""What every request and answer of the verbs has in common."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploytool.agent.requests import VERBS
from deploytool.agent.serve import serve
from deploytool.agent.verbs import find
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.host import SentBytes

from .ground import Ground

ROOT = Path(__file__).parents[3]
KINDS = """
import sys
sys.path.insert(0, sys.argv[1])
from deploytool.agent.requests import ANSWERS
from deploytool.agent.record import _RECORDS
from deploytool.agent.words import CHECKS
known = {*_RECORDS, *CHECKS}
for one in _RECORDS.values():
    unknown = {kind for kind, _, _ in one.fields.values()} - known
    assert not unknown, (one, unknown)
"""


def test_with_the_requests_alone_one_can_read_every_answer() -> None:
    words = [sys.executable, "-I", "-S", "-c", KINDS, str(ROOT)]
    subprocess.run(words, check=True, timeout=60)


def test_every_verb_is_there() -> None:
    for verb in VERBS:
        assert callable(find(verb))


def test_what_is_no_request_of_its_verb_changes_nothing(ground: Ground) -> None:
    before = ground.snapshot()
    for kind in VERBS.values():
        for line in (b"", b"{", b"[]", b'{"colour":"red"}', b'{"token":1,"token":1}'):
            agent = MemoryAgent(ground.host.service)
            answer = serve(agent, "0" * 64, kind, line, SentBytes(b""))
            agent.run.end()
            assert getattr(answer, "code", None) == "bad-request", (kind, line, answer)
    assert ground.snapshot() == before
