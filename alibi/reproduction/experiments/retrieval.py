"""Which methods find far tokens? Passkey, associative recall and copying, learned from scratch at L = 64.

A flat perplexity shows that nothing breaks past L, not that distant tokens are used. Here a small model learns three
tasks at once on generated windows of 16 to 64 tokens (`alibi.retrieval.tasks`), and is tested in windows of 64 to
1,024. No text is needed, and nothing is scaled down: L is 64 at every scale.

    scale     steps    a model takes about
    quick     2,000    4 minutes on a core
    laptop    8,000    15 minutes on a core
    gpu       8,000    minutes
    paper     8,000    the same

All have 4 layers of width 128 with 8 heads. Half of the steps have windows of L, the others have shorter ones, so that
the distance of an answer varies. No window of a test occurs in training (`alibi.retrieval.tasks.draw`).

Records have the task as `protocol`, the length of the window as `eval_length`, and the number of other pairs in a
window of `recall` as `distractors`. `exact_match` is the share of entirely right answers, `token_accuracy` the share of
right tokens; one of them is also recorded by the part of the window in which the answer stands, `first_position` to
`last_position`. `interpolation` names the kind that rescaled the slopes or angles of the same model. A `note` marks a
task that was not learned, with at most 0.95 of the answers at L right: there the method shows nothing past L.

Expectations are the claims A18 to A25 of `alibi.reproduction.later_rules`. ALiBi's slopes are the paper's, which are
gentle at 64 tokens; `alibi-x8` multiplies them by 8: its biases at 64 tokens equal the paper's at 512.

    python -m alibi reproduce retrieval --scale laptop --seeds 0-2
"""

from alibi.corpora.corpus import split_names
from alibi.positions import PAPER_METHODS
from alibi.reproduction.retrieval_cells import RetrievalCell
from alibi.retrieval.training import Budget

# Learned positions end at L.
METHODS = (
    *PAPER_METHODS[::-1], "none", "alibi-half", "alibi-x8", "forgetting", "window", "kerple", "sandwich", "fire",
    "xpos",
)  # fmt: skip
BUDGETS = {"quick": Budget(2000), "laptop": Budget(8000), "gpu": Budget(8000), "paper": Budget(8000)}


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[RetrievalCell]:
    """A model of each method and seed. The corpus is checked, but not read.

    Raises:
        InputError: for an unknown corpus.
    """
    if corpus is not None:
        split_names(corpus)
    return [RetrievalCell(method, scale, seed, BUDGETS[scale]) for seed in seeds for method in METHODS]
