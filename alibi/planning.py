"""Planning of a run before it is paid for: parameters, memory by part, time on a number of GPUs.

Memory is counted, not modelled: the run's own code takes two steps with torch's fake tensors, which have shapes and no
data, and the bytes of every tensor count while it lives. So any method, recipe, kernel and dtype is counted as its code
allocates, in seconds, on a machine that could not hold the run.

On a GPU, kernel baddbmm holds more than is counted: CUDA's autocast keeps its weights in float32 too. No GPU gets this
kernel unless it is asked for.
"""

import weakref
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from alibi.attention import Attend, Prepare, choose_kernel, sdpa
from alibi.configuration import TrainConfig, check_dealt
from alibi.device import computing, device_name, is_here, matmul_rate
from alibi.embedding import AdaptiveEmbedding
from alibi.errors import InputError
from alibi.model import Decoder, unmade
from alibi.optim import RECIPES
from alibi.positions import Bias, NoBias
from alibi.progress import duration, three_digits

# The share of the rate of large matrix products that runs of these sizes reach: a guess, only for estimates.
USUAL_SHARE = 0.4
# Floating point operations a second of dense products, from the makers' data sheets; float32 is not TF32.
CARDS = {
    "bfloat16": {"A100": 312e12, "H100": 989e12},
    "float32": {"V100": 15.7e12, "A100": 19.5e12, "H100": 67e12},
}
GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes that a process holds in a training step, by part; the parts do not all exist at once."""

    weights: int
    gradients: int
    optimiser: int
    """The optimiser's state, such as momentum."""
    activations: int
    """Tensors that one pass of `tokens_at_once` keeps for the backward pass, with 16-bit copies of weights."""
    logits: int
    """The most that the loss holds beside them, in both passes: mainly a chunk of logits with its gradient."""
    peak: int
    """The most bytes held at once."""


class _Held(TorchDispatchMode):
    """Adds up the bytes of tensors while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.most = self.most_of_loss = 0
        self._living: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        out = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._living:
            self._living.add(key)
            self.held += storage.nbytes()
            self.most, self.most_of_loss = max(self.most, self.held), max(self.most_of_loss, self.held)
            weakref.finalize(storage, self._release, key, storage.nbytes())

    def _release(self, key: int, size: int) -> None:
        self._living.discard(key)
        self.held -= size


def memory(config: TrainConfig, tokens: np.ndarray) -> Memory:
    """The memory of a training step in one process that has the whole model; the module's docstring says how it counts.

    The model is not compiled; a compiled one needs less. Fused CUDA kernels are counted as torch's fused attention for
    CPUs, which keeps the same tensors: outputs, and a number for each row of scores.

    Args:
        config: configuration of the run; its processes share the batch.
        tokens: tokens of its training text; their shares of the vocabulary's bands set the sizes in an adaptive
            softmax.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), _Held() as held:
        model = Decoder(config.model, config.kernel, config.activation_checkpointing).train()
        _plan(model, config, tokens)
        optimizer, _, clip = RECIPES[config.recipe](
            model, config.learning_rate, config.warmup_steps, config.steps, config.method_rate
        )
        weights = held.held
        with model.attention_by(stand_in) if (stand_in := _stand_in(model, config)) else nullcontext():
            _step(model, optimizer, clip, config, held)
            optimiser = held.held - weights
            held.most = held.held
            gradients, activations, logits = _step(model, optimizer, clip, config, held)
    return Memory(weights, gradients, optimiser, activations, logits, held.most)


def in_ddp(config: TrainConfig, alone: Memory) -> Memory:
    """The memory of one of several DDP processes, about.

    DDP's buckets hold all gradients for the whole step, and a gradient exists beside its bucket until it is copied. If
    a step takes several passes, torch adds up their gradients outside the buckets, so that gradients exist twice.

    Args:
        config: configuration of the run.
        alone: the result of `memory` for it.
    """
    *_, largest = _weight_bytes(config)
    second = alone.gradients * _takes_several_passes(config)
    parts = alone.weights + alone.gradients + alone.optimiser + alone.activations + alone.logits
    return replace(alone, gradients=alone.gradients + second, peak=max(alone.peak + largest, parts) + second)


