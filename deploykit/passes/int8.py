"""Compute in integers of 8 bits, as a runtime does it best, and no more of it than the budget allows."""

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from deploykit.errors import UsageError
from deploykit.passes import Applied, Pass, Work
from deploykit.passes._draft import Contest, Draft, improve
from deploykit.passes._guard import Candidate, Guard, check_seconds, layers_of, nodes_named
from deploykit.passes._known import Known, digest
from deploykit.quantization.calibrating import Calibration, calibrate, check_place, fingerprint
from deploykit.quantization.effort import EFFORTS, effort_of
from deploykit.quantization.health import Health, chosen
from deploykit.quantization.kernels import in_integers
from deploykit.quantization.ranges import check_method
from deploykit.quantization.reading import read
from deploykit.quantization.regions import Named, Regions, find_regions
from deploykit.quantization.stand_ins import calibrated
from deploykit.quantization.targets import Target, target_of


@dataclass(frozen=True)
class Int8(Pass):
    """Rounds weights and activations to 8 bits, from calibration samples."""

    suffix: ClassVar[str] = "int8"
    precision: ClassVar[str] = "int8"
    lossy: ClassVar[bool] = True
    target: str = field(default="auto", metadata={"help": "auto, cpu, cpu-avx2, tensorrt or openvino"})
    method: str = field(
        default="auto", metadata={"help": "of calibration: auto, minmax, average, percentile, entropy or mse"}
    )
    keep: tuple[str, ...] = field(default=(), metadata={"help": "nodes that stay in float, by name"})
    calibration: str = field(default="", metadata={"help": "a calibration to use, instead of samples"})
    save_calibration: str = field(default="", metadata={"help": "where to write the calibration"})
    synthetic_calibration: bool = field(default=False, metadata={"help": "calibrate with inputs that are made up"})
    effort: str = field(
        default="normal", metadata={"help": "; ".join(f"{one.name}: {one.says}" for one in EFFORTS.values())}
    )
    time_budget: float = field(default=600.0, metadata={"help": "seconds for the search of what stays in float"})

    @property
    def hastens(self) -> bool:
        """It is, where it is for this kind of machine."""
        return self.target == "auto" or self.target.startswith("cpu")

    def check(self, *, made_up: bool) -> None:
        """Make sure that there is a target, a method and something to calibrate with."""
        target_of(self.target)
        check_method(self.method)
        check_seconds(self.time_budget)
        if self.calibration:
            Calibration.read(Path(self.calibration))
        if self.save_calibration:
            check_place(Path(self.save_calibration))
        effort_of(self.effort)
        if made_up and not (self.synthetic_calibration or self.calibration):
            raise UsageError(
                "int8 needs samples like those in use, to know which range the values have",
                fix=[
                    "--data calib.npz (also .npy, .csv, .parquet, a folder of images, or file.py:function)",
                    "or --synthetic-calibration, where inputs that are made up are good enough",
                ],
            )

    def apply(self, source: Path, work: Work) -> Applied:
        """Calibrate, write the graph in integers, and give back to float what harms most while the budget is missed."""
        target = target_of(self.target)
        model = read(source, target)
        nodes_named(model, self.keep)
        regions = find_regions(model, target, self.keep)
        if not any(unit.weight is not None for unit in regions.units):
            raise _nothing(source, target, regions)
        named = Named.of(regions)
        del model, regions  # its weights would stay in memory while it runs
        known = Known.of(self, work, target.name, digest(self.calibration))
        calibration = self._calibrated(source, named, work, known)
        effort = effort_of(self.effort)
        method = self.method if self.method != "auto" else effort.method
        kept = frozenset(self.keep)
        draft = Draft(source, target, named, calibration, effort, chosen(calibration, target, method), method, kept)
        health = Health.of(calibration, draft.choices)
        if self.save_calibration:
            calibration.save(Path(self.save_calibration), asdict(health))
        contest = Contest(draft, work, kept)
        if not (self.calibration or self.save_calibration):  # saved ranges are of the model as it came
            improve(contest)
        draft = contest.best
        prepare = partial(calibrated, target=target, numbers=draft.numbers, names=named.nodes)
        guard = Guard(draft.read, prepare, work, self.time_budget, contest.write, known)
        best = guard.search(kept)
        return self._applied(best, draft, guard, [*health.said(), *contest.said()])

    def _calibrated(self, source: Path, named: Named, work: Work, known: Known) -> Calibration:
        # All of the weights are read for it: only where a calibration comes from a file, or goes to one.
        model = fingerprint(read(source)) if self.calibration or self.save_calibration else ""
        if self.calibration:
            found = Calibration.read(Path(self.calibration))
            missing = [name for name in named.calibrated if name not in found.counts]
            if missing or found.model != model:
                why = f"says nothing of the tensor '{missing[0]}'" if missing else "was taken from another model"
                raise UsageError(
                    f"{self.calibration} {why}", fix="calibrate with this model and this target: --data calib.npz"
                )
        elif (before := known.calibration()) is not None:
            found = before
        else:
            graph = read(source, target_of(self.target))
            found = calibrate(graph, named.calibrated, named.channels, work.calls, work.folder, work.step)
            found.synthetic = work.made_up
            known.calibrated(found)
        found.model = model
        return found

    def _applied(self, best: Candidate, draft: Draft, guard: Guard, said: list[str]) -> Applied:
        methods: dict[str, int] = {}
        for choice in draft.choices.values():
            methods[choice.method] = methods.get(choice.method, 0) + 1
        ran = in_integers(best.path) if draft.target.name.startswith("cpu") else None
        layers = tuple(layers_of(guard.read(), best, ran, guard.alone))
        int8 = sum(layer.fate == "int8" for layer in layers)
        used = ", ".join(f"{name} {count}" for name, count in sorted(methods.items(), key=lambda one: -one[1]))
        notes = [f"calibrated with {draft.calibration.samples} samples, ranges by {used}", *said, *guard.said()]
        notes += [f"{layer.name} ({layer.operator}) is in {layer.fate}" for layer in layers if layer.fate != "int8"][:5]
        where = "run in int8" if ran is not None else "are in int8"
        return Applied(
            best.path,
            f"{int8} of {len(layers)} layers with weights {where} ({draft.target.says})",
            tuple(notes),
            layers,
            guard.settled,
        )


def _nothing(source: Path, target: Target, regions: Regions) -> UsageError:
    return UsageError(
        f"there is nothing in {source.name} that {target.name} computes in int8",
        fix="leave it in float, or try --dynamic for recurrent nets and transformers",
        details=[f"{name}: {why}" for name, why in list(regions.left.items())[:5]],
    )
