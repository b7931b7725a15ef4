"""What was sent or is found is not what its name says."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deploytool.agent.requests import (
    LookAnswer,
    Probe,
    RefusedAnswer,
    StageRelease,
)
from deploytool.simulation.memory.disk import Node
from deploytool.simulation.memory.host import MemoryHost, SentBytes

from .crashes import files_of
from .deploying import (
    NEW,
    OLD,
    Deployer,
    prepared,
)


def _altered(content: bytes) -> bytes:
    return content[:-1] + b"!"


def damage_violations() -> Iterator[str]:
    """A digest is worked out from the bytes, never taken from a name."""
    yield from _sent_altered()
    damages: dict[str, Callable[[MemoryHost, str], object]] = {
        "altered": lambda host, path: host.computer.put(path, _altered(NEW.artifact), 0o555),
        "rotten": lambda host, path: _node(host, path).rot(_altered(NEW.artifact)),
        "short": lambda host, path: host.computer.put(path, NEW.artifact[:-1], 0o555),
        "gone": lambda host, path: host.computer.remove(path),
        "flipped in memory": _flip,
    }
    for name, damage in damages.items():
        host = prepared()
        host.place(NEW)
        host.computer.sync()
        damage(host, f"{host.service.root}/releases/{NEW.release}/router")
        yield from (f"{name}: {text}" for text in _shown_as(host, "damaged"))
        deployer = Deployer(host, "first")
        deployer.step("lock")
        deployer.step("stage")
        yield from (f"{name}: {text}" for text in files_of(host))
    host = prepared()
    host.place(NEW)
    label = f"{host.service.root}/releases/{NEW.release}/release.json"
    host.computer.put(label, OLD.manifest, 0o444)
    yield from (f"another manifest: {text}" for text in _shown_as(host, "unlabelled"))
    deployer = Deployer(host, "first")
    deployer.step("lock")
    deployer.step("stage")
    yield from (f"another manifest: {text}" for text in files_of(host))


def _shown_as(host: MemoryHost, state: str) -> Iterator[str]:
    answer = host.ask(Probe(release=NEW.release, manifest=NEW.label))
    shown = answer.evidence.asked_release if isinstance(answer, LookAnswer) else str(answer)
    if shown != state:
        yield f"it is shown as {shown}, and is {state}"


def _flip(host: MemoryHost, path: str) -> None:
    node = _node(host, path)
    node.content = _altered(node.content)
    node.rot(NEW.artifact)


def _node(host: MemoryHost, path: str) -> Node:
    node = host.computer.find(path)
    assert node is not None
    return node


def _sent_altered() -> Iterator[str]:
    sent = {
        "artifact": NEW.manifest + _altered(NEW.artifact),
        "manifest": NEW.manifest.replace(b'"format":1', b'"format":2') + NEW.artifact,
        "short": NEW.manifest + NEW.artifact[:-1],
        "empty": b"",
    }
    for name, payload in sent.items():
        host = prepared()
        deployer = Deployer(host, "first")
        deployer.step("lock")
        request = StageRelease(
            token=deployer.token,
            release=NEW.release,
            artifact_size=len(NEW.artifact),
            manifest=NEW.label,
            manifest_size=len(NEW.manifest),
            seconds=30,
        )
        if not isinstance(host.ask(request, SentBytes(payload)), RefusedAnswer):
            yield f"a copy with another {name} was taken"
        if host.computer.find(f"{host.service.root}/releases/{NEW.release}") is not None:
            yield f"a copy with another {name} has its name"