def in_fsdp(config: TrainConfig, alone: Memory) -> Memory:
    """The memory of one of several FSDP processes, about; how long buffers live depends on the network's speed.

    Each process holds its part of weights, gradients and optimiser state. Beside them it has the weights and gradients
    outside the layers. Of the layers it has the weights of the current and the next one with the buffer that gathered
    them, and the gradients of one with the buffers that share out these and the last ones. At the end of a pass the
    gradients outside the layers go through two buffers, when those of the layers are mostly gone. A second pass adds
    its part of the gradients to that of the first.

    The backward pass frees activations as it makes gradients, so that memory peaks at its beginning or at its end.

    Args:
        config: configuration of the run.
        alone: the result of `memory` for it.
    """
    outside, layer, _ = _weight_bytes(config)
    own, several = alone.gradients // config.processes, _takes_several_passes(config)
    parts = replace(
        alone,
        weights=alone.weights // config.processes + outside + 3 * layer,
        gradients=own * (1 + several) + outside + max(3 * layer, 2 * outside - 2 * layer),
        optimiser=alone.optimiser // config.processes,
    )
    begun = parts.activations + parts.logits + own * several
    ended = parts.gradients + parts.activations // config.model.layers
    return replace(parts, peak=parts.weights + parts.optimiser + max(begun, ended))


def _weight_bytes(config: TrainConfig) -> tuple[int, int, int]:
    """Bytes of the weights outside the layers, of those of a layer, and of the largest matrix."""
    model = unmade(config.model)
    every, layer = ([4 * p.numel() for p in part.parameters()] for part in (model, model.layers[0]))
    return sum(every) - sum(layer) * config.model.layers, sum(layer), max(every)


def _rows(config: TrainConfig) -> int:
    return config.batch_tokens // config.train_length // config.processes


def _rows_at_once(config: TrainConfig) -> int:
    return config.tokens_at_once // config.train_length


def _takes_several_passes(config: TrainConfig) -> bool:
    return _rows(config) > _rows_at_once(config)


def _stand_in(model: Decoder, config: TrainConfig) -> Prepare | None:
    """An attention that keeps the same tensors as the run's and works with fake ones; None if the run's own does."""
    if model.kernel in ("flex", "window"):
        return lambda _, queries_T, keys_S, kernel, dropout, dtype: sdpa(NoBias(), queries_T, keys_S, 0.0, dtype)
    if model.kernel == "sdpa" and config.device == "cuda" and list(model.positions.parameters()):
        # The fused kernel of CUDA gives a mask its gradient, for which that of CPUs would store all scores.
        def masked(
            bias: Bias, queries_T: Tensor, keys_S: Tensor, kernel: str, dropout: float, dtype: torch.dtype
        ) -> Attend:
            with torch.no_grad():
                return sdpa(bias, queries_T, keys_S, 0.0, dtype)

        return masked
    return None


def _plan(model: Decoder, config: TrainConfig, tokens: np.ndarray) -> None:
    """Replaces the parts of a model that need data or the planned device, which fake tensors lack."""
    dropout = config.model.attention_dropout
    model.kernel = choose_kernel(config.device, config.train_length, True, model.bias(), config.kernel, dropout)
    if config.device == "cuda" and model.kernel in ("sdpa", "columns"):
        # Fused kernels draw dropout without a tensor; the one for CPUs has no dropout.
        model.config = replace(model.config, attention_dropout=0.0)
    if isinstance(embedding := model.embedding, AdaptiveEmbedding):
        below = np.append(0, np.histogram(tokens, embedding.edges)[0].cumsum()) / len(tokens)

        def places(tokens_N: Tensor, band: int) -> Tensor:
            # Differences of whole numbers, so that the bands' places add up to all tokens.
            first, last = (below[band : band + 2] * len(tokens_N)).round().astype(int)
            return torch.zeros(last - first, dtype=torch.long)

        embedding._places = places  # type: ignore[method-assign]


