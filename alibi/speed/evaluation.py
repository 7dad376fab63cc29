"""Speed of evaluation, method against method."""

from functools import partial

from alibi.evaluate import evaluate
from alibi.model import Decoder
from alibi.protocols import NONOVERLAPPING
from alibi.speed.result import EvaluationRow, Ratio, Way
from alibi.speed.shapes import ALIBI, Contender, Shape, random_split, training
from alibi.speed.timing import SECONDS_A_LENGTH, Step, median_of, paired_ratio, seconds_of, take_turns
from alibi.speed.trials import Trials, kernels_of

# Evaluation is measured at the training length and at this multiple of it.
LONGER = 16
# Windows that one pass of the sliding-window evaluation runs.
WINDOWS_AT_ONCE = 64


def scoring(model: Decoder, shape: Shape, tokens: int, length: int, stride: int | None, batch_tokens: int) -> Step:
    """An evaluation of this many random tokens, to be timed."""
    return partial(evaluate, model, random_split(shape, tokens), 0, length, stride, batch_tokens=batch_tokens)


def _on(kernel: str, model: Decoder, step: Step) -> Step:
    def scored() -> None:
        model.kernel = kernel
        step()

    return scored


def evaluation(
    shape: Shape, contenders: tuple[Contender, ...], device: str, beyond: bool = True, kernel: str | None = None
) -> tuple[list[EvaluationRow], list[Ratio]]:
    """Tokens a second of evaluation, each method on its fastest kernel, and ratios of the times to the first method's.

    Models are not compiled. The fastest kernel is found at each length.

    Args:
        shape: shape of the models.
        contenders: their models are evaluated in nonoverlapping windows of L tokens.
        device: cpu, cuda or mps.
        beyond: also evaluate at 16 L; and evaluate ALiBi, or else the last contender, in a sliding window of L tokens
            with L / 8 new ones, batched and one window at a time.
        kernel: also evaluate each contender on this attention kernel, if it runs and another one is the fastest.

    Raises:
        alibi.speed.trials.BenchError: if no kernel runs a contender.
    """
    models = {c: training(shape, c, "automatic", device, compiled=False).model for c in contenders}
    rows: list[EvaluationRow] = []
    ratios: list[Ratio] = []

    def add(
        contender: Contender, ran: str, best: str, protocol: str, tokens: int, length: int, seconds: list[float]
    ) -> None:
        median, error = median_of(seconds)
        measured = median, error, len(seconds), tokens / median, ran == best
        rows.append(EvaluationRow(shape.name, contender.name, protocol, length, ran, *measured))

    first = contenders[0]
    fastest: dict[Contender, str] = {}
    for multiple, at in ((1, "L"), (LONGER, f"{LONGER} L"))[: 1 + beyond]:
        length = multiple * shape.length
        tokens = max(shape.tokens, length)
        steps: dict[tuple[Contender, str], Step] = {}
        quickest: dict[Contender, str] = {}
        for contender, model in models.items():
            trials, step = Trials(device, kernel), scoring(model, shape, tokens, length, None, tokens)
            for name in kernels_of(shape, contender, device, kernel):
                trials.attempt(Way(name, "eager"), partial(_on, name, model, step))
            trials.require(contender.name, shape)
            ways = trials.chosen()
            quickest[contender] = ways[0].kernel_label
            steps |= {(contender, way.kernel_label): trials.steps[way] for way in ways}
        timers = {key: partial(seconds_of, step, device) for key, step in steps.items()}
        times = take_turns(timers, SECONDS_A_LENGTH, f"{shape.name} nonoverlapping at {length}")
        for (contender, ran), seconds in times.items():
            add(contender, ran, quickest[contender], NONOVERLAPPING, tokens, length, seconds)
        for contender in contenders[1:]:
            pair = times[contender, quickest[contender]], times[first, quickest[first]]
            ratio = paired_ratio(*pair)
            ratios.append(Ratio("evaluate", contender.name, f"{first.name} at {at}", shape.name, *ratio))
            if kernel is not None and {(contender, kernel), (first, kernel)} <= times.keys():
                ratio = paired_ratio(times[contender, kernel], times[first, kernel])
                names = contender.name, f"{first.name} at {at}"
                ratios.append(Ratio("evaluate", *names, shape.name, *ratio, kernel))
        fastest = fastest or quickest
    if beyond:
        slid = ALIBI if ALIBI in contenders else contenders[-1]
        length, tokens, ran = shape.length, 5 * shape.length, fastest[slid]
        sliding = {
            name: _on(ran, models[slid], scoring(models[slid], shape, tokens, length, length // 8, at_once))
            for name, at_once in (("batched", WINDOWS_AT_ONCE * length), ("one at a time", 1))
        }
        for step in sliding.values():
            step()
        turns = {name: partial(seconds_of, step, device) for name, step in sliding.items()}
        found = take_turns(turns, SECONDS_A_LENGTH, f"{shape.name} sliding window at {length}")
        for name, seconds in found.items():
            add(slid, ran, ran, f"sliding window, {name}", tokens, length, seconds)
        # As a ratio of speeds: above 1 the batches are faster.
        ratio = paired_ratio(found["one at a time"], found["batched"])
        ratios.append(Ratio("evaluate sliding", "batched", "one at a time", shape.name, *ratio))
    return rows, ratios
