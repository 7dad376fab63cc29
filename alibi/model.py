"""The decoder-only transformer of the paper: pre-norm, ReLU, biases everywhere, no norm after the last layer."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alibi.attention import Attend, causal_attention
from alibi.embedding import TiedEmbedding
from alibi.positions import position_method


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model; nothing in it depends on a length."""

    method: str
    """Position method: sinusoidal, rotary, t5 or alibi."""
    vocabulary_size: int
    """Entries of the vocabulary."""
    layers: int
    width: int
    """Width of the residual stream."""
    heads: int
    feedforward: int
    """Width inside the feedforward sublayer."""
    dropout: float = 0.0
    """Probability at which sublayer outputs and embeddings are dropped in training."""


class KeyValueCache:
    """Keys and values of the positions seen so far, a pair for each layer."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []

    @property
    def length(self) -> int:
        """Positions held."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def extend(self, layer: int, k_BHTD: Tensor, v_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Appends a layer's new keys and values and returns all of them."""
        if layer == len(self.layers):
            self.layers.append((k_BHTD, v_BHTD))
        else:
            k_BHSD, v_BHSD = self.layers[layer]
            self.layers[layer] = torch.cat([k_BHSD, k_BHTD], dim=2), torch.cat([v_BHSD, v_BHTD], dim=2)
        return self.layers[layer]


class Layer(nn.Module):
    """x += attention(norm(x)); x += W_2 relu(W_1 norm(x)): both sublayers normalise their input."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.attention_norm = nn.LayerNorm(config.width)
        self.queries_keys_values = nn.Linear(config.width, 3 * config.width)
        self.attention_output = nn.Linear(config.width, config.width)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.feedforward_in = nn.Linear(config.width, config.feedforward)
        self.feedforward_out = nn.Linear(config.feedforward, config.width)
        for linear in (self.queries_keys_values, self.attention_output, self.feedforward_in, self.feedforward_out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def split_heads(self, x_BTC: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values [B, H, T, D] of the normalised stream."""
        batch, length, width = x_BTC.shape
        qkv = self.queries_keys_values(self.attention_norm(x_BTC))
        return qkv.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind()

    def finish(self, x_BTC: Tensor, attended_BHTD: Tensor) -> Tensor:
        """The stream after both sublayers, given what attention found."""
        attended_BTC = attended_BHTD.transpose(1, 2).reshape(x_BTC.shape)
        x_BTC = x_BTC + F.dropout(self.attention_output(attended_BTC), self.dropout, self.training)
        inner = self.feedforward_in(self.feedforward_norm(x_BTC)).relu()
        return x_BTC + F.dropout(self.feedforward_out(inner), self.dropout, self.training)


class Decoder(nn.Module):
    """A causal language model that does not know which position method it holds.

    Args:
        config: the shape.
        kernel: attention kernel, by name or "automatic".

    Raises:
        ValueError: for an unknown position method, or a width that the heads do not divide.
    """

    def __init__(self, config: ModelConfig, kernel: str = "automatic") -> None:
        super().__init__()
        self.config, self.kernel = config, kernel
        self.embedding = TiedEmbedding(config.vocabulary_size, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        # Last, so that models of one seed share all other weights whatever their method draws.
        self.positions = position_method(config.method, config.width, config.heads)

    def forward(self, tokens_BT: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """The residual stream after the last layer, [B, T, width]; `embedding` turns it into probabilities.

        With a cache the tokens stand after those it holds, and their keys and values are appended to it.
        """
        start = 0 if cache is None else cache.length
        keys_S = torch.arange(start + tokens_BT.shape[1], device=tokens_BT.device)
        queries_T = keys_S[start:]
        attend = causal_attention(self.positions.bias(), queries_T, keys_S, self.kernel)
        x_BTC = self.embedding(tokens_BT)
        added = self.positions.embeddings(queries_T)
        if added is not None:
            x_BTC = x_BTC + added
        x_BTC = F.dropout(x_BTC, self.config.dropout, self.training)
        for number, layer in enumerate(self.layers):
            x_BTC = self._through(layer, number, x_BTC, queries_T, attend, cache)
        return x_BTC

    def _through(
        self,
        layer: nn.Module,
        number: int,
        x_BTC: Tensor,
        positions_T: Tensor,
        attend: Attend,
        cache: KeyValueCache | None,
    ) -> Tensor:
        assert isinstance(layer, Layer)
        q_BHTD, k_BHSD, v_BHSD = layer.split_heads(x_BTC)
        q_BHTD, k_BHSD = self.positions.turn(q_BHTD, positions_T), self.positions.turn(k_BHSD, positions_T)
        if cache is not None:
            k_BHSD, v_BHSD = cache.extend(number, k_BHSD, v_BHSD)
        return layer.finish(x_BTC, attend(q_BHTD, k_BHSD, v_BHSD))

    def negative_log_likelihood(self, sources_BT: Tensor, targets_BT: Tensor, context: int = 0) -> Tensor:
        """-ln p(target | sources so far) in nats, float32 [B, T - context]; the first `context` are not scored."""
        hidden_BTC, targets_BT = self(sources_BT)[:, context:], targets_BT[:, context:]
        losses_N = self.embedding.negative_log_likelihood(hidden_BTC.flatten(0, 1), targets_BT.flatten())
        return losses_N.view(targets_BT.shape)

    def parameter_count(self) -> int:
        """Learned numbers, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.no_grad()
    def generate(
        self, tokens_T: Tensor, new_tokens: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Continues a prompt by sampling, one token at a time from a key-value cache; any total length.

        Args:
            tokens_T: the prompt's token ids, at least one.
            new_tokens: how many to add.
            temperature: divides the logits; 0 takes the most probable token each time.
            generator: source of randomness, on the model's device.

        Returns:
            The prompt and the new tokens, [T + new_tokens].

        Raises:
            ValueError: if the prompt is empty or the temperature negative.
        """
        if tokens_T.numel() == 0 or temperature < 0:
            raise ValueError(
                f"generation needs a prompt of at least one token (got {tokens_T.numel()}) "
                f"and a temperature of at least 0 (got {temperature})"
            )
        cache, new_1T = KeyValueCache(), tokens_T[None]
        for _ in range(new_tokens):
            logits_V = self.embedding.logits(self(new_1T, cache)[0, -1]).float()
            if temperature == 0:
                token = logits_V.argmax(keepdim=True)
            else:
                token = torch.multinomial((logits_V / temperature).softmax(dim=-1), 1, generator=generator)
            new_1T = token[None]
            tokens_T = torch.cat([tokens_T, token])
        return tokens_T
