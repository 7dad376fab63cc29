"""Small trained models for a page of the book: trained, rounded to sixteen bits, and written as scripts.

A page that is opened as a file may load only scripts, so each model is a script. The script `NAME.js` sets
`Decoder.files["NAME"]` to an object of

    method, vocabulary_size, layers, width, heads, feedforward   as in `alibi.model.ModelConfig`
    slopes     of the heads for ALiBi, else an empty list
    names      of the tensors, as in `Decoder.named_parameters`
    sizes      number of values of each tensor
    weights    base64 of all values in the order of the names, row after row, little-endian IEEE 754 binary16

and `vocabulary.js` sets `BytePairs.files.vocabulary` to

    alphabet   the characters that stand for the 256 bytes: entries 1 to 256 (entry 0 is the end of a line)
    merges     two entries for each further one, 257 on, which it joins; earlier ones were found first

`widgets/decoder.js` and `widgets/bytepairs.js` read them.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alibi.attention import Attend, attention_weights, causal_attention
from alibi.configuration import configure
from alibi.corpora.corpus import Corpus, load
from alibi.corpora.source import is_title
from alibi.corpora.vocabulary import BytePairVocabulary
from alibi.errors import InputError
from alibi.model import Decoder
from alibi.positions import ALiBi, Bias
from alibi.run_spec import RunSpec
from alibi.runs import Run, run_of
from alibi.windows import evaluation_windows, shift

# Methods that decoder.js can compute.
METHODS = ("alibi", "sinusoidal")
BYTES = 4_000_000
"""Largest size of all files of the page together."""
WINDOWS = 16
"""Training lengths in the longest window."""


def page_run(method: str, train_length: int = 128, steps: int | None = None, seed: int = 1) -> Run:
    """The finished run of a model for the page: the recipe and text of scale quick, with a smaller shape.

    Args:
        method: a name of `METHODS`.
        train_length: L in tokens.
        steps: optimiser steps; None takes the scale's.
        seed: seed of weights and data order.

    Raises:
        InputError: for a number out of range.
        alibi.configuration.TrainingError: as `alibi.runs.run_of`.
    """
    spec = RunSpec(method=method, train_length=train_length, steps=steps, seed=seed)
    corpus = load(spec.corpus)
    config = configure(spec, corpus)
    # The largest shape with eight heads, each a multiple of 4 columns, of which two fit into BYTES.
    small = replace(config.model, layers=3, width=96, heads=8, feedforward=384)
    return run_of(replace(config, model=small), corpus)


def rounded(model: Decoder) -> Decoder:
    """A copy of the model for the page: on the CPU, in float32, with weights rounded to float16."""
    copy = Decoder(model.config)
    copy.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    return copy.eval()


def described(run: Run) -> str:
    """The description of the models for a page: parameters, shape, training, text, seed and scale of this run."""
    model, facts = run.config.model, run.facts
    return (
        f"Two tiny models, of {facts['parameters']:,} parameters each: {model.layers} layers of width {model.width}, "
        f"{model.heads} heads, {model.vocabulary_size:,} byte pairs. Trained on {facts['tokens']:,} tokens of "
        f"{run.config.corpus}, in blocks of L = {run.config.train_length}, by the recipe of scale {run.config.scale}, "
        f"seed {run.config.seed}. Their weights have 16 bits here; your browser computes the rest."
    )


def model_script(model: Decoder) -> str:
    """The script of a model.

    Raises:
        InputError: for a model that the page can't compute: another method or embedding, or heads whose width is not a
            multiple of 4.
    """
    config, positions = model.config, model.positions
    if config.method not in METHODS or config.cutoffs or config.width % (4 * config.heads) or config.decay_window:
        raise InputError(
            f"a page computes {' and '.join(METHODS)} with one embedding matrix and heads of 4, 8, 12 ... columns, "
            f"without a decay window; not {config}"
        )
    named = {name: parameter.detach().cpu().numpy().astype("<f2") for name, parameter in model.named_parameters()}
    shape = ("method", "vocabulary_size", "layers", "width", "heads", "feedforward")
    content = {name: getattr(config, name) for name in shape} | {
        "slopes": positions.slopes_H.tolist() if isinstance(positions, ALiBi) else [],
        "names": list(named),
        "sizes": [values.size for values in named.values()],
        "weights": base64.b64encode(b"".join(values.tobytes() for values in named.values())).decode(),
    }
    return f'Decoder.files["{config.method}"] = {_compact(content)};\n'


def vocabulary_script(corpus: Corpus) -> str:
    """The script of a corpus's byte pairs.

    Raises:
        InputError: for another tokenisation.
    """
    if corpus.tokenisation != "bytes":
        raise InputError(f"a page reads byte pairs; {corpus.name} is read by {corpus.tokenisation}")
    known = json.loads((corpus.folder / BytePairVocabulary.FILE).read_text(encoding="utf-8"))["model"]
    entries: dict[str, int] = known["vocab"]
    merges = [part for pair in known["merges"] for part in (pair.split() if isinstance(pair, str) else pair)]
    joined = ["".join(pair) for pair in zip(merges[::2], merges[1::2], strict=True)]
    alphabet = sorted(entries, key=entries.__getitem__)[1:257]
    if [entries[entry] for entry in (*alphabet, *joined)] != list(range(1, len(entries))):
        raise InputError(f"the entries of {corpus.name} are not the end of a line, the bytes and the pairs in order")
    content = {"alphabet": "".join(alphabet), "merges": [entries[part] for part in merges]}
    return f"BytePairs.files.vocabulary = {_compact(content)};\n"


def scripts(runs: Sequence[Run]) -> dict[str, str]:
    """The files of the page, by their paths below `_static`: the vocabulary, and a model for each run.

    Raises:
        InputError: as `model_script` and `vocabulary_script`, and if the files are larger than `BYTES`.
    """
    files = {"models/vocabulary.js": vocabulary_script(runs[0].corpus)}
    files |= {f"models/{run.config.model.method}.js": model_script(run.model) for run in runs}
    if (size := sum(len(text) for text in files.values())) > BYTES:
        raise InputError(f"the models of the page have {size:,} bytes, more than {BYTES:,}: choose a smaller shape")
    return files


def _compact(content: Mapping[str, object]) -> str:
    return json.dumps(content, separators=(",", ":"))


def passages(corpus: Corpus, tokens: int, count: int = 3) -> dict[str, str]:
    """The beginnings of the first articles of the validation text, by title; nobody picked them.

    Args:
        corpus: corpus of the models.
        tokens: most tokens in a passage, which ends at the end of a word.
        count: number of articles.
    """
    lines = corpus.text("valid").splitlines()
    starts = [number for number, line in enumerate(lines) if is_title(line)]
    found = {}
    for start, end in islice(zip(starts, [*starts[1:], len(lines)], strict=True), count):
        text = "\n".join(lines[start:end])
        cut = corpus.vocabulary.decode(corpus.vocabulary.encode(text)[:tokens])
        found[lines[start].strip(" =")] = cut if cut == text else cut.rsplit(" ", 1)[0]
    return found


@torch.no_grad()
def losses(model: Decoder, tokens: Sequence[int], end_of_line: int, window: int) -> np.ndarray:
    """-ln p of each token (nats), read in consecutive windows: the page's numbers, computed by torch."""
    stream = torch.from_numpy(shift(np.asarray(tokens), end_of_line))
    parts = []
    for part in evaluation_windows(len(tokens), window):
        sources, targets = stream[part.start : part.end], stream[part.start + 1 : part.end + 1]
        parts.append(model.negative_log_likelihood(sources[None], targets[None])[0])
    return torch.cat(parts).numpy()


@torch.no_grad()
def looked_at(model: Decoder, sources_T: Tensor) -> tuple[Tensor, list[Tensor]]:
    """ln p of the token after these, which begin a window, [vocabulary], and each layer's last row of attention.

    Returns:
        ln p, and for each layer the weights of its heads over the tokens, [heads, T].
    """
    rows: list[Tensor] = []

    def prepare(bias: Bias, queries_T: Tensor, keys_S: Tensor, *others: Any) -> Attend:
        attend = causal_attention(bias, queries_T, keys_S, *others)
        weights = attention_weights(bias, queries_T[-1:], keys_S, torch.float32)

        def noted(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
            rows.append(weights(q_BHTD[:, :, -1:], k_BHSD)[0, :, 0])
            return attend(q_BHTD, k_BHSD, v_BHSD)

        return noted

    with model.attention_by(prepare):
        hidden_TC = model(sources_T[None])[0]
    return model.embedding.log_probabilities(hidden_TC[-1:])[0], rows
