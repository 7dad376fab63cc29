"""A folder of vectors from the official code: its files, and the model with its weights.

`config.json` has shape, dictionary and flags, `weights.safetensors` the official state dict; the other files hold the
official code's results for them. Any shape and any number of heads will do.
"""

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from alibi.corpora.corpus import Split
from alibi.embedding import AdaptiveEmbedding
from alibi.errors import UserError
from alibi.model import Decoder, ModelConfig
from alibi.positions import slopes

# The paper's architecture: this model can't reproduce vectors of another one.
ARCHITECTURE = {
    "decoder_normalize_before": True,
    "no_decoder_final_norm": True,
    "activation_fn": "relu",
    "adaptive_input": True,
    "tie_adaptive_weights": True,
    "tie_adaptive_proj": True,
    "no_scale_embedding": False,
    "layernorm_embedding": False,
}


class VectorsError(UserError, RuntimeError):
    """A folder without the layout of the vectors; the message names the missing or different part."""


class Vectors:
    """A folder of official vectors.

    Raises:
        VectorsError: if a file is missing or unreadable, or the model is of another architecture.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = self.json("config.json")
        if not isinstance(self.config, dict) or not isinstance(self.config.get("model"), dict):
            raise VectorsError(f"{folder / 'config.json'} lacks the object 'model', which describes the architecture")
        self.options = self.config["model"]
        other = {name: self.options.get(name) for name, x in ARCHITECTURE.items() if self.options.get(name) != x}
        if other:
            raise VectorsError(f"{folder}: the vectors are of another architecture, {other}; expected {ARCHITECTURE}")

    def file(self, name: str) -> Path:
        """The path of a file of the folder."""
        path = self.folder / name
        if not path.is_file():
            raise VectorsError(f"{self.folder} lacks {name}: the folder of official vectors is incomplete")
        return path

    def json(self, name: str) -> Any:
        """The content of a JSON file of the folder."""
        try:
            return json.loads(self.file(name).read_bytes())
        except ValueError as wrong:
            raise VectorsError(f"{self.folder / name} is not JSON: {wrong}") from wrong

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a safetensors file of the folder."""
        try:
            return load_file(self.file(name))
        except VectorsError:
            raise
        except Exception as wrong:  # safetensors does not export its own error for annotation.
            raise VectorsError(f"{self.folder / name} is not a complete safetensors file: {wrong}") from wrong

    def lines(self, split: str) -> list[str]:
        """The text of a split."""
        return self.file(f"corpus/{split}.tokens").read_text(encoding="utf-8").removesuffix("\n").split("\n")

    @property
    def remark(self) -> str:
        """A remark for the reader of the differences; empty if there is none."""
        exact = torch.tensor(slopes(heads := self.options["decoder_attention_heads"]), dtype=torch.float64)
        if torch.equal(exact.float().double(), exact):
            return ""
        return (
            f"{heads} heads have irrational slopes. The official bias row is float32 even in float64 runs, ours is "
            "float64: this alone changes perplexity by some 1e-6."
        )

    @cached_property
    def tokens(self) -> dict[str, Tensor]:
        """Token streams and windows, int64."""
        return self.tensors("tokens.safetensors")

    @cached_property
    def reference(self) -> dict[str, Any]:
        """The official losses."""
        stored: dict[str, Any] = self.json("reference.json")
        return stored

    @cached_property
    def end_of_line(self) -> int:
        """Id of `</s>`."""
        return int(self.config["specials"]["</s>"])

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """The ids at which the vocabulary's bands begin, after the first."""
        return tuple(int(cutoff) for cutoff in self.options["adaptive_softmax_cutoff"].split(","))

    def stream(self, split: str) -> np.ndarray:
        """Token ids of a split."""
        ids: np.ndarray = self.tokens[f"{split}.stream"].numpy()
        return ids

    def split(self, split: str) -> Split:
        """The token ids as a split to evaluate on."""
        stream = self.stream(split)
        return Split(split, stream, words=len(stream), bytes=len(stream), articles=1, sha256="")

    def model(self, dtype: torch.dtype = torch.float32) -> Decoder:
        """The decoder with the official weights, in evaluation mode."""
        options = self.options
        model = Decoder(
            ModelConfig(
                method="alibi",
                vocabulary_size=len(self.config["dictionary"]["symbols"]),
                layers=options["decoder_layers"],
                width=options["decoder_embed_dim"],
                heads=options["decoder_attention_heads"],
                feedforward=options["decoder_ffn_embed_dim"],
                cutoffs=self.cutoffs,
                band_factor=int(options["adaptive_softmax_factor"]),
            )
        ).to(dtype)
        stored = self.tensors("weights.safetensors")
        twins = {second: first for first, second in self.config["tied_parameters"]}
        with torch.no_grad():
            for name, parameter in by_official_name(model).items():
                if name not in stored or stored[name].shape != parameter.shape:
                    found = tuple(stored[name].shape) if name in stored else "missing"
                    raise VectorsError(f"{self.folder}: weight {name} is {found}, expected {tuple(parameter.shape)}")
                parameter.copy_(stored.pop(name))
        known = {name for name in stored if name in twins or name.endswith(("_float_tensor", "version"))}
        if stored.keys() - known:
            raise VectorsError(f"{self.folder}: weights without a place in this model: {sorted(stored.keys() - known)}")
        return model.eval()


def by_official_name(model: Decoder, of: Callable[[nn.Parameter], Tensor] = lambda p: p.data) -> dict[str, Tensor]:
    """The model's parameters, or the result of `of` for each, under their names in the official code.

    The official attention has three matrices, and ours stacks them: the three results are views of its rows.
    """
    embedding = model.embedding
    assert isinstance(embedding, AdaptiveEmbedding)
    named = {"decoder.adaptive_softmax.head.class_proj.weight": of(embedding.classes_KC)}
    for band, (table, projection) in enumerate(zip(embedding.tables, embedding.projections, strict=True)):
        named[f"decoder.embed_tokens.embeddings.{band}.0.weight"] = of(table)
        named[f"decoder.embed_tokens.embeddings.{band}.1.weight"] = of(projection)
    modules = {
        "attention_output": "self_attn.out_proj",
        "attention_norm": "self_attn_layer_norm",
        "feedforward_in": "fc1",
        "feedforward_out": "fc2",
        "feedforward_norm": "final_layer_norm",
    }
    for number, layer in enumerate(model.layers):
        prefix = f"decoder.layers.{number}"
        for kind in ("weight", "bias"):
            for ours, theirs in modules.items():
                named[f"{prefix}.{theirs}.{kind}"] = of(getattr(layer.get_submodule(ours), kind))
            stacked = of(getattr(layer.get_submodule("queries_keys_values"), kind))
            for part, rows in zip("qkv", stacked.chunk(3), strict=True):
                named[f"{prefix}.self_attn.{part}_proj.{kind}"] = rows
    return named
