"""The forgetting transformer, FoX (Lin et al. 2025): each token decides how much the heads forget earlier tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alibi.positions.base import GateBias, PositionMethod

INITIAL_DEVIATION = 0.02


class ForgetGate(nn.Linear):
    """log f = log sigmoid(w_h . x + b_h) for each head h and token, from the layer's normalised input.

    Weights begin normal with standard deviation 0.02 and b at 0, as in the authors' code: each token then halves the
    attention weight of all tokens before it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        nn.init.normal_(self.weight, std=INITIAL_DEVIATION)
        nn.init.zeros_(self.bias)

    def forward(self, input_BTC: Tensor) -> Tensor:
        """[B, T, width] to [B, H, T], float32 or wider and below 0."""
        logits_BTH = super().forward(input_BTC)
        return F.logsigmoid(logits_BTH.to(torch.promote_types(logits_BTH.dtype, torch.float32))).transpose(1, 2)


class Forgetting(PositionMethod):
    """Adds c_i - c_j, where c_t is the sum of log f over tokens up to t (Lin et al. 2025, arXiv:2503.02130).

    The gates f are between 0 and 1 and come from the layer's input, see `ForgetGate`; every layer has its own. A
    constant gate f = exp(-m) is ALiBi with slope m. This is only the gate, without the other changes of the paper's
    "Pro" block, which do not concern positions.
    """

    name = "forgetting"
    title = "Forgetting (FoX)"

    def bias(self) -> GateBias:
        """No bias except the gates."""
        return GateBias()

    def gate(self) -> ForgetGate:
        """A new gate, for one layer."""
        return ForgetGate(self.width, self.heads)
