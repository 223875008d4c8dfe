"""The pickle machine, run on what is known about objects instead of the objects: nothing of a pickle is executed."""

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

UNKNOWN = "unknown"

_MOST = 10_000_000
"""Objects on the stack: more is an attack on memory, not a model."""


@dataclass(frozen=True)
class Pickled:
    """What one pickle would import, and what is known about the object that it would give."""

    names: frozenset[str]
    top: object
    """A text or an integer, a Made, or something else of no interest."""


@dataclass(frozen=True)
class Made:
    """The object that a call of ``by`` would give."""

    by: str


@dataclass(frozen=True)
class Stream:
    """A stream that never asks for more than there is: a pickle may claim lengths of exabytes."""

    file: IO[bytes]
    size: int
    """Bytes in the whole file."""

    def tell(self) -> int:
        """Give the place of the next byte."""
        return self.file.tell()

    def read(self, count: int) -> bytes:
        """Read so many bytes, or all that there are."""
        return self.file.read(min(count, self.left()))

    def readline(self) -> bytes:
        """Read up to the end of a line, or 16 MiB of it."""
        return self.file.readline(1 << 24)

    def left(self) -> int:
        """Count the bytes that are still to be read."""
        return max(self.size - self.file.tell(), 0)


def walk(stream: Stream) -> Pickled:
    """Follow the opcodes of one pickle to its end, where the stream then stands.

    Raises:
        ValueError, OverflowError, EOFError: it is damaged, cut off, or no pickle.
    """
    machine = _Machine()
    position = 0
    try:
        for opcode, arg, at in pickletools.genops(stream):  # type: ignore[arg-type]  # it asks for no more than these
            position = at or 0
            _step(machine, opcode, arg, position)
    except KeyError as error:
        raise ValueError(f"no object is kept as number {error}") from error
    if position + 1 < machine.frame_end:
        # Python's two unpicklers go on at different places after such a frame.
        raise ValueError("a frame runs past the end of the pickle")
    return Pickled(frozenset(machine.names), machine.top())


@dataclass(frozen=True)
class _Global:
    name: str


_MARK = object()
_PLAIN = object()
"""Any value that is neither a text, an integer, an import nor the result of a call."""


@dataclass
class _Machine:
    """The pickle machine, with a stack of what is known about each object in place of the object."""

    protocol: int = 0
    frame_end: int = 0
    stack: list[object] = field(default_factory=list)
    memo: dict[int, object] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def top(self) -> object:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("an opcode needs more than the stack holds")
        return self.stack[-1]

    def pop(self, count: int) -> list[object]:
        taken = []
        for _ in range(count):
            taken.append(self.top())
            self.stack.pop()
        return taken[::-1]

    def pop_to_mark(self) -> list[object]:
        taken = []
        while self.stack and self.stack[-1] is not _MARK:
            taken.append(self.stack.pop())
        if not self.stack:
            raise ValueError("an opcode needs a mark that is not there")
        self.stack.pop()
        return taken[::-1]

    def take(self, opcode: pickletools.OpcodeInfo) -> list[object]:
        """Pop what an opcode consumes, in the order in which it was pushed."""
        kinds = [kind.name for kind in opcode.stack_before]
        if "mark" not in kinds:
            return self.pop(len(kinds))
        above = self.pop_to_mark()
        return [*self.pop(kinds.index("mark")), *above]

    def imported(self, module: object, name: object) -> _Global:
        if not (isinstance(module, str) and isinstance(name, str)):
            return self.noted(UNKNOWN)
        if self.protocol < 3:  # noqa: PLR2004 (up to protocol 2 a pickle uses Python 2's names)
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        return self.noted(f"{module}.{name}")

    def noted(self, name: str) -> _Global:
        self.names.add(name)
        return _Global(name)


def _called(taken: list[object]) -> Made:
    called = taken[0] if taken else None
    return Made(called.name if isinstance(called, _Global) else UNKNOWN)


_Rule = Callable[[_Machine, Any, list[object]], object]
_RULES: dict[str, _Rule] = {
    "GLOBAL": lambda machine, arg, _: machine.imported(*arg.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _, taken: machine.imported(*taken),
    "INST": lambda machine, arg, _: Made(machine.imported(*arg.split(" ", 1)).name),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda machine, arg, _: machine.noted(f"extension:{arg}")),
    **dict.fromkeys(("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ"), lambda _machine, _arg, taken: _called(taken)),
    **dict.fromkeys(
        ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD", "READONLY_BUFFER", "STOP"),
        lambda _machine, _arg, taken: taken[0],
    ),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, arg, _: machine.memo[arg]),
    "MARK": lambda _machine, _arg, _taken: _MARK,
}
"""What an opcode leaves on the stack; any other one leaves its argument, or something plain."""


def _step(machine: _Machine, opcode: pickletools.OpcodeInfo, arg: Any, position: int) -> None:
    match opcode.name:
        case "PROTO":
            machine.protocol = arg
        case "FRAME":
            machine.frame_end = position + 9 + arg
        case "PUT" | "BINPUT" | "LONG_BINPUT":
            machine.memo[arg] = machine.top()
        case "MEMOIZE":
            machine.memo[len(machine.memo)] = machine.top()
        case "DUP":
            machine.stack.append(machine.top())
        case "POP" if machine.stack:
            machine.stack.pop()
        case _:
            _push(machine, opcode, arg)


def _push(machine: _Machine, opcode: pickletools.OpcodeInfo, arg: Any) -> None:
    if len(machine.stack) > _MOST or len(machine.memo) > _MOST:
        raise ValueError("more objects than a model has")
    taken = machine.take(opcode)
    rule = _RULES.get(opcode.name)
    if rule:
        machine.stack.append(rule(machine, arg, taken))
    elif opcode.stack_after:
        machine.stack.append(arg if isinstance(arg, str | int) and opcode.name != "PERSID" else _PLAIN)
