"""Who finds what stands far back? Passkey, associative recall and copying, learned from scratch at L = 64.

A flat perplexity says that nothing breaks past L, not that a distant token is used. Here a small model learns three
tasks at once on generated windows of 16 to 64 tokens (`alibi.retrieval.tasks`), and is asked in windows of 64 to 1,024.
No text is needed, and nothing is scaled down: L is 64, whatever the scale.

    scale    steps    a model takes about
    quick    TODO
    laptop
    gpu
    paper

Records have the task as `protocol`, the length of the window as `eval_length`, and as `distractors` the other pairs in
a window of `recall`. `exact_match` is the share of answers that are right in every token, `token_accuracy` that of
single tokens; both also by the part of the window in which the answer stands, `first_position` to `last_position`.
`interpolation` names what rescaled the slopes or angles of the same model.

    python -m alibi reproduce retrieval --scale laptop --seeds 0-2
"""

from alibi.corpora.corpus import split_names
from alibi.positions import PAPER_METHODS
from alibi.reproduction.retrieval_cells import RetrievalCell
from alibi.retrieval.training import Budget

# Learned positions have none past L.
METHODS = (
    *PAPER_METHODS[::-1], "none", "alibi-half", "alibi-x8", "forgetting", "window", "kerple", "sandwich", "fire",
    "xpos",
)  # fmt: skip
BUDGETS = {"quick": Budget(1500), "laptop": Budget(5000), "gpu": Budget(5000), "paper": Budget(5000)}


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[RetrievalCell]:
    """A model of each method and seed; the same whatever the corpus, of which nothing is read.

    Raises:
        ValueError: for an unknown corpus.
    """
    if corpus is not None:
        split_names(corpus)
    return [RetrievalCell(method, scale, seed, BUDGETS[scale]) for seed in seeds for method in METHODS]
