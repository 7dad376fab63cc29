"""A learning rate for each method by one rule, and the factor of T5's table, chosen only on the validation split.

Each method is trained at L = 64 (laptop) for a quarter of the scale's steps, with half the scale's rate, the scale's
rate, and twice the rate. The rule is older than the runs: a method keeps the scale's rate, unless another rate lowers
its loss at L_valid = L by more than 0.01 nats; then it takes the best of the three. Losses past L choose nothing.

The table of the T5 bias must move by several nats, and a step of Adam moves it no farther than its rate. At L = 128
its rate is 1, 3, 10 and 30 times the model's. `alibi.optim.method_rate` derives the factor for every budget from the
distance that the table can move at the best of these rates, `alibi.positions.t5.T5Bias.travel`.

    python -m alibi reproduce learning_rates --scale laptop
"""

from alibi.positions import PAPER_METHODS
from alibi.reproduction.evaluations import Measure
from alibi.reproduction.experiments.wikitext103 import LENGTHS, TEXTS
from alibi.reproduction.texts import text_named
from alibi.reproduction.training_cell import TrainingCell, spec_of
from alibi.scale import scale_named

TIMES = (1.0, 2.0, 0.5)
FACTORS = (1.0, 3.0, 10.0, 30.0)
MULTIPLES = (1, 2, 16)
SHARE_OF_STEPS = 4


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[TrainingCell]:
    """Every method of the paper, and a model without positions, at each rate; then the T5 bias with each factor."""
    text, size, lengths = text_named(corpus, TEXTS[scale]), scale_named(scale), LENGTHS[scale]
    own = {"learning_rate": size.learning_rate}
    choices = [
        (method, lengths[0], {"learning_rate": times * size.learning_rate})
        for times in TIMES
        for method in (*PAPER_METHODS[::-1], "none")
    ]
    # Scale quick has only one length and tries the factors there too.
    choices += [("t5", lengths[:2][-1], own | {"method_rate": factor}) for factor in FACTORS]
    return [
        TrainingCell(
            spec_of(method, scale, length, text, seed, steps=size.steps // SHARE_OF_STEPS, **chosen),
            "wikitext-103",
            text.evaluate,
            measures=tuple(Measure(multiple * length) for multiple in MULTIPLES),
        )
        for seed in seeds
        for method, length, chosen in choices
    ]
