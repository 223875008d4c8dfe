"""What there is to say of an engine before it is built: what it is in name only, and what nothing can prove."""

from pathlib import Path

from deploykit.engines.graph import Graph
from deploykit.engines.lint import computes_in
from deploykit.engines.profiles import Profiles, takes_any


def remarks(graph: Graph, profiles: Profiles, golden: Path) -> tuple[str, ...]:
    """Give all of it, a sentence each."""
    return (*_in_name_only(graph), *_unprovable(profiles, golden))


def _in_name_only(graph: Graph) -> tuple[str, ...]:
    """Say where a file has the weights of a precision, and computes in another."""
    kind = graph.precision
    if kind not in ("float16", "bfloat16") or computes_in(graph, kind):
        return ()
    return (f"nothing computes in {kind}: weights alone are stored so, and the engine computes as in float32",)


def _unprovable(profiles: Profiles, golden: Path) -> tuple[str, ...]:
    """Say where the engine can't be proved on any machine."""
    if takes_any(profiles.shapes, golden):
        return ()
    why = f"no call of {golden.name} is within the profile, so that the engine can't be proved by it"
    return (f"{why}: build it for shapes that were recorded, or record others: deploykit convert --shapes",)
