"""One prepared host in memory, asked as a deployer asks it; the verbs are the real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deploytool.agent.requests import (
    Activate,
    Activated,
    Answer,
    Confirm,
    Locked,
    Probe,
    RefusedAnswer,
    Request,
    Staged,
    StageRelease,
    TakeLock,
    Unlock,
)
from deploytool.simulation.memory.computer import Task
from deploytool.simulation.memory.host import MemoryHost, SentBytes, settings
from deploytool.simulation.memory.programs import Build, build

ONE, TWO, THREE = build("1.0"), build("2.0"), build("3.0")
SHA = "a" * 64
SHOW = Probe()
Hook = Callable[[Any, str], None]


@dataclass
class Ground:
    """A host and what a deployer knows of it."""

    supervisor: str
    serving: Build | None = None
    """What was deployed there before."""
    host: MemoryHost = field(init=False)

    def __post_init__(self) -> None:
        described = settings(supervisor=self.supervisor)
        self.host = MemoryHost.prepared(self.serving, described=described)

    @property
    def root(self) -> str:
        return self.host.service.root

    @property
    def main(self) -> Task:
        """The main process, which is there."""
        main = self.host.service.main
        assert main is not None
        assert self.host.computer.alive(main)
        return main

    @property
    def serves(self) -> str | None:
        """The release that a process of the service runs; None where none does."""
        main = self.host.service.main
        if main is None or not self.host.computer.alive(main):
            return None
        return self.host.service.minds[main].release

    @property
    def linked(self) -> str | None:
        """What ``current`` says."""
        found = self.host.computer.find(f"{self.root}/current", follow=False)
        return None if found is None else found.content.decode()

    def change(self, **settings: Any) -> None:
        """Has the inventory say something else."""
        self.host.service.settings = self.host.service.settings.but(**settings)

    def mark(self, name: str) -> str | None:
        return self.host.mark(name)

    def marked(self, name: str) -> dict[str, str]:
        """A mark's lines."""
        text = self.mark(name)
        assert text is not None, f"there is no {name}"
        return dict(line.split(" ", 1) for line in text.rstrip("\n").split("\n"))

    def write(self, name: str, text: str = "") -> None:
        """Writes a file in STATE, as another or an earlier program did."""
        self.host.computer.put(f"{self.root}/state/{name}", text.encode())

    def place(self, made: Build) -> None:
        """Puts a release there, as an earlier deployment did."""
        self.host.place(made)
        self.host.computer.sync()

    def spoil(self, name: str) -> None:
        """Makes a mark unreadable."""
        self.write(name, "\0 is no mark\n")

    def remove(self, name: str) -> None:
        self.host.computer.remove(f"{self.root}/state/{name}")

    def names(self, folder: str) -> list[str]:
        node = self.host.computer.find(f"{self.root}/{folder}")
        return sorted(node.entries) if node is not None else []

    def snapshot(self) -> dict[str, bytes]:
        """Every file and link below the root."""
        found: dict[str, bytes] = {}

        def walk(node: Any, path: str) -> None:
            for name, entry in node.entries.items():
                if entry.kind == "folder":
                    walk(entry, f"{path}/{name}")
                else:
                    found[f"{path}/{name}"] = entry.content

        walk(self.host.computer.find(self.root), "")
        return found

    def let_pass(self, seconds: float) -> None:
        """Lets time pass; a timer that rings is noted in ``service.due``, and not yet heard."""
        time = self.host.computer.time
        time.pass_to(time.now + seconds)

    # --- asking ---------------------------------------------------------------------------------

    def ask(self, request: Request, payload: bytes | SentBytes = b"", **how: Any) -> Answer:
        return self.host.ask(request, payload, **how)

    def done(self, request: Request, payload: bytes | SentBytes = b"", **how: Any) -> Any:
        """The answer of a verb that was not refused."""
        answer = self.ask(request, payload, **how)
        assert not isinstance(answer, RefusedAnswer), answer
        return answer

    def refused(self, request: Request, payload: bytes | SentBytes = b"", **how: Any) -> str:
        """The code with which it was refused; every refusal says something to a person."""
        answer = self.ask(request, payload, **how)
        assert isinstance(answer, RefusedAnswer), answer
        assert len(answer.text) > 10
        return answer.code

    def lock(self, plan: str = "plan1", **words: Any) -> int:
        answer = self.done(claim(plan, **words))
        assert isinstance(answer, Locked)
        return answer.token

    def stage(self, made: Build, token: int, **words: Any) -> Staged:
        answer = self.done(staging(made, token, **words), made.manifest + made.artifact)
        assert isinstance(answer, Staged)
        return answer

    def activate(self, made: Build | None, token: int, **words: Any) -> Activated:
        answer = self.done(switch(made, token, **words))
        assert isinstance(answer, Activated)
        return answer

    def confirmation(self, token: int, **words: Any) -> Confirm:
        """What confirms the process that runs now."""
        main, mind = self.main, self.host.service.minds[self.main]
        seen: dict[str, Any] = {
            "token": token,
            "release": mind.release,
            "pid": main.pid,
            "start": main.start,
            "boot": self.host.computer.boot_id,
        }
        return Confirm(**{**seen, **words})

    def confirm(self, token: int) -> None:
        self.done(self.confirmation(token))

    def unlock(self, token: int, **words: Any) -> Any:
        return self.done(Unlock(**{"token": token, "keep": 3, **words}))

    def deploy(self, made: Build, plan: str = "plan1", **words: Any) -> None:
        """A whole deployment."""
        token = self.lock(plan, release=made.release)
        self.stage(made, token)
        self.activate(made, token, **words)
        self.confirm(token)
        self.unlock(token, release=made.release)


def claim(plan: str = "plan1", holder: str = "me@here", **words: Any) -> TakeLock:
    said = {"holder": holder, "purpose": "deploy", "plan": plan, "release": SHA}
    return TakeLock(**{**said, **words})


def staging(made: Build, token: int, **words: Any) -> StageRelease:
    said: dict[str, Any] = {
        "token": token,
        "release": made.release,
        "artifact_size": len(made.artifact),
        "manifest": made.label,
        "manifest_size": len(made.manifest),
        "seconds": 30,
    }
    return StageRelease(**{**said, **words})


def switch(made: Build | None, token: int, **words: Any) -> Activate:
    release = made.release if made is not None else None
    return Activate(**{"token": token, "release": release, "show": SHOW, **words})
