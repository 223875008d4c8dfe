"""What was made of what, as a tree: steps that artifacts share are there once."""

from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from deploykit.recipes import Run
from deploykit.validation.reports._markup import element


@dataclass
class _Node:
    """A file, and what was made of it."""

    said: str
    after: dict[str, "_Node"] = field(default_factory=dict)


def tree(made: Run) -> ET.Element:
    """Draw it as lists within lists, which any width of a screen shows."""
    root = _Node(made.source.name)
    convert = root.after.setdefault(made.converted.title, _Node(made.converted.title))
    for one in made.artifacts:
        at = convert
        for taken in one.steps:
            size = f", {taken.told.made.bytes / 1e6:.3g} MB" if taken.told.made is not None else ""
            at = at.after.setdefault(taken.title, _Node(f"{taken.title}{size}"))
        place = one.path.name if one.path in made.written else "not written"
        at.after[f"artifact {one.name}"] = _Node(f"{one.name}: {one.word}, {place}")
    return element("ul", _drawn(root), class_="tree")


def _drawn(node: _Node) -> ET.Element:
    after = [_drawn(one) for one in node.after.values()]
    return element("li", node.said, *([element("ul", *after)] if after else []))
