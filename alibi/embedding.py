"""The token embedding and the softmax over the vocabulary, with tied weights."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Logits of this many tokens exist at a time while evaluating: 4096 x 4096 float32 are 64 MiB.
TOKENS_AT_A_TIME = 4096


class TiedEmbedding(nn.Module):
    """One matrix that embeds tokens and scores them: the plain form, for small vocabularies (BookCorpus, p. 20).

    Embeddings are scaled by sqrt(width) on the way in, not on the way out; initialised with standard deviation
    1 / sqrt(width), as in fairseq.
    """

    def __init__(self, vocabulary_size: int, width: int) -> None:
        super().__init__()
        self.vocabulary_size, self.width = vocabulary_size, width
        self.weight_VC = nn.Parameter(torch.randn(vocabulary_size, width) * width**-0.5)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Embeddings [B, T, width] of token ids."""
        return math.sqrt(self.width) * F.embedding(tokens_BT, self.weight_VC)

    def logits(self, hidden_NC: Tensor) -> Tensor:
        """Unnormalised scores of the whole vocabulary, [N, vocabulary], in the computing dtype."""
        return F.linear(hidden_NC, self.weight_VC)

    def negative_log_likelihood(self, hidden_NC: Tensor, targets_N: Tensor) -> Tensor:
        """-ln p(target) of each token in nats, float32 [N]; logits exist for a chunk of the tokens at a time."""
        chunks = zip(hidden_NC.split(TOKENS_AT_A_TIME), targets_N.split(TOKENS_AT_A_TIME), strict=True)
        losses = [F.cross_entropy(self.logits(h).float(), t, reduction="none") for h, t in chunks]
        return torch.cat(losses)
