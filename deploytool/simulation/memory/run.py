"""One run of the agent: where it can be cut short, and how it waits."""

from __future__ import annotations

from collections.abc import Callable

from deploytool.simulation.memory.computer import STEP_S, Computer, Task

Hook = Callable[["Run", str], None]
"""Is told of each point before it. It may end the run there."""
Wait = Callable[["Run", Callable[[], bool], float], bool]
"""Has a run wait until something holds, or so many seconds passed; gives whether it holds."""


class RunEnded(BaseException):
    """The run was killed, or its computer lost power: none of its code goes on, or cleans up."""


class Run:
    """One process of the agent. ``hook`` and ``wait`` are the scheduler's, if there is one."""

    def __init__(
        self, computer: Computer, agent: str, *, hook: Hook | None = None, wait: Wait | None = None
    ) -> None:
        self.computer = computer
        self.hook = hook
        self._wait = wait
        self.task: Task = computer.spawn(("python3", "-I", "-S", agent))
        self.task.of_agent = True

    @property
    def ended(self) -> bool:
        """Whether it was killed, or has come to its end."""
        return not self.computer.alive(self.task)

    def point(self, what: str, *names: str) -> None:
        """Is called before each step: there others go on, or it is cut short.

        ``names`` tell of what the step is; they are put together for a hook alone.

        Raises:
            Ended: it was.
        """
        if self.hook is not None:
            self.hook(self, " ".join((what, *names)))
        task = self.task
        if self.computer.tasks.get(task.pid) is not task:
            raise RunEnded(what)
        self.computer.time.tick(STEP_S)

    def end(self) -> None:
        """Its process ends: what it held is closed, and its locks are free."""
        self.computer.end(self.task)

    def wait(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Waits until something holds; gives whether it does.

        Raises:
            Ended: it was cut short.
        """
        if holds():
            return True
        if self._wait is not None:
            held = self._wait(self, holds, seconds)
            if self.ended:
                raise RunEnded
            return held
        time = self.computer.time
        until = time.now + seconds
        while (due := time.next()) is not None and due <= until:
            time.pass_to(due)
            if holds():
                return True
        time.pass_to(until)
        return holds()
