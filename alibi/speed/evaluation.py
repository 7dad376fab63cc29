"""Speed of evaluation, method against method."""

import statistics
from functools import partial

from alibi.evaluate import evaluate
from alibi.model import Decoder
from alibi.speed.result import EvaluationRow, Ratio
from alibi.speed.shapes import ALIBI, Contender, Shape, random_split, training
from alibi.speed.timing import SECONDS_A_LENGTH, Step, paired_ratio, seconds_of, take_turns

# Evaluation is measured at the training length and at this multiple of it.
LONGER = 16
# Windows that one pass of the sliding-window evaluation runs.
WINDOWS_AT_ONCE = 64


def scoring(model: Decoder, shape: Shape, tokens: int, length: int, stride: int | None, batch_tokens: int) -> Step:
    """An evaluation of this many random tokens, to be timed."""
    return partial(evaluate, model, random_split(shape, tokens), 0, length, stride, batch_tokens=batch_tokens)


def evaluation(
    shape: Shape, contenders: tuple[Contender, ...], device: str, beyond: bool = True
) -> tuple[list[EvaluationRow], list[Ratio]]:
    """Tokens a second of evaluation, kernels chosen automatically, and ratios of the times to the first contender's.

    Args:
        shape: of the models.
        contenders: whose models are evaluated in nonoverlapping windows of L tokens.
        device: cpu, cuda or mps.
        beyond: evaluate at 16 L as well; and evaluate ALiBi, or else the last contender, in a sliding window of L
            tokens with L / 8 new ones, batched and one window at a time.
    """
    models = {c.name: training(shape, c, "automatic", device, compiled=False).model for c in contenders}
    rows: list[EvaluationRow] = []
    ratios: list[Ratio] = []

    def timed(steps: dict[str, Step], label: str) -> dict[str, list[float]]:
        for step in steps.values():
            step()
        timers = {name: partial(seconds_of, step, device) for name, step in steps.items()}
        return take_turns(timers, SECONDS_A_LENGTH, f"{shape.name} {label}")

    def add(method: str, protocol: str, tokens: int, length: int, seconds: list[float]) -> None:
        median = statistics.median(seconds)
        rows.append(EvaluationRow(shape.name, method, protocol, length, median, tokens / median))

    first = contenders[0].name
    for multiple, at in ((1, "L"), (LONGER, f"{LONGER} L"))[: 1 + beyond]:
        length = multiple * shape.length
        tokens = max(shape.tokens, length)
        steps = {name: scoring(model, shape, tokens, length, None, tokens) for name, model in models.items()}
        times = timed(steps, f"nonoverlapping at {length}")
        for name, seconds in times.items():
            add(name, "nonoverlapping", tokens, length, seconds)
        ratios += [
            Ratio("evaluate", name, f"{first} at {at}", shape.name, paired_ratio(times[name], times[first]))
            for name in models
            if name != first
        ]
    if beyond:
        slid = (ALIBI if ALIBI in contenders else contenders[-1]).name
        length, tokens = shape.length, 5 * shape.length
        steps = {
            name: scoring(models[slid], shape, tokens, length, length // 8, at_once)
            for name, at_once in (("batched", WINDOWS_AT_ONCE * length), ("one at a time", 1))
        }
        times = timed(steps, f"sliding window at {length}")
        for name, seconds in times.items():
            add(slid, f"sliding window, {name}", tokens, length, seconds)
        # As a speed: above 1 the batches are faster.
        ratio = paired_ratio(times["one at a time"], times["batched"])
        ratios.append(Ratio("evaluate sliding", "batched", "one at a time", shape.name, ratio))
    return rows, ratios
