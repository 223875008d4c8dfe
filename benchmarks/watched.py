"""Run a command and watch the memory of its whole process tree, on Linux."""

import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

_PERIOD = 0.02
_PSS_EVERY = 10
"""Pss is asked for seldom: the kernel walks all pages of the process for it."""


@dataclass
class Watched:
    """What a run took: wall seconds, and bytes of memory."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of all its processes, user and system."""
    others: float = 0.0
    """What other work took of the machine's cores meanwhile, 0 to 1: over 0.1 the wall time tells little."""
    peak: int = 0
    """Largest sum of the resident memory of all its processes at one time, shared pages counted in each."""
    peak_pss: int = 0
    """The same with shared pages shared out; sampled seldom, and so less certain."""
    peak_anonymous: int = 0
    """The same of anonymous memory alone, without what is mapped from files."""
    at_peak: dict[str, int] = field(default_factory=dict)
    """Seconds since the start, and who held what: the command line's first words and its bytes."""
    high_water: dict[int, int] = field(default_factory=dict)
    """VmHWM of each process, in the order in which they started."""
    output: str = ""
    progress: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, and CPU seconds of all processes up to then."""

    def cpu_between(self, start: float, end: float) -> float:
        """Give the CPU seconds spent between two times, in seconds since the start."""
        until = [max((cpu for at, cpu in self.progress if at <= time_), default=0.0) for time_ in (start, end)]
        return until[1] - until[0]


def run(command: list[str], folder: Path) -> Watched:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; with what it wrote.
    """
    found = Watched()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start, busy, spent = time.perf_counter(), _busy(), _spent()
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err)
        samples = 0
        while process.poll() is None:
            _sample(process.pid, found, time.perf_counter() - start, pss=samples % _PSS_EVERY == 0)
            samples += 1
            time.sleep(_PERIOD)
        found.seconds, found.cpu_seconds = time.perf_counter() - start, _spent() - spent
        found.others = max(0.0, _busy() - busy - found.cpu_seconds) / found.seconds / (os.cpu_count() or 1)
        out.seek(0)
        err.seek(0)
        found.output = out.read().decode()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{found.output}\n{err.read().decode()}")
    return found


def alone(command: list[str]) -> tuple[int, float, int]:
    """Run a short command that starts no other; give its exit code, wall seconds and peak bytes."""
    start = time.perf_counter()
    with Path(os.devnull).open("wb") as nowhere:
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, time.perf_counter() - start, usage.ru_maxrss * 1024


def _spent() -> float:
    """Give the CPU seconds of all processes that were waited for, by this one and by those."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _busy() -> float:
    """Give the CPU seconds that all cores have worked since the machine started."""
    user, nice, system, _idle, _wait, *rest = map(int, _text(Path("/proc/stat")).splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def _sample(root: int, found: Watched, now: float, *, pss: bool) -> None:
    held: dict[int, dict[str, int]] = {pid: _fields(Path(f"/proc/{pid}/status")) for pid in _tree(root)}
    for pid, fields in held.items():
        found.high_water[pid] = max(found.high_water.get(pid, 0), fields.get("VmHWM", 0))
    found.progress.append((now, sum(map(_cpu, held))))
    total = sum(fields.get("VmRSS", 0) for fields in held.values())
    if total > found.peak:
        found.peak = total
        found.at_peak = {"milliseconds": int(now * 1000)}
        found.at_peak |= {f"{_name(pid)} {pid}": fields.get("VmRSS", 0) for pid, fields in held.items()}
    found.peak_anonymous = max(found.peak_anonymous, sum(fields.get("RssAnon", 0) for fields in held.values()))
    if pss:
        rolled = (_fields(Path(f"/proc/{pid}/smaps_rollup")) for pid in held)
        found.peak_pss = max(found.peak_pss, sum(fields.get("Pss", 0) for fields in rolled))


def _tree(root: int) -> list[int]:
    """List a process and all that come from it, whatever session they are in."""
    parents = {pid: _parent(pid) for pid in _pids()}
    found = [root]
    for one in found:
        found.extend(pid for pid, parent in parents.items() if parent == one)
    return found


def _pids() -> list[int]:
    return [int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit()]


def _parent(pid: int) -> int:
    words = _stat(pid)
    return int(words[1]) if words else 0


def _cpu(pid: int) -> float:
    """Give the CPU seconds of a process and of those that it has waited for."""
    return sum(map(int, _stat(pid)[11:15])) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    return _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _fields(path: Path) -> dict[str, int]:
    """Read the lines ``Name:  123 kB`` of a file under /proc, as bytes."""
    found = {}
    for line in _text(path).splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.removesuffix(" kB")) * 1024
    return found


def _name(pid: int) -> str:
    return _text(Path(f"/proc/{pid}/comm")).strip() or "gone"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended
        return ""