def _step(
    model: Decoder, optimizer: torch.optim.Optimizer, clip: float, config: TrainConfig, held: _Held
) -> tuple[int, int, int]:
    """Takes a step; returns the bytes of gradients, and the most bytes of activations and of logits in a pass."""
    rows, at_once = _rows(config), _rows_at_once(config)
    losses = model.embedding.negative_log_likelihood
    begun = activations = logits = 0

    def noted(hidden_NC: Tensor, *given: Any, **named: Any) -> Tensor:
        nonlocal activations
        before = held.most_of_loss = held.held
        activations = max(activations, before - begun)

        def way_back_has_left_the_loss(gradient_NC: Tensor) -> None:
            nonlocal logits
            logits = max(logits, held.most_of_loss - before)

        hidden_NC.register_hook(way_back_has_left_the_loss)
        return losses(hidden_NC, *given, **named)

    model.embedding.negative_log_likelihood = noted  # type: ignore[method-assign]
    # A third pass would hold what the second does.
    for first in range(0, min(rows, 2 * at_once), at_once):
        begun = held.held
        tokens_BT = torch.zeros(min(at_once, rows - first), config.train_length, dtype=torch.long)
        with computing("cpu", config.dtype):
            loss = model.negative_log_likelihood(tokens_BT, tokens_BT).sum() / (rows * config.train_length)
        loss.backward()
    del model.embedding.negative_log_likelihood
    # Some share a storage.
    storages = [p.grad.untyped_storage() for p in model.parameters() if p.grad is not None]
    gradients = sum({storage._cdata: storage.nbytes() for storage in storages}.values())
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return gradients, activations, logits


def report(config: TrainConfig, tokens: np.ndarray, gpus: int) -> str:
    """Parameters, memory by part, and time on this number of GPUs, as text.

    Args:
        config: of the run.
        tokens: tokens of its training text.
        gpus: processes, each with a GPU of its own; 1 on a CPU.

    Raises:
        InputError: for several GPUs if the run is not on cuda, or if a step's blocks can't be dealt evenly to them.
    """
    blocks = config.batch_tokens // config.train_length
    check_dealt(blocks, gpus)
    if gpus > 1 and config.device != "cuda":
        raise InputError(f"gpus={gpus}: the run is on device {config.device}; --device cuda or a larger scale has GPUs")
    config = replace(config, processes=gpus)
    model = unmade(config.model)
    flops, every = model.training_flops(config.train_length, tokens), config.steps * blocks * config.train_length
    # Checkpointing computes each forward pass, a third of the operations, twice.
    computed = flops * 4 / 3 if config.activation_checkpointing else flops
    lines = [
        f"{config.model.method}: {model.parameter_count():,} parameters, {flops / 1e6:,.1f} MFLOP a token, "
        f"{config.steps:,} steps of {blocks * config.train_length:,} tokens, {every:,} in all",
        "",
        f"{'GiB of each process':20}" + "".join(f"{part.name:>13}" for part in fields(Memory)),
    ]
    alone = memory(config, tokens)
    rows = {"1": alone}
    if gpus > 1:
        rows = {f"{gpus} with ddp": in_ddp(config, alone), f"{gpus} with fsdp": in_fsdp(config, alone)}
    for name, row in rows.items():
        lines.append(f"{name:20}" + "".join(f"{size / GIB:13.3f}" for size in asdict(row).values()))
    rates = dict(CARDS[config.dtype]) if config.device == "cuda" else {}
    if is_here(config.device):
        rates[device_name(config.device)] = matmul_rate(config.device, config.dtype)
    lines += ["", f"At {USUAL_SHARE:.0%} of the rate of matrix products (a guess, as is that more GPUs lose nothing):"]
    for name, rate in rates.items():
        a_gpu = USUAL_SHARE * rate / computed
        lines.append(
            f"{name}, {three_digits(rate / 1e12)} TFLOP/s: {gpus * a_gpu:,.0f} tokens/s with {gpus}, "
            f"{duration(every / a_gpu / gpus)}, {three_digits(every / a_gpu / 3600)} "
            f"{'GPU ' * (config.device == 'cuda')}hours"
        )
    return "\n".join(lines)
