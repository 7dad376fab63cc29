"""xPos (Sun et al. 2022): rotary embeddings whose pairs also decay with the distance, each at its own rate."""

import torch
from torch import Tensor

from alibi.device import float64_device
from alibi.errors import InputError
from alibi.positions.rotary import Rotary

SCALE_BASE = 512
OFFSET = 0.4
# Between the ends of a longer pass the product of two factors leaves the range of float32 and bfloat16:
# (0.4 / 1.4)^(-32768 / 512) is 7e34.
LONGEST_PASS = 32_768
# In float16 each factor leaves room for queries and keys of some hundreds: (0.4 / 1.4)^(-2048 / 512) is 150.
LONGEST_PASS_FLOAT16 = 4_096


class XPos(Rotary):
    """Rotates as rotary does, then multiplies pair k by zeta_k^i in a query at i, and by zeta_k^-j in a key at j.

    Their product has zeta_k^(i - j) with zeta_k = ((2k / D + 0.4) / 1.4)^(1 / 512) for head width D, so that pairs that
    turn fast also fade fast (Sun et al. 2022, arXiv:2212.10554, section 3; constants as in the authors' code). Only
    i - j matters. The exponents count from the middle of the keys, which keeps the factors of a pass closest to 1.
    """

    name = "xpos"
    title = "xPos"

    def check_length(self, length: int, dtype: torch.dtype = torch.float32) -> None:
        """Refuses a pass whose factors the dtype can't hold.

        Raises:
            InputError: for more than 32,768 positions, in float16 for more than 4,096.
        """
        fitting = LONGEST_PASS_FLOAT16 if dtype is torch.float16 else LONGEST_PASS
        if length > fitting:
            raise InputError(f"{length} positions: the factors of xPos fit {fitting}; choose shorter windows")

    def scale(
        self, q_BHTD: Tensor, k_BHSD: Tensor, query_positions_T: Tensor, key_positions_S: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Rotated queries and keys, scaled.

        Raises:
            InputError: as `check_length`.
        """
        self.check_length(key_positions_S.shape[0], q_BHTD.dtype)
        middle = (key_positions_S[0] + key_positions_S[-1] + 1) // 2
        return self._scaled(q_BHTD, query_positions_T - middle), self._scaled(k_BHSD, middle - key_positions_S)

    def _scaled(self, heads_BHTD: Tensor, exponents_T: Tensor) -> Tensor:
        computes = float64_device(heads_BHTD.device)
        k_2 = torch.arange(0, self.head_width, 2, dtype=torch.float64, device=computes)
        zeta_K = (k_2 / self.head_width + OFFSET) / (1 + OFFSET)
        factors_TK = zeta_K ** (exponents_T.to(computes)[:, None] / SCALE_BASE)
        wide = torch.promote_types(heads_BHTD.dtype, torch.float32)
        # Rotated vectors have all first halves of the pairs, then all second halves.
        factors_TD = factors_TK.repeat(1, 2).to(wide).to(heads_BHTD.device)
        return (heads_BHTD * factors_TD).to(heads_BHTD.dtype)
