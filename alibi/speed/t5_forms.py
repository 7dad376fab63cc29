"""Three forms of the T5 bias with the same results: they differ in the number of look-ups and in their keys."""

from functools import partial

import torch
from torch import Tensor, nn

from alibi.attention import Attend, causal_attention
from alibi.model import Decoder
from alibi.positions import NoPositions, T5Bias, TableBias
from alibi.speed.evaluation import scoring
from alibi.speed.shapes import Contender, Shape, training
from alibi.speed.timing import Median, Step, median_of, paired_ratio, seconds_of, take_turns
from alibi.speed.trials import ONE_KERNEL
from alibi.train import Training

ONCE_A_PASS, ONCE_A_LAYER = "t5-once-a-pass", "t5-once-a-layer"
FORMS = ("t5", ONCE_A_PASS, ONCE_A_LAYER)
"""As the package has it: one look-up for each distance, expanded once a pass and shared by the layers. Once a pass: a
bucket and a look-up for every pair of query and key, shared by the layers, as in Hugging Face's transformers. Once a
layer: the same, repeated in every layer."""
SECONDS_A_FORM = 15.0


class _OfPairs(TableBias):
    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        distance_TS = (query_positions_T[:, None] - key_positions_S[None, :]).clamp(min=0)
        return self.weights_KH.to(dtype)[self.bucket(distance_TS)].permute(2, 0, 1)


class _OncePass(T5Bias):
    def bias(self) -> TableBias:
        return _OfPairs(super().bias().bucket, self.weights_KH)


class _OwnBias(nn.Module):
    """A layer that computes the bias itself and ignores the model's."""

    def __init__(self, layer: nn.Module, positions: T5Bias, kernel: str) -> None:
        super().__init__()
        self.layer, self.positions, self.kernel = layer, positions, kernel

    def forward(self, x_BTC: Tensor, attend: Attend) -> Tensor:
        at = torch.arange(x_BTC.shape[1], device=x_BTC.device)
        attended: Tensor = self.layer(x_BTC, causal_attention(self.positions.bias(), at, at, self.kernel))
        return attended


def give_form(model: Decoder, form: str) -> None:
    """Makes a model with the T5 bias compute it in one of `FORMS`, with its weights; other models do not change."""
    config, given = model.config, model.positions
    if form == "t5" or not isinstance(given, T5Bias):
        return
    positions = _OncePass(config.width, config.heads)
    positions.weights_KH = given.weights_KH
    model.positions = positions
    if form == ONCE_A_LAYER:
        model.positions = NoPositions(config.width, config.heads)
        model.layers = nn.ModuleList(_OwnBias(layer, positions, model.kernel) for layer in model.layers)


def _training(shape: Shape, form: str, device: str) -> Training:
    run = training(shape, Contender("t5" if form in FORMS else form), ONE_KERNEL, device, compiled=False)
    give_form(run.model, form)
    return run


def t5_forms(shape: Shape, device: str) -> dict[tuple[str, str], Median]:
    """Seconds of a forward pass and of a training step, for sinusoidal and each form, and ratios to sinusoidal's.

    All run on `ONE_KERNEL`, not compiled, in turns. Keys are the metric (forward_time, step_time, and for the forms
    forward_time_ratio, step_time_ratio) and the method or form. A forward pass is an evaluation of the step's number of
    tokens, including the loss.
    """
    first = "sinusoidal"
    runs = {form: _training(shape, form, device) for form in (first, *FORMS)}
    tokens, length = shape.tokens, shape.length
    forward: dict[str, Step] = {
        form: scoring(run.model, shape, tokens, length, None, tokens) for form, run in runs.items()
    }
    found: dict[tuple[str, str], Median] = {}
    for metric, steps in (("step_time", {form: run.step for form, run in runs.items()}), ("forward_time", forward)):
        for step in steps.values():
            step()
        timers = {form: partial(seconds_of, step, device) for form, step in steps.items()}
        times = take_turns(timers, SECONDS_A_FORM * len(timers), f"{shape.name} T5 {metric}")
        found |= {(metric, form): median_of(seconds) for form, seconds in times.items()}
        found |= {(f"{metric}_ratio", form): paired_ratio(times[form], times[first]) for form in FORMS}
    return found
