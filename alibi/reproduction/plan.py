"""The plan of a reproduction: cells in the order of running, their states, and their costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alibi.device import absence, compute_dtype, cores, is_here, matmul_rate, settle_cpu
from alibi.errors import InputError, UserError
from alibi.evaluate import EVALUATION_DTYPE
from alibi.planning import USUAL_SHARE
from alibi.progress import duration
from alibi.records import MEASURED_COLUMNS, measured_results
from alibi.reproduction.cells import Cell
from alibi.reproduction.choice import Choice, NamedCell, chosen
from alibi.reproduction.needs import needs, waiting
from alibi.run_spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class State:
    """A cell, whether it is recorded, and the cost of its missing records."""

    cell: Cell
    recorded: bool
    begun: bool
    seconds: float
    """Estimated time on this machine with all its cores or its GPU at work; 0 for a recorded cell."""
    absent: str | None
    """The corpus whose published sizes the estimate uses, since it is not here."""
    experiment: str
    claims: tuple[int | str, ...] = ()
    """Numbers of the claims, not yet measured, that need it."""
    refused: str = ""
    """Reason why it can't be run here; there is no estimate then."""

    @property
    def told(self) -> str:
        """Its state in a word."""
        return "recorded" if self.recorded else "refused" if self.refused else "begun" if self.begun else "missing"


def plan(choice: Choice) -> list[State]:
    """The cells of a choice in the order of running, with their costs.

    The first seed comes before the others. Within a seed, the cells that most unmeasured claims need come first
    (`alibi.reproduction.needs.needs`); equal cells stay in the order of `chosen`.

    Raises:
        InputError: as `chosen`, and if the requested device is not here.
    """
    if choice.device is not None and (missing := absence(choice.device)):
        raise InputError(f"device {choice.device} can't be used: {missing}; leave it out, or choose cpu")
    named = chosen(choice)
    lacking, order = needs(measured_results(), choice.scale), [*choice.seeds]
    awaited = {name for need in lacking for name in need.part.experiments}
    waited = {(name, cell): waiting(lacking, supposed(name, cell)) if name in awaited else () for name, cell in named}

    def rank(each: NamedCell) -> tuple[int, int]:
        seed = each[1].seed
        # A seed that was not requested serves for a comparison with a requested one.
        place = 0 if seed is None else order.index(seed) if seed in order else len(order)
        return place, -len(waited[each])

    return states(sorted(named, key=rank), waited)


def supposed(experiment: str, cell: Cell) -> "pd.DataFrame":
    """The records that a cell will have, with meaningless values."""
    import pandas as pd

    numbers = pd.DataFrame(cell.numbers()).reindex(columns=MEASURED_COLUMNS)
    return numbers.assign(source=experiment, value=1.0, parameters=1)


def states(named: Sequence[NamedCell], waited: Mapping[NamedCell, tuple[int | str, ...]] | None = None) -> list[State]:
    """The states of these cells: recorded, or the cost of running them.

    The cost is an estimate: floating point operations over `USUAL_SHARE` of this machine's rate of matrix products,
    measured now in the dtype of each. Without a GPU, scales for a GPU are estimated on the CPU. While something else
    runs the rate is low, and the estimate far too high. A run that several cells need is counted with the first, and a
    begun one from its newest checkpoint.

    Args:
        named: the cells.
        waited: numbers of the claims that need each cell.

    Raises:
        UserError: if none can be run here: the error of the last one.
    """
    records = {name: measured_results(name) for name in {name for name, _ in named}}
    settle_cpu(cores())
    found: list[State] = []
    runs: set[RunSpec | None] = set()
    why: UserError | None = None
    for name, cell in named:
        claims = (waited or {}).get((name, cell), ())
        state = State(cell, cell.recorded(records[name]), False, 0.0, None, name, claims)
        if not state.recorded:
            try:
                training, evaluations = cell.flops()
                shared = cell.trains is not None and cell.trains in runs
                left = 0.0 if shared else 1 - cell.trained_share()
                device = cell.device if is_here(cell.device) else "cpu"
                seconds = evaluations / matmul_rate(device, EVALUATION_DTYPE)
                if left:
                    seconds += left * training / matmul_rate(device, cell.training_dtype or compute_dtype(device))
                state = replace(state, begun=cell.begun(), seconds=seconds / USUAL_SHARE, absent=cell.absent)
                runs.add(cell.trains)
            except UserError as wrong:
                why = wrong
                state = replace(state, refused=str(wrong))
        found.append(state)
    if why is not None and all(state.refused for state in found):
        raise why
    return found


def listing(found: Sequence[State]) -> str:
    """A line for each cell with its state, and the total remaining time."""
    several = len({state.experiment for state in found}) > 1
    width, lines = max(len(state.cell.title) for state in found), []
    for state in found:
        done = state.recorded or state.refused
        cost = "" if done else f"about {duration(state.seconds)}" if state.seconds >= 1 else "seconds"
        experiment = f"{state.experiment:18}" if several else ""
        claims = f"claims {', '.join(map(str, state.claims))}" if state.claims else ""
        lines.append(
            f"{state.told:9} {experiment}{state.cell.title:{width}} {state.cell.measurements:3} evaluations  {cost:18} "
            f"{claims}".rstrip()
        )
    for why in dict.fromkeys(state.refused for state in found if state.refused):
        lines.append(f"refused: {why}")
    for name in sorted({state.absent for state in found if state.absent}):
        lines.append(f"{name} is not here: the estimate takes its published sizes")
    if not all(is_here(state.cell.device) for state in found):
        lines.append("the scale is for a GPU, and torch sees none: the estimate is for this machine's CPU")
    lines.append(summary(found))
    return "\n".join(lines)


def summary(found: Sequence[State]) -> str:
    """One line with the number of recorded cells and the remaining time."""
    recorded, refused = (sum(state.told == kind for state in found) for kind in ("recorded", "refused"))
    total = duration(sum(state.seconds for state in found))
    others = f", without the {refused} refused" if refused else ""
    return f"{recorded} of {len(found)} cells recorded; left: about {total} on this machine{others}"


def as_json(found: Sequence[State]) -> list[dict[str, Any]]:
    """The cells with their states as plain data, in the order of running."""
    return [
        {
            "experiment": state.experiment,
            "scale": state.cell.scale,
            "cell": state.cell.title,
            "methods": list(state.cell.methods),
            "train_length": state.cell.train_length,
            "seed": state.cell.seed,
            "device": state.cell.device,
            "state": state.told,
            "evaluations": state.cell.measurements,
            "seconds": None if state.refused else round(state.seconds, 1),
            "claims": list(state.claims),
            "refused": state.refused or None,
        }
        for state in found
    ]
