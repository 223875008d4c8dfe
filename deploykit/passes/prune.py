"""Take out of a model what matters least, and fit the rest to answer as before."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from deploykit.errors import UsageError, nearest
from deploykit.passes import Applied, Pass, Work

PATTERNS = ("channel", "2:4", "unstructured")


@dataclass(frozen=True)
class Prune(Pass):
    """Removes whole channels, with all that depends on them, and fits what is left to the source's own values."""

    suffix: ClassVar[str] = "pruned"
    lossy: ClassVar[bool] = True
    first: ClassVar[str] = "weights that are rounded can't be fitted any more: prune first, then quantize"
    pattern: str = field(default="channel", metadata={"help": "channel, 2:4 or unstructured"})
    amount: float = field(default=0.3, metadata={"help": "share of the channels, or of the weights, that go"})
    target_macs: float = field(default=0.0, metadata={"help": "share of the multiplications that may stay, instead"})
    target_latency: float = field(default=0.0, metadata={"help": "share of the latency that may stay, measured"})
    largest: bool = field(default=False, metadata={"help": "cut as much as the budget allows, instead"})
    max_drop: float = field(default=0.0, metadata={"help": "cut as much as this loss of accuracy allows; needs labels"})
    uniform: bool = field(default=False, metadata={"help": "the same amount everywhere, whatever it harms"})
    importance: str = field(default="reconstruction", metadata={"help": "reconstruction, wanda or magnitude"})
    refit: bool = field(default=True, metadata={"help": "fit the weights that are left to the source's values"})

    mask: str = field(default="", metadata={"help": "where to write which channels stay, by parameter"})

    def __post_init__(self) -> None:
        """A loss that is allowed, and no goal, is a goal by itself."""
        if self.max_drop and not (self.target_macs or self.target_latency):
            object.__setattr__(self, "largest", True)

    @property
    def hastens(self) -> bool:
        """A smaller dense graph is; zeros in a dense one are not."""
        return self.pattern == "channel"

    @property
    def fits(self) -> bool:
        """It does, unless it looks at no samples."""
        return not self.blind

    @property
    def blind(self) -> bool:
        """Whether it looks at weights alone, and at no samples."""
        plain = self.importance == "magnitude"
        return plain and (self.pattern != "channel" or (self.uniform and not self.refit))

    def check(self, *, made_up: bool) -> None:
        """Make sure that the goals make sense, and that there are samples to look at."""
        from deploykit.pruning.importance import check_importance

        check_importance(self.importance)
        self._check_pattern()
        for name in ("amount", "target_macs", "target_latency"):
            value = getattr(self, name)
            if not (0 < value < 1 or (value == 0 and name != "amount")):
                raise UsageError(f"{name} is {value:g}, and must be between 0 and 1", fix="write 30% as 0.3 or 30%")
        if sum((self.target_macs > 0, self.target_latency > 0, self.largest)) > 1:
            raise UsageError("two goals are given", fix="name one of them")
        if made_up and not self.blind:
            raise UsageError(
                "prune needs samples like those in use, to know what matters and to fit what is left",
                fix=[
                    "--data calib.npz (also .npy, .csv, .parquet, a folder of images, or file.py:function)",
                    "or --importance magnitude --uniform --no-refit, which looks at weights alone, and loses more",
                ],
            )

    def _check_pattern(self) -> None:
        if self.pattern not in PATTERNS:
            raise UsageError(
                f"there is no pattern '{self.pattern}'{nearest(self.pattern, PATTERNS)}",
                fix=f"one of {', '.join(PATTERNS)}",
            )
        if self.pattern != "channel" and self.mask:
            raise UsageError("a mask says which channels stay", fix="leave --mask out, or --pattern channel")
        if self.pattern != "channel" and (self.target_macs or self.target_latency or self.largest):
            raise UsageError(
                f"zeros of {self.pattern} save no multiplications on a CPU", fix="--amount, or --pattern channel"
            )

    def apply(self, source: Path, work: Work) -> Applied:
        """Find what can go, cut it, and fit the rest."""
        from deploykit.passes._shrinking import Shrinking
        from deploykit.passes._thinning import thinned

        if self.pattern != "channel":
            share = None if self.pattern == "2:4" else self.amount
            return thinned(source, work, share, self.importance, refit=self.refit)
        return Shrinking.of(self, source, work).applied()
