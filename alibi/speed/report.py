"""The result of the benchmark for a terminal: the machine, a table for each part, and the ratios."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alibi.speed.result import AttentionRow, Result, StepRow

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

EVALUATION_HEADS = ("shape", "method", "protocol", "length", "ms", "tokens/s")
STEP_HEADS = ("shape", "contestant", "kernel", "form", "ms/step", "quartiles", "tokens/s", "of peak", "warm-up s")


def report(result: Result) -> "Group":
    """The result of `alibi.speed.benchmark.bench` as text and tables."""
    from rich.console import Group
    from rich.text import Text

    machine = result.machine
    lines: list[RenderableType | None] = [
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch_version']}, {machine['dtype']}",
        *(f"measured ceiling, {name}: {value:.3g}" for name, value in result.ceilings().items()),
        machine["note"] or None,
        _table("training steps", STEP_HEADS, [_step(row, row.share_of(result.ceiling)) for row in result.steps]),
        *(
            Text(f"refused at {row.shape}, {row.contestant}: {way.label}: {why}")  # Its brackets are not markup.
            for row in result.steps
            for way, why in row.refused.items()
        ),
    ]
    evaluated = [
        (r.shape, r.method, r.protocol, f"{r.length:,}", _milliseconds(r.seconds), f"{r.tokens_per_second:,.0f}")
        for r in result.evaluation
    ]
    peaks = [
        (row.shape, row.method, *map(_mebibytes, (row.train_bytes, row.evaluate_8L_bytes, row.evaluate_16L_bytes)))
        for row in result.memory
    ]
    alone = [(f"{row.length:,}", row.bias, row.kernel, _time_or_refusal(row)) for row in result.attention]
    lines += [
        _table(f"evaluation, {machine['evaluation_dtype']}", EVALUATION_HEADS, evaluated),
        _table("peak memory, MiB", ("shape", "method", "training step", "evaluation at 8 L", "at 16 L"), peaks),
        _table("attention alone, forward and backward pass", ("length", "bias", "kernel", "ms"), alone),
    ]
    by_title = result.by_title()
    of_attention = {ratio.title for ratio in result.ratios if ratio.quantity == "attention"}
    for title, names in (
        ("ratios", by_title.keys() - of_attention),
        ("ratios of attention alone, by length", of_attention),
    ):
        lines.append(_ratio_table(title, {name: values for name, values in by_title.items() if name in names}))
    return Group(*(line for line in lines if line is not None))


def _step(row: StepRow, share: float | None) -> tuple[str, ...]:
    return (
        row.shape,
        row.name,
        row.way.kernel_label,
        row.way.form,
        _milliseconds(row.seconds),
        f"{1e3 * row.low:.0f} to {1e3 * row.high:.0f}",
        f"{row.tokens_per_second:,.0f}",
        "" if share is None else f"{share:.0%}",
        f"{row.warm_up:.1f}",
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}"


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:,.1f}"


def _time_or_refusal(row: AttentionRow) -> str:
    return str(row.refused) if row.seconds is None else _milliseconds(row.seconds)


def _ratio_table(title: str, by_title: dict[str, dict[str, float]]) -> "Table | None":
    columns = list(dict.fromkeys(column for values in by_title.values() for column in values))
    rows = [(name, *(f"{at[c]:.3f}" if c in at else "" for c in columns)) for name, at in by_title.items()]
    return _table(title, ("", *columns), rows)


def _table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> "Table | None":
    """A table with numbers to the right; None without rows."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return None
    shown = Table(title=f"\n{title}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for number, head in enumerate(heads):
        digits = all(row[number][:1].isdigit() or not row[number] for row in rows)
        shown.add_column(head, justify="right" if digits else "left")
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown
