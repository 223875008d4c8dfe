"""Tables that became others. Samples reach some rows of a large table only; its digest tells of all of them.

A table is known by its content, whatever it is called: passes rename and fuse. Only where its content is nowhere, one
of its own name, or else one of its own shape and element type that is nobody else's, is it changed.
"""

from collections.abc import Iterator, Mapping

from deploykit.validation.verdict import Check

Digests = dict[str, str]
"""Digest by what was hashed: ``float32[30522x768]``, and ``float16[30522x768]`` for its rounding."""


def tables_check(proved: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Check]:
    """Give a failed check where a table of an artifact is another than the one that was proved.

    Args:
        proved: digests by name, as ``onnx_io.table_hashes`` gives them.
        found: those of the artifact.
    """
    changed = _changed(*({name: _parsed(text) for name, text in tables.items()} for tables in (proved, found)))
    if changed:
        rule = "tables are, row by row, what was proved"
        yield Check("weights", passed=False, rule=rule, why=f"{', '.join(changed)} changed since")


def _changed(proved: Mapping[str, Digests], found: Mapping[str, Digests]) -> list[str]:
    strange = {name: one for name, one in found.items() if not any(_same(other, one) for other in proved.values())}
    return [
        name
        for name, own in proved.items()
        if not any(_same(own, one) for one in found.values())
        and any(_alike(own, one) for other, one in strange.items() if other == name or other not in proved)
    ]


def _parsed(text: str) -> Digests:
    return dict(digest.split(":") for digest in text.split())


def _alike(one: Digests, other: Digests) -> bool:
    return bool(one.keys() & other.keys())


def _same(one: Digests, other: Digests) -> bool:
    """Tell whether two tables are the same in the finest element type that both have."""
    finest = next((kind for kind in one if kind in other), None)
    return finest is not None and one[finest] == other[finest]
