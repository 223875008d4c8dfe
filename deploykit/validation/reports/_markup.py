"""Elements of XML and HTML, from a tree and not from text: no name can break out of it."""

from xml.etree import ElementTree as ET

from deploykit.validation.reports._words import visible


def element(tag: str, *children: ET.Element | str, **attributes: str) -> ET.Element:
    """Make an element of its parts; ``class_`` is the attribute class, ``aria_label`` is aria-label."""
    made = ET.Element(tag, {_attribute(name): visible(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, ET.Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + visible(child)
        else:
            made.text = (made.text or "") + visible(child)
    return made


def _attribute(name: str) -> str:
    return name.removesuffix("_").replace("_", "-")
