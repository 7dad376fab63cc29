"""Token embedding and softmax over the vocabulary, with tied weights: plain, and adaptive as in the paper.

Logits are computed in chunks of bounded size. In training the backward pass computes a chunk again instead of keeping
it, so that memory does not grow with tokens x vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from alibi.errors import InputError

# Logits in a chunk, 64 MiB in float32: 4096 tokens of a vocabulary of 4096, or 838 of the paper's most frequent band.
LOGITS_AT_A_TIME = 2**24
# torch leaves one id out of every loss, -100 if not told otherwise: this one is nobody's target.
LEFT_OUT = -(2**62)
# The rows of a band are filled up to a multiple of it, so that large tensors come in few sizes, whatever words a batch
# holds: the allocator then finds its blocks again. With new sizes at each step, one at scale laptop took 1 to 2 %
# longer, and 3 to 5 % with memory in huge pages.
ROWS_OF_A_BAND = 32
# Tokens of a text, evenly spread, by which shares of bands are counted: a text may be larger than memory.
COUNTED = 2**20


def cross_entropy_in_chunks(
    logits: Callable[[Tensor], Tensor], hidden_NC: Tensor, classes_N: Tensor, columns: int
) -> Tensor:
    """-ln softmax(logits(hidden))[class] of each row, [N], float32 or wider.

    Args:
        logits: gives the scores of all classes, [n, columns], for rows [n, width].
        hidden_NC: rows.
        classes_N: the class of each row.
        columns: number of classes; with more classes a chunk has fewer rows.

    Raises:
        IndexError: on a CPU, for a class that is not among them; a GPU asserts it.
    """

    def loss(hidden_nC: Tensor, classes_n: Tensor) -> Tensor:
        scores_nV = logits(hidden_nC)
        scores_nV = scores_nV.to(torch.promote_types(scores_nV.dtype, torch.float32))
        return F.cross_entropy(scores_nV, classes_n, ignore_index=LEFT_OUT, reduction="none")

    rows = max(1, LOGITS_AT_A_TIME // columns)
    if hidden_NC.shape[0] <= rows:
        return loss(hidden_NC, classes_N)
    chunks = zip(hidden_NC.split(rows), classes_N.split(rows), strict=True)
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(loss, h, c, use_reentrant=False) for h, c in chunks])
    return torch.cat([loss(h, c) for h, c in chunks])


class TiedEmbedding(nn.Module):
    """One matrix that embeds tokens and scores them: the plain form, for small vocabularies (BookCorpus, p. 20).

    The input embeddings are scaled by sqrt(width), the output is not; weights begin with standard deviation
    1 / sqrt(width), as in fairseq.
    """

    def __init__(self, vocabulary_size: int, width: int) -> None:
        super().__init__()
        self.vocabulary_size, self.width = vocabulary_size, width
        self.weight_VC = nn.Parameter(torch.randn(vocabulary_size, width) * width**-0.5)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Embeddings [B, T, width] of token ids."""
        return math.sqrt(self.width) * F.embedding(tokens_BT, self.weight_VC)

    def _logits(self, hidden_NC: Tensor) -> Tensor:
        return F.linear(hidden_NC, self.weight_VC)

    def weights_of_a_token(self, tokens: np.ndarray | None = None) -> float:
        """Number of output weights that multiply a token, the same for all."""
        return self.weight_VC.numel()

    def log_probabilities(self, hidden_NC: Tensor) -> Tensor:
        """ln p of every entry of the vocabulary, [N, vocabulary], float32 or wider."""
        logits_NV = self._logits(hidden_NC)
        return logits_NV.log_softmax(dim=-1, dtype=torch.promote_types(logits_NV.dtype, torch.float32))

    def negative_log_likelihood(self, hidden_NC: Tensor, targets_N: Tensor, official_tail_gap: bool = False) -> Tensor:
        """-ln p(target) of each token in nats, float32 or wider, [N]; without bands there is no tail gap.

        Raises:
            IndexError: as `cross_entropy_in_chunks`, for an id outside the vocabulary.
        """
        return cross_entropy_in_chunks(self._logits, hidden_NC, targets_N, self.vocabulary_size)


