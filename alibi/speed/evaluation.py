"""Speed of evaluation, method against method."""

import statistics
from functools import partial

from alibi.evaluate import evaluate
from alibi.model import Decoder
from alibi.speed.shapes import Shape, random_split, training
from alibi.speed.timing import SECONDS_A_LENGTH, Ratios, Rows, Step, paired_ratio, seconds_of, take_turns

# Evaluation is measured at the training length and at this multiple of it.
LONGER = 16


def scoring(model: Decoder, shape: Shape, tokens: int, length: int, stride: int | None, batch_tokens: int) -> Step:
    """An evaluation of this many random tokens, to be timed."""
    return partial(evaluate, model, random_split(shape, tokens), 0, length, stride, batch_tokens=batch_tokens)


def evaluation(shape: Shape, methods: tuple[str, ...], device: str, beyond: bool = True) -> tuple[Rows, Ratios]:
    """Tokens a second of evaluation, kernels chosen automatically, and ratios of the times to the first method's.

    Args:
        shape: of the models.
        methods: whose models are evaluated in nonoverlapping windows of L tokens.
        device: cpu, cuda or mps.
        beyond: at 16 L as well, and of ALiBi, or else the last method, with a sliding window of L tokens, an eighth of
            them new, batched against one window at a time.
    """
    models = {method: training(shape, method, "automatic", device, compiled=False).model for method in methods}
    rows: Rows = []
    ratios: Ratios = {}

    def measure(protocol: str, tokens: int, length: int, steps: dict[str, Step]) -> dict[str, list[float]]:
        for step in steps.values():
            step()
        timed = {name: partial(seconds_of, step, device) for name, step in steps.items()}
        times = take_turns(timed, SECONDS_A_LENGTH, f"{shape.name} {protocol} at {length}")
        for name, seconds in times.items():
            median = statistics.median(seconds)
            rows.append(
                {
                    "shape": shape.name,
                    "method": name if name in methods else slid,
                    "protocol": protocol if name in methods else f"{protocol}, {name}",
                    "length": length,
                    "seconds": median,
                    "tokens_per_second": tokens / median,
                }
            )
        return times

    first, slid = methods[0], "alibi" if "alibi" in methods else methods[-1]
    for multiple, at in ((1, "L"), (LONGER, f"{LONGER} L"))[: 1 + beyond]:
        length = multiple * shape.length
        tokens = max(shape.tokens, length)
        steps = {m: scoring(model, shape, tokens, length, None, tokens) for m, model in models.items()}
        times = measure("nonoverlapping", tokens, length, steps)
        for method in methods[1:]:
            ratios[f"evaluate {method}/{first} at {at}"] = {shape.name: paired_ratio(times[method], times[first])}
    if not beyond:
        return rows, ratios
    length, tokens = shape.length, 5 * shape.length
    sliding = {
        name: scoring(models[slid], shape, tokens, length, length // 8, at_once)
        for name, at_once in (("batched", 64 * length), ("one at a time", 1))
    }
    times = measure("sliding window", tokens, length, sliding)
    # As a speed: above 1 the batches are faster.
    ratio = paired_ratio(times["one at a time"], times["batched"])
    ratios["evaluate sliding batched/one at a time"] = {shape.name: ratio}
    return rows, ratios
