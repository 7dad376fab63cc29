"""Other libraries' models of the same shape: with our process settings, and as installed.

"As installed" means their defaults, eager, in 16 bits by autocast, in a separate process that keeps Python's default
allocator and handling of subnormal numbers.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alibi.device import compute_dtype, computing, is_here
from alibi.errors import UserError
from alibi.interruption import Pool
from alibi.speed.shapes import Shape
from alibi.speed.timing import Step, seconds_of

# Environment variables that set up a process's allocator before it starts.
ALLOCATOR_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


class PeerError(UserError, RuntimeError):
    """Other libraries are not installed, or their process died."""


def _mpt(shape: Shape, tuned: bool) -> nn.Module:
    from transformers import MptConfig, MptForCausalLM

    config = MptConfig(
        d_model=shape.width,
        n_heads=shape.heads,
        n_layers=shape.layers,
        expansion_ratio=4,
        max_seq_len=shape.length,
        vocab_size=shape.vocabulary,
    )
    config.use_cache = not tuned
    return MptForCausalLM(config)


def _neox(shape: Shape, tuned: bool) -> nn.Module:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.feedforward,
        max_position_embeddings=shape.length,
        vocab_size=shape.vocabulary,
    )
    config.use_cache = not tuned
    return GPTNeoXForCausalLM(config)


def _x_transformers(**positions: Any) -> Callable[[Shape, bool], nn.Module]:
    def build(shape: Shape, tuned: bool) -> nn.Module:
        from x_transformers import Decoder, TransformerWrapper

        # Its fused attention is slower than its plain one on a CPU.
        fused = tuned and is_here("cuda")
        layers = Decoder(
            dim=shape.width,
            depth=shape.layers,
            heads=shape.heads,
            attn_dim_head=shape.width // shape.heads,
            attn_flash=fused,
            **positions,
        )
        return TransformerWrapper(
            num_tokens=shape.vocabulary,
            max_seq_len=shape.length,
            attn_layers=layers,
            tie_embedding=True,
            use_abs_pos_emb=not positions,
            scaled_sinu_pos_emb=not positions,
        )

    return build


@dataclass(frozen=True)
class Peer:
    """A model of another library."""

    library: str
    positions: str
    """Its position method: ALiBi, rotary or sinusoidal."""
    build: Callable[[Shape, bool], nn.Module]
    """Makes the model of a shape; True tunes it for training, False keeps the library's defaults."""

    @property
    def name(self) -> str:
        """The library and the position method, such as "transformers MPT ALiBi"."""
        return f"{self.library} {self.positions}"


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("transformers MPT", "ALiBi", _mpt),
        Peer("transformers GPT-NeoX", "rotary", _neox),
        Peer("x-transformers", "ALiBi", _x_transformers(alibi_pos_bias=True)),
        Peer("x-transformers", "rotary", _x_transformers(rotary_pos_emb=True)),
        Peer("x-transformers", "sinusoidal", _x_transformers()),
    )
}


def require_peers() -> None:
    """Checks that the other libraries are installed.

    Raises:
        PeerError: if one is missing; the message says how to install it.
    """
    try:
        import transformers
        import x_transformers  # noqa: F401

        del transformers
    except ImportError as missing:
        raise PeerError(f"peers are not installed ({missing}): pip install alibi-book[test]") from missing


def peer_steps(peer: str, shape: Shape, device: str, tuned: bool = True) -> dict[str, Step]:
    """Training steps of a peer by form, eager and compiled, on the same weights; the first compiled step compiles.

    Args:
        peer: a name of `PEERS`.
        shape: shape of the model and its batches.
        device: cpu, cuda or mps.
        tuned: leave out the cache that only generation needs, and take the faster of the library's attentions; False
            keeps the library's defaults.
    """
    torch.manual_seed(1)
    model = PEERS[peer].build(shape, tuned).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens_BT = torch.randint(shape.vocabulary, (shape.tokens // shape.length, shape.length + 1), device=device)
    dtype = compute_dtype(device)

    def loss_of(sources_BT: Tensor, targets_BT: Tensor) -> Tensor:
        found = model(sources_BT)
        logits_BTV: Tensor = found if isinstance(found, Tensor) else found.logits
        return nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())

    def stepping(loss_of: Callable[[Tensor, Tensor], Tensor]) -> Step:
        def step() -> None:
            with computing(device, dtype):
                loss = loss_of(tokens_BT[:, :-1], tokens_BT[:, 1:])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()

        return step

    return {"eager": stepping(loss_of), "compiled": stepping(torch.compile(loss_of, dynamic=False))}


# Steps of the peers as installed, in the process that holds them.
_steps_here: dict[str, Step] = {}


def _build_here(shape: Shape, device: str) -> None:
    _steps_here.clear()
    for peer in PEERS:
        _steps_here[peer] = peer_steps(peer, shape, device, tuned=False)["eager"]


def _step_here(peer: str, device: str) -> float:
    return seconds_of(_steps_here[peer], device)


class AsInstalled:
    """A process that holds every peer as installed, and makes training steps on demand."""

    def __init__(self, pool: Pool, device: str) -> None:
        self.pool, self.device = pool, device

    def build(self, shape: Shape) -> None:
        """Builds the peers of this shape; they replace the last ones."""
        self._ask(_build_here, shape, self.device)

    def step(self, peer: str) -> float:
        """Seconds of one training step, measured in that process."""
        return float(self._ask(_step_here, peer, self.device))

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self.pool.submit(function, *arguments).result()
        except BrokenProcessPool as died:
            raise PeerError("the process of the peers as installed died, perhaps for lack of memory") from died


@contextmanager
def as_installed(device: str) -> Iterator[AsInstalled]:
    """Starts the process without allocator settings in its environment, and always ends it with the block."""
    with Pool(1) as pool:
        taken = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(ALLOCATOR_SETTINGS)}
        try:
            # The process starts with the first task.
            pool.submit(torch.set_num_threads, torch.get_num_threads()).result()
        finally:
            os.environ.update(taken)
        yield AsInstalled(pool, device)