class AdaptiveEmbedding(nn.Module):
    """Adaptive input and adaptive softmax with tied weights (Baevski & Auli 2019): rare words get shorter vectors.

    The vocabulary, most frequent first, is cut into bands [c_b, c_{b+1}). Band b has a table E_b of width
    floor(width / factor^b) and a projection P_b:

        in:   x = sqrt(width) * P_b E_b[id - c_b]
        out:  ln p(w) = ln softmax([E_0 h ; K h])[w]                                       for w in band 0,
              ln p(w) = ln softmax([E_0 h ; K h])[c_1 + b - 1] + ln softmax(E_b P_b^T h)[w - c_b]   in band b >= 1,

    with one row of K for each band after the first. P_0 acts only on the input. Input and output share tables and
    projections; K belongs to the softmax.

    Args:
        vocabulary_size: entries, all bands together.
        width: of the residual stream.
        cutoffs: first ids of the bands after the first, rising (the paper: 20000, 60000).
        factor: factor by which each band's table is narrower than the previous one.
        dropout: probability of dropping elements of h before the softmax, and of P_b^T h (0.2 in the official code).

    Raises:
        InputError: if the cutoffs do not rise inside the vocabulary, the factor is below 1, or a band gets no column.
    """

    def __init__(
        self, vocabulary_size: int, width: int, cutoffs: Sequence[int], factor: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        edges = [0, *cutoffs, vocabulary_size]
        bands = list(pairwise(edges))
        if not cutoffs or any(low >= high for low, high in bands):
            raise InputError(f"cutoffs={tuple(cutoffs)}: they must rise between 0 and the {vocabulary_size} entries")
        if factor < 1:
            raise InputError(f"factor={factor}: a band is as wide as the previous one (1) or narrower")
        widths = [width // factor**band for band in range(len(cutoffs) + 1)]
        if not widths[-1]:
            raise InputError(
                f"width={width}: the last band gets less than one column, width / {factor}^{len(cutoffs)}; choose a "
                "larger width"
            )
        self.vocabulary_size, self.width, self.edges, self.dropout = vocabulary_size, width, edges, dropout
        self.tables = nn.ParameterList(
            torch.randn(high - low, narrow) * narrow**-0.5 for (low, high), narrow in zip(bands, widths, strict=True)
        )
        self.projections = nn.ParameterList(nn.init.xavier_uniform_(torch.empty(width, narrow)) for narrow in widths)
        self.classes_KC = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(cutoffs), width)))
        with torch.no_grad():
            for table in self.tables:
                # The official code means to clear the padding, id 1, and so clears word c_b + 1 of every band.
                table[1:2] = 0

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Embeddings [B, T, width] of token ids.

        Raises:
            IndexError: for an id outside the vocabulary.
        """
        tokens_N = tokens_BT.flatten()
        places = [self._places(tokens_N, band) for band in range(len(self.tables))]
        if outside := len(tokens_N) - sum(map(len, places)):
            raise IndexError(f"{outside} token ids are outside the {self.vocabulary_size} entries")
        # Most words are of the first band. It embeds a word in all places; rarer words then take theirs.
        first_N = tokens_N * (tokens_N < self.edges[1])
        out_NC = F.linear(F.embedding(first_N, self.tables[0]), self.projections[0])
        # Autocast computes in 16 bits; what the layers add to stays in the dtype of the weights.
        out_NC = out_NC.to(self.tables[0].dtype)
        for band in range(1, len(self.tables)):
            rows_n = F.embedding(tokens_N[places[band]] - self.edges[band], self.tables[band])
            embedded_nC = F.linear(rows_n, self.projections[band])
            out_NC = out_NC.index_copy(0, places[band], embedded_nC.to(out_NC.dtype))
        return math.sqrt(self.width) * out_NC.view(*tokens_BT.shape, self.width)

    def _places(self, tokens_N: Tensor, band: int) -> Tensor:
        return ((tokens_N >= self.edges[band]) & (tokens_N < self.edges[band + 1])).nonzero().squeeze(1)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def _head_logits(self) -> Callable[[Tensor], Tensor]:
        head_VC = torch.cat([self.tables[0], self.classes_KC])
        return lambda hidden_NC: F.linear(hidden_NC, head_VC)

    def _band_logits(self, band: int) -> Callable[[Tensor], Tensor]:
        return lambda hidden_NC: F.linear(self._drop(hidden_NC @ self.projections[band]), self.tables[band])

    def weights_of_a_token(self, tokens: np.ndarray | None = None) -> float:
        """Mean number of output weights that multiply one of these tokens, or without tokens one of the first band.

        A token of another band needs the weights of the first band, and those of its own. Of a long text about
        `COUNTED` tokens are counted.
        """
        weights = float(self.tables[0].numel() + self.classes_KC.numel())
        if tokens is not None:
            tokens = tokens[:: 1 + len(tokens) // COUNTED]
            for band in range(1, len(self.tables)):
                places = (tokens >= self.edges[band]) & (tokens < self.edges[band + 1])
                own = self.tables[band].numel() + self.projections[band].numel()
                weights += own * np.count_nonzero(places) / len(tokens)
        return weights

    def log_probabilities(self, hidden_NC: Tensor) -> Tensor:
        """ln p of every entry of the vocabulary, [N, vocabulary], float32 or wider."""
        wide = torch.promote_types(hidden_NC.dtype, torch.float32)
        head_NV = self._head_logits()(hidden_NC).log_softmax(dim=-1, dtype=wide)
        parts = [head_NV[:, : self.edges[1]]]
        for band in range(1, len(self.tables)):
            inside_NV = self._band_logits(band)(hidden_NC).log_softmax(dim=-1, dtype=wide)
            parts.append(head_NV[:, self.edges[1] + band - 1, None] + inside_NV)
        return torch.cat(parts, dim=1)

    def negative_log_likelihood(self, hidden_NC: Tensor, targets_N: Tensor, official_tail_gap: bool = False) -> Tensor:
        """-ln p(target) of each token in nats, float32 or wider, [N].

        Args:
            hidden_NC: residual stream after the last layer.
            targets_N: token ids.
            official_tail_gap: leave out the term inside the band for the word c_b + 1 of each band b >= 1, as the
                official training criterion does: it takes that word for padding. The official evaluation keeps the
                term. Only for comparisons with official training.

        Raises:
            IndexError: as `cross_entropy_in_chunks`, for an id outside the vocabulary.
        """
        hidden_NC = self._drop(hidden_NC)
        classes_N, terms = targets_N, []
        for band in range(1, len(self.tables)):
            places_n = self._places(targets_N, band)
            classes_N = classes_N.index_fill(0, places_n, self.edges[1] + band - 1)
            inside_n = targets_N[places_n] - self.edges[band]
            if official_tail_gap:
                places_n, inside_n = places_n[inside_n != 1], inside_n[inside_n != 1]
            columns = len(self.tables[band])
            # Filled rows would draw dropout too, and a run that an older version began would not end as it did.
            missing = 0 if self.training and self.dropout else -len(places_n) % ROWS_OF_A_BAND
            places_n, inside_n = F.pad(places_n, (0, missing)), F.pad(inside_n, (0, missing), value=LEFT_OUT)
            terms.append(
                (places_n, cross_entropy_in_chunks(self._band_logits(band), hidden_NC[places_n], inside_n, columns))
            )
        columns = self.edges[1] + len(self.classes_KC)
        losses_N = cross_entropy_in_chunks(self._head_logits(), hidden_NC, classes_N, columns)
        for places_n, loss_n in terms:
            losses_N = losses_N.index_add(0, places_n, loss_n)
        return losses_N
