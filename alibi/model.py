"""The decoder-only transformer of the paper: pre-norm, ReLU, biases everywhere, no norm after the last layer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from alibi.attention import KERNELS, Attend, Prepare, causal_attention, gated
from alibi.embedding import AdaptiveEmbedding, TiedEmbedding
from alibi.errors import InputError, UnknownNameError
from alibi.positions import Bias, PositionMethod, position_method


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model; no field depends on the sequence length, except `longest`."""

    method: str
    """Position method, a name of `alibi.positions.METHODS`."""
    vocabulary_size: int
    """Entries of the vocabulary."""
    layers: int
    width: int
    """Width of the residual stream."""
    heads: int
    feedforward: int
    """Width inside the feedforward sublayer."""
    dropout: float = 0.0
    """Probability at which embeddings and the outputs of sublayers are dropped in training (the official code: 0.3)."""
    attention_dropout: float = 0.0
    """The same for attention weights (0.1)."""
    activation_dropout: float = 0.0
    """The same inside the feedforward sublayer, after the ReLU (0.1)."""
    softmax_dropout: float = 0.0
    """The same for the input of the adaptive softmax and of each of its bands (0.2)."""
    cutoffs: tuple[int, ...] = ()
    """First ids of the bands of adaptive input and softmax (20000, 60000); empty gives one plain tied matrix."""
    band_factor: int = 4
    """Factor by which each band's table is narrower than the previous one."""
    longest: int = 0
    """The training length, for a method that needs it: learned has a table of it, FIRE and windows a share of it."""
    decay_window: float | None = None
    """Nats of a linear bias that a head sees (`alibi.decay_window`); None sets no limit."""

    def __post_init__(self) -> None:
        # JSON returns it as a list.
        object.__setattr__(self, "cutoffs", tuple(self.cutoffs))

    def check(self) -> None:
        """Refuses sizes below 1 and what is no probability of dropping.

        Raises:
            InputError: for a size below 1, or a probability that is negative or not below 1.
        """
        for name in ("vocabulary_size", "layers", "width", "heads", "feedforward", "band_factor"):
            if (size := getattr(self, name)) < 1:
                raise InputError(f"{name}={size}: choose 1 or more")
        for name in ("dropout", "attention_dropout", "activation_dropout", "softmax_dropout"):
            if not 0 <= (share := getattr(self, name)) < 1:
                raise InputError(f"{name}={share}: choose a probability from 0 to below 1")


