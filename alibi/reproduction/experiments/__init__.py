"""The paper's experiments as data: one file a table or figure, each listing its training runs and evaluations."""

from collections.abc import Callable
from types import ModuleType

from alibi.reproduction.cells import Cell
from alibi.reproduction.experiments import bookcorpus, cc100_roberta, early_token_curse, efficiency, slopes, wikitext103

MODULES: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (wikitext103, bookcorpus, cc100_roberta, efficiency, early_token_curse, slopes)
}
EXPERIMENTS: dict[str, Callable[..., list[Cell]]] = {name: module.cells for name, module in MODULES.items()}
