"""The byte pairs of GPT-2: our vocabulary for the paper's models of 1.3B parameters, since the paper names none."""

from typing import TYPE_CHECKING

from alibi.corpora.hub_vocabulary import hub_vocabulary

if TYPE_CHECKING:
    from alibi.corpora.vocabulary import GPT2Vocabulary

GPT2 = "openai-community/gpt2"
GPT2_REVISION = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
GPT2_SIZE = 50_257


def gpt2_vocabulary() -> "GPT2Vocabulary":
    """The 50,257 byte pairs of GPT-2, with which RoBERTa's makers read this text too.

    Raises:
        CorpusError: if it can't be fetched, or a different vocabulary is there.
    """
    from alibi.corpora.vocabulary import GPT2Vocabulary

    return hub_vocabulary(GPT2Vocabulary, GPT2, GPT2_SIZE, revision=GPT2_REVISION)
