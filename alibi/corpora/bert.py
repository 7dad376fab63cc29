"""The vocabulary of the cased BERT, which the paper's BookCorpus models read."""

from typing import TYPE_CHECKING

from alibi.corpora.hub_vocabulary import hub_vocabulary
from alibi.corpora.source import CorpusError

if TYPE_CHECKING:
    from alibi.corpora.vocabulary import WordPieceVocabulary

BERT_CASED = "google-bert/bert-base-cased"
BERT_CASED_SIZE = 28_996


def bert_vocabulary() -> "WordPieceVocabulary":
    """The vocabulary of the cased BERT, whose 28,996 word pieces are the paper's "29K" (p. 20).

    Raises:
        CorpusError: if it can't be fetched, or a different vocabulary is there.
    """
    from alibi.corpora.vocabulary import WordPieceVocabulary

    another = "--tokenisation bytes chooses another vocabulary"
    vocabulary = hub_vocabulary(WordPieceVocabulary, BERT_CASED, BERT_CASED_SIZE, another=another)
    if vocabulary.lower_cases:
        raise CorpusError(f"the vocabulary of {BERT_CASED} is lower-cased; the paper's is the cased one")
    return vocabulary
