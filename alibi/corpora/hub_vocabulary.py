"""Vocabularies of models of the Hugging Face hub."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from alibi.corpora.hub_errors import reason
from alibi.corpora.source import CorpusError

if TYPE_CHECKING:
    from alibi.corpora.vocabulary import SubwordVocabulary

Kind = TypeVar("Kind", bound="SubwordVocabulary")


def hub_vocabulary(
    kind: type[Kind], repository: str, size: int, *, revision: str | None = None, another: str = ""
) -> Kind:
    """The vocabulary in a repository's `tokenizer.json`, fetched or from a copy in HF_HOME.

    Args:
        kind: class of the vocabulary.
        repository: repository of a model.
        size: required number of entries.
        revision: a commit; None takes the newest.
        another: advice on choosing another vocabulary, for error messages.

    Raises:
        CorpusError: if it can't be fetched or read, or has another number of entries.
    """
    from huggingface_hub import hf_hub_download

    where = f"{repository} at {revision}" if revision else repository
    try:
        file = hf_hub_download(repository, "tokenizer.json", revision=revision)
        vocabulary = kind(Path(file).read_text(encoding="utf-8"))
    except Exception as wrong:
        raise CorpusError(
            f"the vocabulary can't be read from {where}: {reason(wrong)}. It needs the network, or an earlier copy in "
            f"HF_HOME{another and f'; {another}'}"
        ) from wrong
    if vocabulary.size != size:
        raise CorpusError(f"the vocabulary of {repository} has {vocabulary.size:,} entries, not {size:,}")
    return vocabulary
