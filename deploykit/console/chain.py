"""How a chain of steps looks: a recipe, its plan, what it made."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from deploykit.console.pieces import escaped, facts, new_table, number, size, terminal

if TYPE_CHECKING:
    from deploykit.recipes import Found, Made, Planned, Run, Taken
    from deploykit.recipes.starting import Started


def show_plan(steps: "Sequence[Planned]") -> None:
    """Print the steps of a recipe, and which of them were done."""
    table = new_table("artifact", "step", "state")
    for one in steps:
        table.add_row(escaped(one.artifact), escaped(one.title), "done before" if one.cached else "to do")
    terminal().print(table)
    left = len({(one.artifact, one.title) for one in steps if not one.cached})
    facts([("plan", f"{left} of {len(steps)} steps to do" if left else "nothing to do: every step was done before")])


def show_recipe(made: "Started") -> None:
    """Print where the recipe is, and what comes next."""
    facts([("wrote", str(made.path)), *(("note", note) for note in made.notes), ("next", "deploykit run")])


def show_freed(found: Mapping[str, int]) -> None:
    """Print how much was removed."""
    facts([("freed", size(found["freed_bytes"]))])


def show_run(made: "Run") -> None:
    """Print each step of each artifact, and one line for each artifact in the end."""
    facts([("source", str(made.source)), *_step(made.converted)])
    if made.recorded is not None:
        facts(_step(made.recorded))
    for one in made.artifacts:
        terminal().print(f"\n[bold]{escaped(one.name)}[/]")
        facts(line for taken in one.steps for line in _step(taken))
        facts(_speed(one))
        facts([("failed" if number == 0 else "", line) for number, line in enumerate(one.missed)])
        if one.last_good is not None:
            said = "built, not run" if one.word == "UNPROVED" else "the last file that was proved"
            if one.path.exists():
                facts([("note", f"{one.path}, which is there, is of an earlier run")])
            facts([("kept", f"{one.last_good}: {said}")])
    terminal().print()
    terminal().print(_found(made.searched) if made.searched else _table(made))
    facts([("note", note) for note in made.notes])
    facts([("wrote", ", ".join(map(str, made.written)))] if made.written else [])
    facts([("time", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in made.seconds.items()))])


def _step(taken: "Taken") -> Iterator[tuple[str, str]]:
    told = taken.told
    spent = "done before" if taken.cached else f"{sum(told.seconds.values()):.1f} s"
    name, _, options = taken.title.partition(":")
    said = [part for part in (told.done, options, spent) if part]
    yield name, "; ".join(said)
    yield from (("note", note) for note in told.notes[:3])
    if told.verdict is not None:
        yield "proof", "; ".join(check.said for check in told.verdict.checks[:2])


def _speed(one: "Made") -> Iterator[tuple[str, str]]:
    from deploykit.timing.words import told

    if one.speed is not None:
        yield from (("speed", f"{line} ({one.speed.cpu}, {one.speed.threads} thread)") for line in told(one.speed))


def _found(rows: "Sequence[Found]") -> object:
    """Lay out what a search has found."""
    from deploykit.recipes.searching import mark
    from deploykit.timing.words import times

    table = new_table("combination", "verdict", "accuracy>", "SQNR dB>", "times the latency>", "size>", "")
    for one in rows:
        word = "[bold green]proved[/]" if one.passed else "[bold red]FAILED[/]"
        accuracy = f"{one.accuracy:.2%}" if one.accuracy is not None else ""
        latency = times(one.latency) if one.latency else ""
        table.add_row(escaped(one.name), word, accuracy, number(one.sqnr), latency, size(one.bytes), mark(one))
    return table


def _table(made: "Run") -> object:
    from deploykit.timing.words import times

    table = new_table("artifact", "verdict", "size>", "times the latency of the source's ONNX>", "file")
    for one in made.artifacts:
        ratio = one.speed.rows[1].ratio if one.speed is not None else None
        word = f"[bold {'green' if one.passed else 'red'}]{one.word}[/]"
        place = str(one.path) if one.passed else "not written"
        table.add_row(escaped(one.name), word, size(one.bytes), times(ratio) if ratio else "", escaped(place))
    return table
