"""The top level of a protobuf message, walked without its contents: a file of gigabytes costs a few reads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Field:
    """One field of a protobuf message: where its content starts, and how many of its bytes the file lacks."""

    number: int
    wire: int
    start: int
    missing: int


def top_level(file: BinaryIO, size: int) -> Iterator[Field]:
    """Walk the fields of a message of ``size`` bytes, skipping their contents.

    Raises:
        ValueError: this is no protobuf.
    """
    at = 0
    while at < size:
        file.seek(at)
        chunk = file.read(20)
        tag, used = varint(chunk, 0)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            length = varint(chunk, used)[1] - used
        elif wire == 2:  # noqa: PLR2004 (protobuf's number for a length and that many bytes)
            length, used = varint(chunk, used)
        else:
            length = {1: 8, 5: 4}.get(wire, -1)
        if number == 0 or length < 0:
            raise ValueError("no such field")
        start, at = at + used, at + used + length
        yield Field(number, wire, start, max(at - size, 0))


def fit(fields: list[Field], known: Mapping[int, int]) -> bool:
    """Say whether known fields have their types; a cut file must have no others, a whole one may be newer than we."""
    cut = bool(fields[-1].missing)
    return all(known.get(one.number, None if cut else one.wire) == one.wire for one in fields)


def start_of(file: BinaryIO, fields: list[Field], number: int, count: int = 1) -> bytes:
    """Read the first bytes of the first field of a number, which must be there."""
    file.seek(next(one.start for one in fields if one.number == number))
    return file.read(count)


def varint(chunk: bytes, at: int) -> tuple[int, int]:
    """Read a varint and give it with the place behind it; one that is cut off ends a byte behind the chunk.

    Raises:
        ValueError: it is longer than a varint can be.
    """
    value = 0
    for index in range(10):
        if at + index >= len(chunk):
            return value, len(chunk) + 1
        value |= (chunk[at + index] & 0x7F) << 7 * index
        if chunk[at + index] < 0x80:  # noqa: PLR2004 (the bit that says there is more)
            return value, at + index + 1
    raise ValueError("a varint of more than ten bytes")
