"""FIRE (Li et al. 2024): a small network of the distance, as a share of the tokens that the query can look back on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alibi.errors import InputError
from alibi.positions.base import Bias, PositionMethod

HIDDEN = 32
INITIAL_C = 0.1
# The paper begins L' at 512 and trains at 2048.
INITIAL_SHARE = 1 / 4
# Keeps the quotient finite for the first token if c or L' is learned to be 0.
EPSILON = 1e-6
# Queries are taken in blocks beyond this number of hidden values: 16 MiB in float32. In training all blocks are kept.
UNITS_AT_ONCE = 2**22


@dataclass(frozen=True)
class FunctionBias(Bias):
    """bias[h, i, j] = f_h(log(|c| (i - j) + 1) / log(|c| max(i, |L'|) + 1)), f = W_2 relu(W_1 x + b_1)."""

    hidden: nn.Linear
    output: nn.Linear
    c: Tensor
    threshold: Tensor

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """[heads, T, S]; the gradient flows to the network, c and L'."""
        c = self.c.to(dtype).abs()
        distance_TS = (query_positions_T[:, None] - key_positions_S[None, :]).clamp(min=0).to(dtype)
        farthest_T1 = torch.maximum(query_positions_T.to(dtype), self.threshold.to(dtype).abs())[:, None]
        share_TS = torch.log1p(c * distance_TS) / (torch.log1p(c * farthest_T1) + EPSILON)
        rows = max(1, UNITS_AT_ONCE // (HIDDEN * key_positions_S.shape[0]))
        return torch.cat([self._network(part_TS) for part_TS in share_TS.split(rows)], dim=1)

    def _network(self, share_TS: Tensor) -> Tensor:
        layers = self.hidden.bias[:, None], self.hidden.weight, self.output.weight
        offsets_U1, weights_U1, weights_HU = (numbers.to(share_TS.dtype) for numbers in layers)
        # Hidden units in rows: on a CPU several times faster than in columns.
        units_UN = torch.addmm(offsets_U1, weights_U1, share_TS.reshape(1, -1)).relu()
        return (weights_HU @ units_UN).view(-1, *share_TS.shape)


class Fire(PositionMethod):
    """Adds f(psi(i - j) / psi(max(i, L'))) with psi(x) = log(c x + 1); f is a network with 32 hidden units and a ReLU.

    Distances are shares of the query's position, at least of L', so that inputs stay in [0, 1) in longer texts (Li et
    al. 2024, arXiv:2310.04418, section 3). c and L' are learned; the layers share everything. c begins at 0.1 and L' at
    a quarter of the training length. The output has no constant, because the softmax would cancel it.

    Raises:
        InputError: without a training length.
    """

    name = "fire"
    title = "FIRE"
    needs_longest = True

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads, longest)
        if longest < 1:
            raise InputError(f"longest={longest}: FIRE needs the training length, of which its threshold is a share")
        self.hidden, self.output = nn.Linear(1, HIDDEN), nn.Linear(HIDDEN, heads, bias=False)
        self.c = nn.Parameter(torch.tensor(INITIAL_C))
        # As a multiple of its first value: a step of Adam is as long for a number near 1 as for one near 100.
        self.multiple = nn.Parameter(torch.tensor(1.0))
        self.threshold = INITIAL_SHARE * longest

    def bias(self) -> FunctionBias:
        """The network with the current c and L'."""
        return FunctionBias(self.hidden, self.output, self.c, self.threshold * self.multiple)
