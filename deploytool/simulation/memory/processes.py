"""Every process of the computer, as /proc shows them."""

from __future__ import annotations

from collections.abc import Sequence

from deploytool.agent.model import Process
from deploytool.agent.port import HeldFile, HeldSocket, Interest, View
from deploytool.simulation.memory.computer import INTERPRETER, OpenFile, Task
from deploytool.simulation.memory.disk import sha256
from deploytool.simulation.memory.run import Run

_SHOWN = 200
"""How much of its arguments is shown of a process."""
_ARGUMENTS = 64


class MemoryProcesses:
    """The port's processes."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._computer = run.computer

    def survey(self, interest: Interest) -> tuple[View, ...]:
        """One look at all of them but the agent's own."""
        self._run.point("survey")
        views = {
            task.pid: self._view(task, interest)
            for task in self._computer.tasks.values()
            if task is not self._run.task
        }
        shown: set[int] = set()
        for pid, view in views.items():
            if self._is_asked_for(view, interest):
                shown |= {task.pid for task in self._computer.parents(self._computer.tasks[pid])}
        return tuple(view for pid, view in views.items() if pid in shown)

    @staticmethod
    def _is_asked_for(view: View, interest: Interest) -> bool:
        below = interest.group.rstrip("/") + "/"
        in_group = bool(interest.group) and (view.group + "/").startswith(below)
        acts = not set(view.accounts).isdisjoint(interest.accounts)
        hidden = bool(view.hidden) and interest.whole
        cut = len(view.arguments) >= _ARGUMENTS
        return bool(view.files or view.sockets or in_group or acts or hidden or cut)

    def _view(self, task: Task, interest: Interest) -> View:
        if task.hidden:
            return View(process=self._process(task), group=task.group, hidden=task.hidden)
        program = next((held for held in task.held if held.how == "exe"), None)
        return View(
            process=self._process(task),
            group=task.group,
            program=None if program is None else self._shown(task, program),
            accounts=(task.account,),
            files=self._files(task, interest),
            sockets=self._sockets(task, interest),
            arguments=self._arguments(task),
            client=any(one.of_agent for one in self._computer.parents(task)),
        )

    def _files(self, task: Task, interest: Interest) -> tuple[HeldFile, ...]:
        root = interest.root.rstrip("/") + "/"
        found, counts = [], False
        for held in task.held:
            if held.node.kind != "file":
                continue
            path = self._computer.disk.path_of(held.node)
            if path.startswith(root) or len(held.node.content) in interest.sizes:
                found.append(self._shown(task, held))
        named = []
        for word in self._arguments(task)[1:]:
            node = self._computer.find(word) if word.startswith("/") else None
            if node is None or node.kind != "file":
                continue
            path = self._computer.disk.path_of(node)
            counts |= path.startswith(root) or len(node.content) in interest.sizes
            shown = self._shown(task, OpenFile("fd", node, path))
            named.append(shown.but(how="argument", path=word))
        return (*found, *named) if found or counts else ()

    @staticmethod
    def _arguments(task: Task) -> tuple[str, ...]:
        """As the kernel has them: of a script, its interpreter comes first (execve(2))."""
        interpreted = bool(task.held) and task.held[0].path == INTERPRETER
        scripts = interpreted and task.argv[:1] != ("python3",)
        return ("python3", *task.argv)[:_ARGUMENTS] if scripts else task.argv[:_ARGUMENTS]

    def _shown(self, task: Task, held: OpenFile) -> HeldFile:
        node = held.node
        return HeldFile(
            how=held.how,
            handle=f"{task.pid}:{node.number}",
            device=self._computer.disk.device,
            number=node.number,
            size=len(node.content),
            path=self._computer.disk.path_of(node),
            deleted=node.names == 0,
            changed=str(node.changed),
        )

    @staticmethod
    def _sockets(task: Task, interest: Interest) -> tuple[HeldSocket, ...]:
        listens = [HeldSocket(port=port, listens=True) for port in sorted(task.ports)]
        peers = sorted(task.peers.intersection(interest.peers))
        return (
            *(socket for socket in listens if socket.port in interest.ports),
            *(HeldSocket(port=40000, listens=False, peer=peer) for peer in peers),
        )

    @staticmethod
    def _process(task: Task) -> Process:
        return Process(
            pid=task.pid,
            parent=task.parent,
            start=task.start,
            state=task.state,
            account=task.account,
            command=" ".join(task.argv)[:_SHOWN],
        )

    def process(self, pid: int) -> Process | None:
        """One process."""
        self._run.point(f"process {pid}")
        task = self._computer.tasks.get(pid)
        return None if task is None else self._process(task)

    def digest(self, held: HeldFile) -> str | None:
        """SHA-256 of a file by way of the process that holds it."""
        self._run.point("digest of a held file")
        pid, _, number = held.handle.partition(":")
        task = self._computer.tasks.get(int(pid))
        if task is None:
            return None
        if held.how == "argument":
            node = self._computer.find(held.path)
            return None if node is None or node.kind != "file" else sha256(node.content)
        for found in task.held:
            if found.node.number == int(number):
                return sha256(found.node.content)
        return None

    def environment(self, process: Process) -> tuple[str, ...]:
        """The variables that it was started with."""
        self._run.point(f"environment {process.pid}")
        return ("LANG=C", "PATH=/usr/bin:/bin")

    def mapped(self, process: Process) -> tuple[HeldFile, ...]:
        """Every file that it maps executable."""
        self._run.point(f"mapped {process.pid}")
        task = self._computer.tasks.get(process.pid)
        if task is None or task.start != process.start:
            return ()
        return tuple(self._shown(task, held) for held in task.held if held.how != "fd")

    def system_slice(self) -> str:
        """The control group of services."""
        return "/system.slice"

    def group(self, name: str) -> tuple[int, ...]:
        """The processes of a control group."""
        self._run.point(f"group {name}")
        return tuple(task.pid for task in self._computer.members(name))

    def kill_group(self, name: str) -> None:
        """Sends SIGKILL to all of a control group."""
        self._run.point(f"kill_group {name}")
        for killed, task in enumerate(self._computer.members(name), start=1):
            self._computer.signal(task, 9)
            self._run.point(f"kill_group {name}, after {killed}")

    def signal(self, pid: int, start: int, number: int) -> bool:
        """Sends a signal to that very process."""
        self._run.point(f"signal {number} to {pid}")
        task = self._computer.tasks.get(pid)
        if task is None or task.start != start:
            return False
        self._computer.signal(task, number)
        return True

    def listening(self, ports: Sequence[int]) -> frozenset[int]:
        """Those of the ports on which a process listens."""
        self._run.point("listening")
        return frozenset(port for port in ports if self._computer.listener(port) is not None)
