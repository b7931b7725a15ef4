"""What the inventory says about one host: it is a part of the agent's own file. Pure.

A request can't name a path or a program: whatever may be touched or run is named here.
"""

from __future__ import annotations

from deploytool.agent import jsontext
from deploytool.agent.model import Made, Property
from deploytool.agent.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.words import Path, Port, Seconds, Text, Word


_DIGITS = 12
"""So much of a setting's digest is shown: it names what differs, and proves nothing."""


class Command(Record):
    """An argument list whose fixed words are filled in; words in braces are filled in when it runs.

    Those are ``{current}`` (the folder of the release that it belongs to), ``{flag}``,
    ``{reason}``, ``{by}`` and ``{nonce}``. Fixed braces are doubled.
    """

    argv: tuple[Text, ...]

    def filled(self, **words: str) -> tuple[str, ...]:
        """The argument list with its words in braces filled in; one without a value is a bug."""
        return tuple(word.format_map(words) for word in self.argv)


class SocketSetting(Record):
    """A Unix socket on which the running process answers, below its own state folder.

    For each thing that it is asked there, the line to send; its words in braces are those of the
    command for the same, and are filled in as in a JSON string (RFC 8259, section 7).
    """

    path: Path
    status: Text
    halt: Text | None = None
    lease: Text | None = None

    def line(self, verb: str, **words: str) -> str | None:
        """What to send for ``status``, ``halt`` or ``lease``; None where that is not asked here.

        Its words in braces are filled in; one without a value is a bug.
        """
        line: str | None = getattr(self, verb)
        given = {name: jsontext.dumps(word)[1:-1] for name, word in words.items()}
        return None if line is None else line.format_map(given)


class NeighbourSetting(Record):
    """A process that is expected beside the service: what it executes, as whom, and why."""

    executable: Path
    account: Word
    reason: Text


class Settings(Record):
    """One service on one host."""

    __slots__ = ("_made",)  # it is worked out, not a field

    tool: Text = ""
    """The version of deploytool that made the agent."""
    agent: Path
    """Where the agent's own file is."""
    fleet: Word
    host: Word
    name: Word
    """The service's and the artifact's name."""
    root: Path
    account: Word | None
    """The account that the service runs as; None: the agent's own (no root on this host)."""
    supervisor: Word
    """``systemd`` or ``process``."""
    python: Path | None = None
    """The interpreter that the agent is started with; None: the system's."""
    start: Command
    version: Command
    status: Command
    halt: Command | None = None
    lease: Command | None = None
    resume: Command | None = None
    flag_observe: Command | None = None
    flag_prepare: Command | None = None
    flag_commit: Command | None = None
    flag_settle: Command | None = None
    flag_disarm: Command | None = None
    socket: SocketSetting | None = None
    halt_signal: Word | None = None
    signers: Path | None = None
    environment: tuple[Text, ...] = ()
    """What the unit adds to the service's environment, ``NAME=value``; its commands have it too."""
    ports: tuple[Port, ...] = ()
    connects: tuple[Text, ...] = ()
    """Where the service's effects go (``address:port``): who else is connected there acts."""
    neighbours: tuple[NeighbourSetting, ...] = ()
    configs: tuple[Path, ...] = ()
    ready_s: Seconds = 20
    stop_s: Seconds = 10
    ask_s: Seconds = 5

    @property
    def unit(self) -> str:
        """The systemd unit."""
        return f"{self.name}.service"

    @property
    def members(self) -> str | None:
        """Where root keeps the list of the fleet's hosts; None where hosts have no root."""
        if self.supervisor != "systemd":
            return None
        return f"/etc/deploytool/{self.name}/members"

    def made(self) -> Made:
        """What this agent was made from."""
        made: Made | None = getattr(self, "_made", None)
        if made is None:
            made = self._digested()
            object.__setattr__(self, "_made", made)  # each look tells it
        return made

    def _digested(self) -> Made:
        import hashlib  # a halt does without

        found = []
        for name, value in self.but(tool="").to_json().items():
            text = jsontext.dumps(value, sort=True)
            digest = hashlib.sha256(text.encode("ascii")).hexdigest()[:_DIGITS]
            found.append(Property(name=name, value=digest))
        return Made(tool=self.tool, settings=tuple(found))
