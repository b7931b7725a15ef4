"""The flags of a process on a simulated host, as its own commands tell and change them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from deploytool.errors import InputError
from deploytool.fleet.model import Inventory
from deploytool.fleet.sealed import BYTES_AT_MOST
from deploytool.fleet.signers import parse_signers
from deploytool.release.model import FlagTable
from deploytool.simulation.board import Board, BoardRefusal
from deploytool.simulation.memory.programs import Program
from deploytool.simulation.memory.service import MemoryService

_REFUSED = 3


@dataclass
class BoardCommands:
    """``flag show``, ``prepare``, ``commit``, ``settle`` and ``disarm`` of one process."""

    board: Board
    service: MemoryService
    epoch: int = 0

    @staticmethod
    def of(
        service: MemoryService, inventory: Inventory, host: str, program: Program, release: str
    ) -> BoardCommands | None:
        """The flags of a process that has just started; every runtime flag is off."""
        table = FlagTable.model_validate_json(program.table) if program.table else None
        file = service.computer.read(f"{service.root}/state/service/epoch")
        board = Board.of(
            table,
            program.version,
            host,
            inventory.fleet,
            frozenset(inventory.names),
            release,
            int(file or b"0"),
        )
        made = BoardCommands(board, service, board.epoch)
        board.remember = made._remember
        return made

    @property
    def _uptime(self) -> float:
        return self.service.computer.uptime

    def armed(self) -> list[str]:
        """The flags that are obeyed now."""
        return self.board.armed(self._uptime)

    def answer(self, words: tuple[str, ...], given: bytes) -> tuple[int, str, str]:
        """Exit code, standard output and errors of ``flag STEP [FLAG]``."""
        try:
            return 0, json.dumps(self._said(words, given), sort_keys=True), ""
        except BoardRefusal as no:
            return _REFUSED, "", f"{self.service.settings.name}: {no}"

    def _said(self, words: tuple[str, ...], given: bytes) -> dict[str, object]:
        board, now, clock = self.board, self._uptime, self.service.computer.clock
        step, name = words[0], (*words, "")[1]
        if step == "show":
            return board.observe(now)
        if step == "prepare" and not given:
            return board.nonce(name, now)
        if step == "prepare":
            return board.promise(name, given[:BYTES_AT_MOST], self._believed(), now, clock)
        if step == "commit":
            return board.commit(name, now, clock)
        return board.settle(name, now) if step == "settle" else board.disarm(name, now, clock)

    def _believed(self) -> tuple[str, ...]:
        path = self.service.settings.signers or ""
        content = self.service.computer.read(path) if path else None
        try:
            text = (content or b"").decode()
            return tuple(signer.name for signer in parse_signers(text, path))
        except (InputError, UnicodeDecodeError):
            return ()

    def _remember(self, epoch: int) -> None:
        """Writes the newest epoch down, for whatever process comes after."""
        computer, path = self.service.computer, f"{self.service.root}/state/service/epoch"
        try:
            computer.disk.sync(computer.put(path, f"{epoch}".encode()))
            computer.disk.sync(computer.make_folders(path.rpartition("/")[0]))
            self.epoch = epoch
        except OSError as error:
            raise BoardRefusal("EPOCH_DISK", f"the epoch can't be written: {error}") from error


def board_of(service: MemoryService) -> Board | None:
    """The board of the process that answers; None where nobody does."""
    mind = service.speaker()
    alive = service.computer.alive(service.answering)
    commands = mind.flags if mind is not None and alive else None
    return commands.board if isinstance(commands, BoardCommands) else None