class KeyValueCache:
    """Keys and values of all earlier positions for each layer, and log gates if the layer has a gate."""

    def __init__(self) -> None:
        self.layers: list[list[Tensor]] = []

    @property
    def length(self) -> int:
        """Number of positions in the cache."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def check(self, layers: int, batch: int) -> None:
        """Refuses a pass of a model with another number of layers, or of another number of sequences.

        Raises:
            InputError: if the cache has keys and these are not its numbers.
        """
        if self.layers and (own := (len(self.layers), self.layers[0][0].shape[0])) != (layers, batch):
            raise InputError(
                f"a cache of {own[0]} layers and {own[1]} sequences in a pass of {layers} and {batch}: "
                "begin with an empty one"
            )

    def extend(self, layer: int, *new: Tensor) -> list[Tensor]:
        """Appends a layer's new keys, values and log gates, all with positions in their third dimension.

        Returns:
            The layer's earlier and new keys, values and log gates, in the order of `new`.
        """
        if layer == len(self.layers):
            self.layers.append(list(new))
        else:
            self.layers[layer] = [torch.cat(both, dim=2) for both in zip(self.layers[layer], new, strict=True)]
        return self.layers[layer]


class Layer(nn.Module):
    """x += attention(norm(x)); x += W_2 relu(W_1 norm(x)): both sublayers normalise their input.

    Weights begin as in fairseq: queries, keys and values uniform within sqrt(1.5 / width), the attention's output by
    Xavier's rule with a zero bias, the others as in `nn.Linear`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # Set by the decoder, if the position method has one.
        self.gate: nn.Module | None = None
        self.heads, self.dropout, self.activation_dropout = config.heads, config.dropout, config.activation_dropout
        self.attention_norm = nn.LayerNorm(config.width)
        self.queries_keys_values = nn.Linear(config.width, 3 * config.width)
        self.attention_output = nn.Linear(config.width, config.width)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.feedforward_in = nn.Linear(config.width, config.feedforward)
        self.feedforward_out = nn.Linear(config.feedforward, config.width)
        # Xavier's rule on the three stacked matrices gives fairseq's bound for each of them.
        nn.init.xavier_uniform_(self.queries_keys_values.weight)
        nn.init.xavier_uniform_(self.attention_output.weight)
        nn.init.zeros_(self.attention_output.bias)

    def forward(self, x_BTC: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        """The residual stream after both sublayers.

        `attend` maps queries, keys, values, and log gates if the layer has a gate, to attended values.
        """
        batch, length, width = x_BTC.shape
        input_BTC = self.attention_norm(x_BTC)
        qkv = self.queries_keys_values(input_BTC)
        q_k_v = qkv.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind()
        gates = () if self.gate is None else (self.gate(input_BTC),)
        attended_BTC = attend(*q_k_v, *gates).transpose(1, 2).reshape(x_BTC.shape)
        x_BTC = x_BTC + F.dropout(self.attention_output(attended_BTC), self.dropout, self.training)
        inner = self.feedforward_in(self.feedforward_norm(x_BTC)).relu()
        inner = F.dropout(inner, self.activation_dropout, self.training)
        return x_BTC + F.dropout(self.feedforward_out(inner), self.dropout, self.training)


def _check_tokens(tokens_BT: Tensor) -> None:
    if tokens_BT.dim() != 2 or not tokens_BT.numel():
        raise InputError(
            f"tokens of shape {list(tokens_BT.shape)}: a pass needs at least one sequence of one token, "
            "[sequences, tokens]"
        )
    if tokens_BT.dtype not in (torch.int64, torch.int32):
        raise InputError(f"tokens of dtype {tokens_BT.dtype}: ids are torch.int64 or torch.int32")


def _compute_lost(model: "Decoder", keys: object) -> None:
    """The position method can't know the device of weights that were assigned to a model made on `meta`."""
    model.positions.compute_lost(model.device)


class Decoder(nn.Module):
    """A causal language model with any position method.

    Args:
        config: the shape.
        kernel: attention kernel, by name or "automatic". `torch.func.vmap` can map a model with reference, sdpa or
            columns and no `cutoffs`, and no other.
        activation_checkpointing: keep only each layer's input in training, and compute the rest again in the backward
            pass; not in a pass with a cache, which keeps its keys and values.

    Raises:
        InputError: as `ModelConfig.check`, for an unknown position method or kernel (the message lists the known ones),
            a width that the heads do not divide or the method can't use, no `longest` for a method that needs it,
            cutoffs that do not rise inside the vocabulary, or a decay window that is not positive or does not fit the
            method's bias.
    """

    def __init__(self, config: ModelConfig, kernel: str = "automatic", activation_checkpointing: bool = False) -> None:
        super().__init__()
        config.check()
        if kernel not in (known := ["automatic", *KERNELS]):
            raise UnknownNameError("attention kernel", kernel, known)
        self.config, self.kernel, self.activation_checkpointing = config, kernel, activation_checkpointing
        self.embedding: TiedEmbedding | AdaptiveEmbedding
        if config.cutoffs:
            self.embedding = AdaptiveEmbedding(
                config.vocabulary_size, config.width, config.cutoffs, config.band_factor, config.softmax_dropout
            )
        else:
            self.embedding = TiedEmbedding(config.vocabulary_size, config.width)
        layers = [Layer(config) for _ in range(config.layers)]
        self.layers = nn.ModuleList(layers)
        # Last, so that a method that draws random numbers changes no other weight of the same seed.
        self.positions = position_method(config.method, config.width, config.heads, config.longest)
        for layer in layers:
            layer.gate = self.positions.gate()
        self.bias()  # Refuses a wrong decay window before any training.
        self._prepare_attention: Prepare = causal_attention
        self.register_load_state_dict_post_hook(_compute_lost)

    def bias(self) -> Bias:
        """The position method's bias of the scores, within the decay window if the model has one."""
        bias = self.positions.bias()
        return bias if self.config.decay_window is None else bias.within(self.config.decay_window)

    @contextmanager
    def attention_by(self, prepare: Prepare) -> Iterator[None]:
        """In this block passes get their attention from `prepare`, which may change or record it."""
        before, self._prepare_attention = self._prepare_attention, prepare
        try:
            yield
        finally:
            self._prepare_attention = before

    @contextmanager
    def positions_by(self, positions: PositionMethod) -> Iterator[None]:
        """In this block passes use another position method, such as the model's own interpolated.

        Raises:
            InputError: if the method is for another width or number of heads, or if either of the two has gates, which
                belong to the layers.
        """
        own, other = ((m.width, m.heads, m.bias().gated) for m in (self.positions, positions))
        if own != other:
            raise InputError(
                f"positions of {positions.name} (width, heads, gates: {other}) in a model of {own}: they must agree"
            )
        before, self.positions = self.positions, positions
        try:
            yield
        finally:
            self.positions = before

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return next(self.parameters()).dtype

    def _check_length(self, length: int) -> None:
        """Refuses a length that the method can't answer for, in the dtype in which layers get queries and keys."""
        of, dtype = self.device.type, self.dtype
        # Autocast leaves float64 as it is.
        if dtype is not torch.float64 and torch.amp.is_autocast_available(of) and torch.is_autocast_enabled(of):
            dtype = torch.get_autocast_dtype(of)
        self.positions.check_length(length, dtype)

    def forward(self, tokens_BT: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """The residual stream after the last layer, [B, T, width]; `embedding` turns it into probabilities.

        With a cache the tokens continue the cached ones, and their keys and values are appended to it.

        Raises:
            InputError: if there is no token, the tokens are not [B, T] or no integers, the method has no position for
                the last one, or the cache is that of another model or batch; the cache stays as it was.
        """
        _check_tokens(tokens_BT)
        if cache is not None:
            cache.check(len(self.layers), tokens_BT.shape[0])
        start = 0 if cache is None else cache.length
        self._check_length(start + tokens_BT.shape[1])
        keys_S = torch.arange(start + tokens_BT.shape[1], device=tokens_BT.device)
        queries_T = keys_S[start:]
        x_BTC = self.embedding(tokens_BT)
        added = self.positions.embeddings(queries_T)
        if added is not None:
            x_BTC = x_BTC + added.to(x_BTC.dtype)
        x_BTC = F.dropout(x_BTC, self.config.dropout, self.training)
        attend = self._prepare_attention(
            self.bias(),
            queries_T,
            keys_S,
            self.kernel,
            self.config.attention_dropout if self.training else 0.0,
            torch.promote_types(x_BTC.dtype, torch.float32),
        )
        for number, layer in enumerate(self.layers):
            placed = self._placed(attend, queries_T, keys_S, number, cache)
            # Computed again, a layer would extend the cache again.
            if self.activation_checkpointing and self.training and cache is None:
                x_BTC = checkpoint(layer, x_BTC, placed, use_reentrant=False)
            else:
                x_BTC = layer(x_BTC, placed)
        return x_BTC

    def _placed(
        self, attend: Attend, queries_T: Tensor, keys_S: Tensor, number: int, cache: KeyValueCache | None
    ) -> Callable[..., Tensor]:
        def attend_in_place(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, *gates_BHT: Tensor) -> Tensor:
            q_BHTD, k_BHTD = self.positions.rotate(q_BHTD, queries_T), self.positions.rotate(k_BHTD, queries_T)
            kept = [k_BHTD, v_BHTD, *gates_BHT]
            if cache is not None:
                kept = cache.extend(number, *kept)
            k_BHSD, v_BHSD, *gates_BHS = kept
            q_BHTD, k_BHSD = self.positions.scale(q_BHTD, k_BHSD, queries_T, keys_S)
            if gates_BHS:
                return gated(attend, q_BHTD, k_BHSD, v_BHSD, gates_BHS[0])
            return attend(q_BHTD, k_BHSD, v_BHSD)

        return attend_in_place

    def negative_log_likelihood(
        self, sources_BT: Tensor, targets_BT: Tensor, context: int = 0, official_tail_gap: bool = False
    ) -> Tensor:
        """-ln p(target | sources up to it) in nats, float32 or wider, [B, T - context].

        Args:
            sources_BT: token ids.
            targets_BT: the token that follows each source.
            context: number of tokens at the start that are read and not scored.
            official_tail_gap: see `AdaptiveEmbedding.negative_log_likelihood`.

        Raises:
            InputError: as in a pass, if sources and targets differ in shape, or if the context is negative or leaves no
                token to score.
        """
        _check_tokens(sources_BT)
        if targets_BT.shape != sources_BT.shape:
            raise InputError(
                f"targets of shape {list(targets_BT.shape)}: give one for each source, {list(sources_BT.shape)}"
            )
        _check_tokens(targets_BT)
        length = sources_BT.shape[1]
        if not 0 <= context < length:
            raise InputError(f"context={context}: choose 0 to {length - 1}, fewer than the {length} tokens")
        hidden_NC = self(sources_BT)[:, context:].flatten(0, 1)
        targets_BT = targets_BT[:, context:]
        losses_N = self.embedding.negative_log_likelihood(hidden_NC, targets_BT.flatten().long(), official_tail_gap)
        return losses_N.view(targets_BT.shape)

    def parameter_count(self) -> int:
        """Number of learned values; tied ones count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def training_flops(self, length: int, tokens: np.ndarray | None = None) -> float:
        """Floating point operations for each token of a training step: 6 N + 12 layers width length.

        N counts the weights that multiply a token: the layers' matrices and the output matrix, with an adaptive softmax
        as `AdaptiveEmbedding.weights_of_a_token` says. Attention counts in full, as usual, though half of it is masked.

        Args:
            length: tokens of a sequence.
            tokens: the training text, of which some words are in later bands; None counts none of these.
        """
        matrices = sum(p.numel() for p in self.layers.parameters() if p.dim() == 2)
        output = self.embedding.weights_of_a_token(tokens)
        return 6.0 * (matrices + output) + 12.0 * self.config.layers * self.config.width * length

    @torch.no_grad()
    def generate(
        self, tokens_T: Tensor, new_tokens: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Continues a prompt by sampling, one token at a time from a key-value cache; any total length.

        The model is put into evaluation mode, so that nothing is dropped.

        Args:
            tokens_T: the prompt's token ids, at least one.
            new_tokens: number of tokens to add.
            temperature: divides the log-probabilities; 0 takes the most probable token each time.
            generator: source of randomness, on the model's device.

        Returns:
            The prompt and the new tokens, [T + new_tokens].

        Raises:
            InputError: if the prompt is empty or has two dimensions, the number of tokens or the temperature is
                negative, or the method has no position for the last token.
        """
        if tokens_T.dim() != 1 or tokens_T.numel() == 0 or new_tokens < 0 or not temperature >= 0:
            raise InputError(
                f"generation needs a prompt of at least one token (got shape {list(tokens_T.shape)}), at least 0 new "
                f"tokens (got {new_tokens}) and a temperature of at least 0 (got {temperature})"
            )
        if new_tokens:  # The last token is drawn and not read.
            self._check_length(tokens_T.numel() + new_tokens - 1)
        self.eval()
        cache, new_1T = KeyValueCache(), tokens_T[None]
        for _ in range(new_tokens):
            scores_V = self.embedding.log_probabilities(self(new_1T, cache)[:, -1])[0]
            if temperature == 0:
                token = scores_V.argmax(keepdim=True)
            else:
                # The largest score becomes 0, so that no temperature above 0, however low, makes all of them infinite.
                scores_V = (scores_V - scores_V.max()) / max(temperature, torch.finfo(scores_V.dtype).tiny)
                token = torch.multinomial(scores_V.softmax(dim=-1), 1, generator=generator)
            new_1T = token[None]
            tokens_T = torch.cat([tokens_T, token])
        return tokens_T


@cache
def unmade(config: ModelConfig) -> Decoder:
    """The model without memory for its weights, for counts of parameters and operations; made once, to be read only."""
    with torch.device("meta"):
        return Decoder(config)
