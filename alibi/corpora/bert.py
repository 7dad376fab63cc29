"""The vocabulary of the cased BERT, which the paper's BookCorpus models read."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from alibi.corpora.hub_errors import reason
from alibi.corpora.source import CorpusError

if TYPE_CHECKING:
    from alibi.corpora.vocabulary import WordPieceVocabulary

BERT_CASED = "google-bert/bert-base-cased"
BERT_CASED_SIZE = 28_996


def bert_vocabulary() -> "WordPieceVocabulary":
    """The vocabulary of the cased BERT, whose 28,996 word pieces are the paper's "29K" (p. 20).

    Raises:
        CorpusError: if it can't be had, or is another one.
    """
    from huggingface_hub import hf_hub_download

    from alibi.corpora.vocabulary import WordPieceVocabulary

    try:
        text = Path(hf_hub_download(BERT_CASED, "tokenizer.json")).read_text(encoding="utf-8")
        vocabulary = WordPieceVocabulary(text)
    except Exception as wrong:
        raise CorpusError(
            f"the vocabulary can't be read from {BERT_CASED}: {reason(wrong)}. It needs the network, or a copy made "
            "before (HF_HOME); another vocabulary is asked for by name, with --tokenisation bytes"
        ) from wrong
    if re.search(r'"lowercase"\s*:\s*true|"type"\s*:\s*"Lowercase"', text):
        raise CorpusError(f"the vocabulary of {BERT_CASED} is lower-cased; the paper's is the cased one")
    if vocabulary.size != BERT_CASED_SIZE:
        raise CorpusError(f"the vocabulary of {BERT_CASED} has {vocabulary.size:,} entries, not {BERT_CASED_SIZE:,}")
    return vocabulary
