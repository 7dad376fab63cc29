"""The ways in which a contestant can do its work, and the choice of the fastest."""

import time
from collections.abc import Callable

from alibi.errors import UserError
from alibi.positions import NoBias
from alibi.speed.result import Way
from alibi.speed.shapes import Contender, Shape
from alibi.speed.timing import Step, seconds_of

# Attention kernels that may be a method's fastest, and kernels that gain from a decay window.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "cpu": ("baddbmm", "sdpa", "columns"),
    "cuda": ("sdpa", "columns", "flex"),
    "mps": ("baddbmm", "sdpa", "columns"),
}
DECAY_WINDOW_KERNELS: dict[str, tuple[str, ...]] = {
    "cpu": ("window", "sdpa"),
    "cuda": ("flex",),
    "mps": ("window", "sdpa"),
}
ONE_KERNEL = "baddbmm"
"""The kernel for comparisons on one kernel: as in the paper's code, scores are stored and every method adds a mask."""
# Further steps of each way that is near the fastest, and the slowest time that still counts as near.
TRIALS, NEAR = 2, 1.4
# Letters to keep of a compiler's message, which may be long.
REFUSAL_LETTERS = 200


class BenchError(UserError, RuntimeError):
    """This machine cannot make a requested measurement."""


def kernels_of(shape: Shape, contender: Contender, device: str, also: str | None = None) -> list[str]:
    """Kernels that may be the contender's fastest, and one more if it is named.

    Without a bias there are no columns to add: the kernel columns would be sdpa by another name.
    """
    kernels = (CANDIDATES if contender.decay_window is None else DECAY_WINDOW_KERNELS)[device]
    without = isinstance(shape.unmade(contender.method).bias(), NoBias)
    tried = [kernel for kernel in kernels if not (without and kernel == "columns")]
    return list(dict.fromkeys([*tried, *([] if also is None else [also])]))


def refusal_of(error: Exception) -> str:
    """The kind of an error and the beginning of its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:REFUSAL_LETTERS]}"


class Trials:
    """The ways in which one contestant can do its work, and the time of each.

    Args:
        device: cpu, cuda or mps.
        kernel: an attention kernel that is measured too, however slow.
    """

    def __init__(self, device: str, kernel: str | None = None) -> None:
        self.device, self.kernel, self.started = device, kernel, time.perf_counter()
        self.steps: dict[Way, Step] = {}
        self.tried: dict[Way, float] = {}
        self.refused: dict[Way, str] = {}

    def attempt(self, way: Way, make: Callable[[], Step]) -> None:
        """Builds this way and makes two steps; an error is stored as its refusal."""
        try:
            step = make()
            step()
            self.tried[way] = seconds_of(step, self.device)
        except Exception as refusal:  # A compiler may raise anything; `require` raises if nothing runs at all.
            self.refused[way] = refusal_of(refusal)
        else:
            self.steps[way] = step
            # A way that can't be chosen frees its memory, which the next ones may need.
            near = self._near()
            self.steps = {kept: step for kept, step in self.steps.items() if kept in near or self._asked(kept)}

    def _near(self) -> list[Way]:
        return [way for way in self.steps if self.tried[way] < NEAR * min(self.tried.values())]

    def _asked(self, way: Way) -> bool:
        return way.kernel == self.kernel is not None

    def chosen(self) -> list[Way]:
        """The fastest way, and the way on the requested kernel if it is another one; the others are dropped.

        All near ways first make more steps in turns, so that background load does not decide.
        """
        near = self._near()
        for _ in range(TRIALS):
            for way in near:
                self.tried[way] = min(self.tried[way], seconds_of(self.steps[way], self.device))
        best = min(self.steps, key=self.tried.__getitem__)
        ways = [best, *(way for way in self.steps if way != best and self._asked(way))]
        self.steps = {way: self.steps[way] for way in ways}
        return ways

    def require(self, name: str, shape: Shape) -> None:
        """Checks that at least one way runs.

        Raises:
            BenchError: if none does; the message has the reasons.
        """
        if not self.steps:
            reasons = {way.label: reason for way, reason in self.refused.items()}
            raise BenchError(f"no attention kernel runs {name} at shape {shape.name} on {self.device}: {reasons}")
