"""The choice of cells of the experiments.

The order of the cells and the title of each are the same on every machine and do not depend on its records.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace

from alibi.corpora.reading import MOST_DIGITS
from alibi.device import DTYPES, check_device
from alibi.errors import InputError, UnknownNameError, listed, quoted
from alibi.positions import METHODS
from alibi.reproduction.cells import Cell
from alibi.reproduction.evidence import CONTROLS
from alibi.reproduction.experiments import EXPERIMENTS
from alibi.run_spec import SEEDS
from alibi.scale import scale_named

MOST_SEEDS = 1000
NamedCell = tuple[str, Cell]
"""The name of an experiment, and a cell of it."""


@dataclass(frozen=True)
class Choice:
    """A request for cells."""

    experiment: str
    """A name of `alibi.reproduction.experiments.EXPERIMENTS`, or "all"."""
    scale: str
    """A name of `alibi.scale.SCALES`."""
    _: KW_ONLY
    methods: Sequence[str] = ()
    """Only these position methods or controls; empty takes all."""
    lengths: Sequence[int] = ()
    """Only these training lengths; empty takes all."""
    seeds: Sequence[int] = (0,)
    corpus: str | None = None
    """Text for training and evaluation; None takes the experiment's own."""
    device: str | None = None
    """Device for training and evaluation; None takes the scale's own."""
    dtype: str | None = None
    """Dtype of training, where an experiment does not choose it; None takes the device's native one."""
    shard: tuple[int, int] = (1, 1)
    """A shard's number and the number of shards: only its cells, dealt by `dealt`."""

    def __post_init__(self) -> None:
        """Refuses unknown names, and numbers out of range.

        Raises:
            InputError: for an unknown experiment, scale, method, device or dtype (the message lists the known ones), no
                seed, a seed out of range, or a shard that is none of the shards.
        """
        if self.experiment not in ("all", *EXPERIMENTS):
            raise UnknownNameError("experiment", self.experiment, ["all", *EXPERIMENTS])
        scale_named(self.scale)
        known = (*METHODS, *CONTROLS)
        if unknown := [method for method in self.methods if method not in known]:
            raise UnknownNameError("position method", unknown[0], known)
        if self.device is not None:
            check_device(self.device)
        if self.dtype not in (None, *DTYPES):
            raise UnknownNameError("dtype", self.dtype, DTYPES)
        if not self.seeds or not all(0 <= seed < SEEDS for seed in self.seeds):
            raise InputError(f"seeds={self.seeds}: choose at least one, from 0 to 2**63 - 1")
        number, shards = self.shard
        if not 1 <= number <= shards:
            raise InputError(f"shard={self.shard}: choose a number from 1 to the number of shards")


def chosen(choice: Choice) -> list[NamedCell]:
    """The cells of a choice; with "all", experiments without a fitting cell are left out.

    Raises:
        InputError: if no cell is left, or the corpus is unknown.
    """
    names = [*EXPERIMENTS] if choice.experiment == "all" else [choice.experiment]
    every = [(name, cell) for name in names for cell in _every(name, choice)]
    found = [
        (name, cell)
        for name, cell in every
        if (not choice.methods or set(cell.methods) & set(choice.methods))
        and (not choice.lengths or cell.train_length in choice.lengths)
    ]
    if not found and choice.experiment == "all":
        asked = listed([*choice.methods, *(f"L = {length}" for length in choice.lengths)])
        raise InputError(f"no experiment at scale {choice.scale} has a cell of {asked}")
    if not found:
        has = sorted({(method, cell.train_length) for _, cell in every for method in cell.methods})
        raise InputError(
            f"{choice.experiment} at scale {choice.scale} has no such cell; it has "
            f"{', '.join(f'{method} at {length}' for method, length in has)}"
        )
    shared = dealt(found, choice.shard)
    if not shared:
        number, shards = choice.shard
        raise InputError(f"shard {number}/{shards} has none of the {len(found)} cells: choose fewer shards")
    return shared


def cells(choice: Choice) -> list[Cell]:
    """The cells of a choice without the names of their experiments."""
    return [cell for _, cell in chosen(choice)]


def _every(experiment: str, choice: Choice) -> list[Cell]:
    every = EXPERIMENTS[experiment](choice.scale, tuple(dict.fromkeys(choice.seeds)), choice.corpus)
    if choice.device is not None:
        every = [cell.on(choice.device) for cell in every]
    if twice := [title for title, count in Counter(cell.title for cell in every).items() if count > 1]:
        # Their records would be taken for each other's.
        raise InputError(f"experiment {experiment} has two cells {twice[0]!r}: vary what a record has a column for")
    return every if choice.dtype is None else [cell.in_dtype(choice.dtype) for cell in every]


def dealt(named: Sequence[NamedCell], shard: tuple[int, int]) -> list[NamedCell]:
    """The cells of this shard: training runs are dealt out in order, each with all cells that need it.

    So no two shards of the same choice share a cell or a training run; records and machines do not change a shard.
    """
    number, shards = shard
    # A machine's own dtype is one run with none; on another machine it is another run.
    keys = [cell.title if (run := cell.trains) is None else replace(run, dtype=None) for _, cell in named]
    order = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return [each for each, key in zip(named, keys, strict=True) if order[key] % shards == number - 1]


def seeds_named(given: Sequence[str]) -> tuple[int, ...]:
    """The seeds named by numbers and ranges such as 0-4 or 0,2,5-7, each once and in order; seed 0 if none is named.

    Raises:
        InputError: for another spelling, which the message shows, and for more than 1,000 seeds.
    """
    found: dict[int, None] = {}
    for part in ",".join(given).split(",") if given else ("0",):
        first, dash, last = part.partition("-")
        numbers = [number for number in (first, last if dash else first) if number.isascii() and number.isdecimal()]
        long = any(len(number) > MOST_DIGITS for number in numbers)
        if len(numbers) < 2 or (not long and int(numbers[0]) > int(numbers[1])):
            raise InputError(
                f"seeds {quoted(' '.join(given))}: {quoted(part)} is no seed and no range; write 0 1 2, 0-4 or 0,2,5-7"
            )
        if not long and int(numbers[1]) < SEEDS and int(numbers[1]) - int(numbers[0]) < MOST_SEEDS:
            found |= dict.fromkeys(range(int(numbers[0]), int(numbers[1]) + 1))
            if len(found) <= MOST_SEEDS:
                continue
        raise InputError(f"seeds {quoted(part)}: choose at most {MOST_SEEDS:,} seeds, from 0 to 2**63 - 1")
    return tuple(found)


def shard_named(given: str | None) -> tuple[int, int]:
    """A shard's number and the number of shards, from a text such as 3/8; None gives 1 of 1.

    Raises:
        InputError: for another text, which the message shows.
    """
    if given is None:
        return 1, 1
    parts = [part for part in given.split("/") if part.isascii() and part.isdecimal() and len(part) <= MOST_DIGITS]
    if len(parts) != 2 or given.count("/") != 1 or not 1 <= int(parts[0]) <= int(parts[1]):
        raise InputError(f"shard {quoted(given)}: choose I/N as in 3/8, with I from 1 to N")
    return int(parts[0]), int(parts[1])
