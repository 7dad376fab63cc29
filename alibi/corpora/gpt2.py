"""The vocabulary of GPT-2: our assumption for the text of the paper's models of 1.3B parameters, as it names none."""

from pathlib import Path
from typing import TYPE_CHECKING

from alibi.corpora.hub_errors import reason
from alibi.corpora.source import CorpusError

if TYPE_CHECKING:
    from alibi.corpora.vocabulary import GPT2Vocabulary

GPT2 = "openai-community/gpt2"
GPT2_REVISION = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
GPT2_SIZE = 50_257


def gpt2_vocabulary() -> "GPT2Vocabulary":
    """The 50,257 byte pairs of GPT-2, which RoBERTa's makers read this text with too.

    Raises:
        CorpusError: if it can't be had, or is another one.
    """
    from huggingface_hub import hf_hub_download

    from alibi.corpora.vocabulary import GPT2Vocabulary

    try:
        file = hf_hub_download(GPT2, "tokenizer.json", revision=GPT2_REVISION)
        vocabulary = GPT2Vocabulary(Path(file).read_text(encoding="utf-8"))
    except Exception as wrong:
        raise CorpusError(
            f"the vocabulary can't be read from {GPT2} at {GPT2_REVISION}: {reason(wrong)}. It needs the network, or a "
            "copy made before (HF_HOME)"
        ) from wrong
    if vocabulary.size != GPT2_SIZE:
        raise CorpusError(f"the vocabulary of {GPT2} has {vocabulary.size:,} entries, not {GPT2_SIZE:,}")
    return vocabulary
