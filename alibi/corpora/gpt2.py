"""The byte pairs of GPT-2, taken for the paper's models of 1.3B parameters, whose vocabulary it does not name."""

from typing import TYPE_CHECKING

from alibi.corpora.hub_vocabulary import hub_vocabulary

if TYPE_CHECKING:
    from alibi.corpora.vocabulary import GPT2Vocabulary

GPT2 = "openai-community/gpt2"
GPT2_REVISION = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
GPT2_SIZE = 50_257


def gpt2_vocabulary() -> "GPT2Vocabulary":
    """The 50,257 byte pairs of GPT-2, which RoBERTa's makers read this text with too.

    Raises:
        CorpusError: if it can't be fetched, or is another one.
    """
    from alibi.corpora.vocabulary import GPT2Vocabulary

    return hub_vocabulary(GPT2Vocabulary, GPT2, GPT2_SIZE, revision=GPT2_REVISION)
