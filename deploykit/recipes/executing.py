"""Steps done by an engine that is there already, on machines that share the folder.

Dask, and not Ray: it is Python and nothing else, so that the workers need no more than this package beside it; a step
is a plain task with others before it, and the scheduler itself gives the task of a worker that is lost to another. Ray
brings a runtime of its own, for actors and objects in shared memory, of which a step that reads and writes files has
no use.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploykit.child import Step as Say
from deploykit.child import silent
from deploykit.errors import DeploykitError, UsageError, needs
from deploykit.recipes.planning import Plan, Step
from deploykit.recipes.store import Store
from deploykit.recipes.tasks import Time
from deploykit.typed import stored

PATIENCE = "10s"
"""For the scheduler to answer."""
_TRIES = 2
"""How often a step that was lost is tried again."""


def elsewhere(planned: Plan, store: Store, executor: str, say: Say) -> Mapping[str, DeploykitError]:
    """Have the steps of a plan done by workers, but for the timings, which want a machine for themselves.

    Args:
        planned: the steps; their paths are whole.
        store: where they are kept; the workers see the same folder.
        executor: ``dask:tcp://host:8786``.
        say: takes a sentence about what goes on.

    Returns:
        What went wrong, by the keys of the steps.

    Raises:
        UsageError: there is no such engine, or nothing answers at its address.
        MissingPackage: dask is not installed.
    """
    kind, _, address = executor.partition(":")
    if kind != "dask" or not address:
        raise UsageError(
            f"there is no executor '{executor}'", fix="--executor dask:tcp://host:8786, where a dask scheduler listens"
        )
    with needs("distributed"):
        from distributed import Client
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except OSError as error:
        raise UsageError(f"no dask scheduler answers at {address}: {error}", fix="dask scheduler starts one") from error
    with client:
        left = [step for step in planned.steps if not isinstance(step.task, Time) and not store.has(step.key)]
        say(f"{len(left)} steps at {address}")
        return _gathered(client, left, store)


def _gathered(client: Any, left: list[Step], store: Store) -> Mapping[str, DeploykitError]:
    futures: dict[str, Any] = {}
    for step in left:
        before = [futures[key] for key in step.needs if key in futures]
        futures[step.key] = client.submit(
            _do, step, store.folder, before, key=f"deploykit-{step.key}", retries=_TRIES, pure=False
        )
    found = {}
    for key, future in futures.items():
        problem = future.result()
        if problem is not None:
            found[key] = problem
    return found


def _do(step: Step, folder: Path, before: list[DeploykitError | None]) -> DeploykitError | None:
    """Do a step on a worker; what a user can cause is a result, so that only a lost worker is a reason to try again."""
    problem = next((one for one in before if one is not None), None)
    store = Store(folder)
    if problem is not None or store.has(step.key):
        return problem
    try:
        store.make(step.key, lambda own: stored(step.task.do(store, own, silent)))
    except DeploykitError as error:
        return error
    return None
