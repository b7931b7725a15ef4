"""One host while one request is answered: its folders, its marks, and the refusal that ends it."""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.model import Lock
from deploytool.agent.record import Malformed, Record
from deploytool.agent.words import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Self

    from deploytool.agent.marks import Mark
    from deploytool.agent.port import Folder, System
    from deploytool.agent.settings import Settings

MUTEX_S = 10.0
"""How long a verb waits for another one that changes this host."""


class Refusal(Exception):
    """A verb says no, and has changed nothing that matters yet. ``code`` is what decides."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class writing:  # noqa: N801 # used as "with writing(path):"
    """Turns what the operating system says while the block runs into a refusal of ``what``."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raises the refusal."""
        if isinstance(error, OSError):
            why = error.strerror or str(error)
            raise Refusal("cannot-write", f"{self._what} can't be written: {why}") from error


class attempt:  # noqa: N801 # used as "with attempt():"
    """Lets the operating system fail while the block runs: what follows does not hang on it."""

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Ends what failed, and nothing else."""
        return isinstance(error, OSError)


class AgentHost:
    """What the verbs act on: the operating system, and this service's folders on it."""

    def __init__(
        self, system: System, agent: str, root: Folder, releases: Folder, state: Folder
    ) -> None:
        self.system = system
        self.agent = agent
        self.root = root
        self.releases = releases
        self.state = state

    @staticmethod
    def open(system: System, agent: str) -> AgentHost:
        """Opens the folders.

        Raises:
            Refusal: the host is not prepared.
        """
        opened: list[Folder] = []
        try:
            opened.append(system.files.open_root(system.settings.root))
            for name in ("releases", "state"):
                opened.append(opened[0].folder(name))
        except OSError as error:
            for folder in opened:
                folder.close()
            lacks = f"{system.settings.root} lacks its folders: {error.strerror}"
            raise Refusal("not-prepared", lacks) from error
        return AgentHost(system, agent, *opened)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the folders."""
        for folder in (self.state, self.releases, self.root):
            folder.close()

    @property
    def settings(self) -> Settings:
        """What the inventory says about it."""
        return self.system.settings

    def mutex(self, wait_s: float = MUTEX_S) -> AbstractContextManager[None]:
        """One change at a time: lock, token check and effect are one step.

        Raises:
            Refusal: another change is in progress for longer than that, or the host isn't prepared.
        """
        return _Mutex(self.state, "mutex", wait_s, "another change on this host is in progress")

    def look_alone(self) -> AbstractContextManager[None]:
        """One probe at a time: each would see the other's short-lived clients.

        Raises:
            Refusal: as ``mutex``.
        """
        wait_s = 4.0 * self.settings.ask_s
        return _Mutex(self.state, "probe.lock", wait_s, "another probe of this host does not end")

    def mark(self, name: str, kind: type[Mark]) -> Mark | None:
        """A mark; None where there is none.

        Raises:
            Refusal: it is there and can't be read; what it may say is not guessed.
        """
        try:
            return marks.read(self.state, name, kind)
        except (OSError, Malformed) as error:
            raise self.damaged(name, error) from error

    def put(self, **made: Record | str) -> None:
        """Writes marks, in this order, each atomically; on the disk when it returns.

        Raises:
            Refusal: one can't be written; those before it may have been.
        """
        texts = {
            name: marks.text_of(mark) if isinstance(mark, Record) else f"{mark}\n"
            for name, mark in made.items()
        }
        with writing(f"{self.state.path}/{' or '.join(made)}"):
            marks.put(self.state, **texts)

    def remove(self, *names: str) -> None:
        """Removes marks, in this order, and puts that on the disk; a missing one is no error.

        Raises:
            Refusal: one can't be removed; those before it may have been.
        """
        with writing(f"{self.state.path}/{' or '.join(names)}"):
            marks.remove(self.state, *names)
            self.state.sync()

    def damaged(self, name: str, error: Exception, now: str = "") -> Refusal:
        """The refusal of a verb that met a mark that is there and can't be read."""
        advice = now or "read it on the host; if nothing in it can be saved, remove it; then retry"
        return Refusal("damaged", f"{self.state.path}/{name} can't be read ({error}): {advice}")

    def linked(self) -> str | None:
        """The release that ``current`` names; None where it names none."""
        found = self.current()
        name = found[len("releases/") :] if found.startswith("releases/") else ""
        return name if is_digest(name) else None

    def current(self) -> str:
        """What ``current`` says: ``none`` without it, ``not a link`` where it is something else."""
        entry = self.root.entry("current")
        if entry is None:
            return "none"
        return self.root.target("current") if entry.kind == "link" else "not a link"

    def check_token(self, token: int) -> Lock:
        """The lock, if this token holds it.

        Raises:
            Refusal: it was released, or another holds it.
        """
        lock = self.mark("lock", Lock)
        if lock is None:
            if self.newest_token() == token:
                # A lost answer is told from a lock that another took.
                raise Refusal("unlocked", f"the lock of token {token} was released")
            raise Refusal("stale-token", f"this host is not locked; token {token} is not valid")
        if lock.token != token:
            held = f"{lock.holder} holds the lock with token {lock.token}, not {token}"
            raise Refusal("stale-token", held)
        return lock

    def newest_token(self) -> int:
        """The newest token that was ever given out here; 0 before the first.

        Raises:
            Refusal: its mark is there and can't be read.
        """
        try:
            return marks.read_token(self.state)
        except (OSError, Malformed) as error:
            advice = "write a number into it that is larger than any token of this host's journals"
            raise self.damaged("token", error, advice) from error

    def check_latch(self, latch: str | None) -> None:
        """Makes sure that the caller knows of the stop that holds here.

        Raises:
            Refusal: it was fenced, or stopped by a stop that the request does not name.
        """
        if marks.is_there(self.state, "fenced"):
            text = "this host was stopped and fenced; return it with 'deploytool start'"
            raise Refusal("halted", text)
        if marks.is_there(self.state, "halted"):
            found = marks.read_latch(self.state)
            if found is None or found.latch != latch:
                raise Refusal("halted", f"it was stopped (latch {found.latch if found else '?'})")


class _Mutex:
    def __init__(self, state: Folder, name: str, wait_s: float, busy: str) -> None:
        self._state, self._name, self._wait_s, self._busy = state, name, wait_s, busy

    def __enter__(self) -> None:
        try:
            self._held = self._state.lock(self._name, self._wait_s)
            self._held.__enter__()
        except TimeoutError as error:
            raise Refusal("busy", self._busy) from error
        except OSError as error:
            text = f"{self._state.path}/{self._name} can't be locked: {error.strerror}"
            raise Refusal("not-prepared", text) from error

    def __exit__(self, *ended: object) -> None:
        self._held.__exit__(None, None, None)
