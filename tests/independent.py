"""A second decoder, written from the equations alone, that writes a folder in the layout of the official vectors.

The official vectors have one shape. This gives others: head counts that are no powers of two, other numbers of bands.
It does as the official code does where that differs from the package: the bias is slope * key index in a float32 row,
windows are padded to one length and run one at a time, weights are a flat dictionary under official names.
"""

import json
import math
import shutil
from collections import Counter
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

FACTOR, PADDING, END, UNKNOWN = 4, 1, 2, 3
CLIP, MOMENTUM, BLOCK = 0.1, 0.99, 16


def slopes(heads):
    power = 1
    while 2 * power <= heads:
        power *= 2
    first = [2 ** (-8 * i / power) for i in range(1, power + 1)]
    return first + [2 ** (-8 * i / (2 * power)) for i in range(1, 2 * power, 2)][: heads - power]


def text(words, lines, generator):
    frequency = 1 / torch.arange(1, words + 1, dtype=torch.float64)
    lengths = torch.randint(0, 12, (lines,), generator=generator).tolist()
    drawn = (torch.multinomial(frequency, n, True, generator=generator).tolist() if n else [] for n in lengths)
    return [" ".join("<unk>" if number == 7 else f"w{number * 37 % words}" for number in line) for line in drawn]


class Independent:
    def __init__(self, layers, width, heads, feedforward, cutoffs, vocabulary, generator):
        self.layers, self.width, self.heads = layers, width, heads
        self.edges = [0, *cutoffs, vocabulary]
        dims = [width // FACTOR**band for band in range(len(cutoffs) + 1)]

        def random(*shape, scale):
            return torch.randn(*shape, generator=generator) * scale

        w = {"decoder.adaptive_softmax.head.class_proj.weight": random(len(cutoffs), width, scale=0.2)}
        for band, dim in enumerate(dims):
            rows = self.edges[band + 1] - self.edges[band]
            w[f"decoder.embed_tokens.embeddings.{band}.0.weight"] = random(rows, dim, scale=0.5 * dim**-0.5)
            w[f"decoder.embed_tokens.embeddings.{band}.1.weight"] = random(width, dim, scale=width**-0.5)
        for layer in range(layers):
            for name, shape in {
                **{f"self_attn.{x}_proj": (width, width) for x in ("q", "k", "v", "out")},
                "fc1": (feedforward, width),
                "fc2": (width, feedforward),
            }.items():
                w[f"decoder.layers.{layer}.{name}.weight"] = random(*shape, scale=shape[1] ** -0.5)
                w[f"decoder.layers.{layer}.{name}.bias"] = random(shape[0], scale=0.3)
            for name in ("self_attn_layer_norm", "final_layer_norm"):
                w[f"decoder.layers.{layer}.{name}.weight"] = 1 + random(width, scale=0.2)
                w[f"decoder.layers.{layer}.{name}.bias"] = random(width, scale=0.2)
        self.w, self.dims = w, dims

    def streams(self, sources):
        """The residual stream after the embedding and after each layer."""
        w, length = self.w, len(sources)
        dtype, rows = w["decoder.adaptive_softmax.head.class_proj.weight"].dtype, []
        for token in sources.tolist():
            band = sum(token >= edge for edge in self.edges[1:-1])
            stem = f"decoder.embed_tokens.embeddings.{band}"
            rows.append(w[f"{stem}.1.weight"] @ w[f"{stem}.0.weight"][token - self.edges[band]])
        x = self.width**0.5 * torch.stack(rows)
        yield x
        row = torch.tensor(slopes(self.heads))[:, None] * torch.arange(length)
        mask = torch.triu(torch.full((length, length), -math.inf), 1)[None] + row[:, None]
        for layer in range(self.layers):

            def linear(name, x, layer=layer):
                return F.linear(x, w[f"decoder.layers.{layer}.{name}.weight"], w[f"decoder.layers.{layer}.{name}.bias"])

            def norm(name, x, layer=layer):
                prefix = f"decoder.layers.{layer}.{name}"
                return F.layer_norm(x, x.shape[-1:], w[f"{prefix}.weight"], w[f"{prefix}.bias"])

            y = norm("self_attn_layer_norm", x)
            q, k, v = (
                linear(f"self_attn.{part}_proj", y).view(length, self.heads, -1).transpose(0, 1) for part in "qkv"
            )
            scores = q @ k.transpose(1, 2) / (self.width // self.heads) ** 0.5 + mask.to(dtype)
            x = x + linear("self_attn.out_proj", (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, -1))
            x = x + linear("fc2", linear("fc1", norm("final_layer_norm", x)).relu())
            yield x

    def log_softmax(self, x):
        w, stem = self.w, "decoder.embed_tokens.embeddings"
        both = torch.cat([w[f"{stem}.0.0.weight"], w["decoder.adaptive_softmax.head.class_proj.weight"]])
        head = (x @ both.T).log_softmax(-1)
        parts = [head[:, : self.edges[1]]]
        for band in range(1, len(self.edges) - 1):
            inside = (x @ w[f"{stem}.{band}.1.weight"] @ w[f"{stem}.{band}.0.weight"].T).log_softmax(-1)
            parts.append(head[:, [self.edges[1] + band - 1]] + inside)
        return torch.cat(parts, dim=1)

    def final(self, sources):
        *_, last = self.streams(sources)
        return last

    def losses(self, sources, targets):
        return -self.log_softmax(self.final(sources)).gather(1, targets[:, None])[:, 0]

    def training_loss(self, sources, targets):
        """With the official gap: for the word c_b + 1 the head's term only."""
        x = self.final(sources)
        both = [self.w[f"decoder.embed_tokens.embeddings.0.{0}.weight"]]
        both.append(self.w["decoder.adaptive_softmax.head.class_proj.weight"])
        head, full = (x @ torch.cat(both).T).log_softmax(-1), self.log_softmax(x)
        total = 0.0
        for row, target in enumerate(targets.tolist()):
            band = sum(target >= edge for edge in self.edges[1:-1])
            gap = band and target == self.edges[band] + 1
            total = total - (head[row, self.edges[1] + band - 1] if gap else full[row, target])
        return total

    def to(self, dtype):
        self.w = {name: value.to(dtype) for name, value in self.w.items()}
        return self


def grid(tokens, length, context):
    stride = length - context
    return [
        (max(0, start - context), start, min(start + stride, tokens))
        for start in range(0, tokens, stride)
    ]  # fmt: skip


def write(folder: Path, golden: Path, seed=0, layers=3, width=48, heads=12, feedforward=40, cutoffs=(20, 50), words=90):
    """Writes all that `alibi.official.verify` reads; schedule, optimiser trace and sinusoid are the official ones."""
    generator = torch.Generator().manual_seed(seed)
    (folder / "corpus").mkdir(parents=True)
    for name in ("optimizer.json", "sinusoidal.safetensors"):
        shutil.copy(golden / name, folder)
    lines = {
        "train": text(words, 300, generator),
        "valid": text(words, 20, generator),
        "test": text(words, 24, generator),
    }
    lines["valid"][3] += " never-seen"
    for split, content in lines.items():
        (folder / "corpus" / f"{split}.tokens").write_text("".join(f" {line} \n" for line in content))
    counts = Counter(word for line in lines["train"] for word in line.split() if word != "<unk>")
    symbols = ["<s>", "<pad>", "</s>", "<unk>", *sorted(counts, key=lambda word: (-counts[word], word))]
    symbols += [f"madeupword{number:04d}" for number in range(-len(symbols) % 8)]
    ids = {symbol: number for number, symbol in enumerate(symbols)}
    encoded = {
        split: [[ids.get(word, UNKNOWN) for word in line.split()] + [END] for line in content]
        for split, content in lines.items()
    }
    streams = {split: torch.tensor(list(chain.from_iterable(content))) for split, content in encoded.items()}
    tokens = {f"{split}.stream": stream for split, stream in streams.items()}
    for split, content in encoded.items():
        tokens[f"{split}.line_lengths"] = torch.tensor([len(line) for line in content])
    shifted = {split: torch.cat([torch.tensor([END]), stream]) for split, stream in streams.items()}
    model = Independent(layers, width, heads, feedforward, cutoffs, len(symbols), generator)
    modes = [("nonoverlapping", 16, 0), ("nonoverlapping", 24, 0), ("sliding", 8, 7), ("irregular", 16, 10)]
    reference = {"evaluation": {"valid": [], "test": []}, "per_token": {}, "criterion_adaptive_loss": []}
    with torch.no_grad():
        for split in ("valid", "test"):
            for mode, length, context in modes:
                cut, sums = grid(len(streams[split]), length, context), {}
                sources, targets = torch.full((2, len(cut), length), PADDING)
                for row, (start, scored, end) in enumerate(cut):
                    sources[row, : end - start] = shifted[split][start:end]
                    targets[row, scored - start : end - start] = shifted[split][scored + 1 : end + 1]
                for dtype in (torch.float32, torch.float64):
                    model.to(dtype)
                    sums[dtype] = [
                        -model.losses(sources[row], targets[row])[scored - start : end - start].double()
                        for row, (start, scored, end) in enumerate(cut)
                    ]
                tokens[f"{split}.{mode}.l{length}.source"], tokens[f"{split}.{mode}.l{length}.target"] = (
                    sources,
                    targets,
                )
                nats = {dtype: -float(torch.cat(parts).sum()) for dtype, parts in sums.items()}
                count = len(streams[split])
                reference["evaluation"][split].append(
                    {
                        "mode": mode,
                        "length": length,
                        "context_window": context,
                        "stride": length - context,
                        "tokens": count,
                        "perplexity": math.exp(nats[torch.float32] / count),
                        "loss_nats_float64_model": nats[torch.float64],
                        "perplexity_float64_model": math.exp(nats[torch.float64] / count),
                    }
                )
                reference["per_token"][f"{split} {mode} {length}"] = {
                    "split": split,
                    "length": length,
                    "context_window": context,
                    "block": 2,
                    "logprob": torch.cat(sums[torch.float32][2:])[:20].tolist(),
                }
        model.to(torch.float64)
        for split in ("valid", "train"):
            cut = grid(len(streams[split]), BLOCK, 0)
            blocks = [float(model.training_loss(shifted[split][a:b], shifted[split][a + 1 : b + 1])) for a, _, b in cut]
            gaps = sum(int((streams[split] == cutoff + 1).sum()) for cutoff in cutoffs)
            reference["criterion_adaptive_loss"].append(
                {
                    "split": split,
                    "length": BLOCK,
                    "loss_nats_float64_model": sum(blocks),
                    "per_block_first8": blocks[:8],
                    "targets_without_tail_term": gaps,
                }
            )
        model.to(torch.float32)
        first = shifted["valid"][:24]
        save_file(
            {
                "valid.nonoverlapping.l24.block0.hidden": torch.stack(list(model.streams(first))),
                "valid.nonoverlapping.l24.block0.log_softmax": model.log_softmax(model.final(first)),
            },
            folder / "logprobs.safetensors",
        )
    save_file({name: value.clone() for name, value in tokens.items()}, folder / "tokens.safetensors")
    weights = {name: value.clone() for name, value in model.w.items()}
    tied = [("decoder.embed_tokens.embeddings.0.0.weight", "decoder.adaptive_softmax.head.word_proj.weight")]
    for band in range(1, len(cutoffs) + 1):
        for ours, theirs in ((1, 0), (0, 2)):
            twin = f"decoder.adaptive_softmax.tail.{band - 1}.{theirs}.weight"
            tied.append((f"decoder.embed_tokens.embeddings.{band}.{ours}.weight", twin))
    weights |= {twin: weights[name].clone() for name, twin in tied} | {"decoder.version": torch.ones(1)}
    save_file(weights, folder / "weights.safetensors")
    slope = torch.tensor(slopes(heads))
    save_file({"slopes": slope, "bias_row": slope[:, None] * torch.arange(24)}, folder / "alibi.safetensors")
    reference["training_steps"] = {"steps": list(train(model, shifted["train"]))}
    (folder / "reference.json").write_text(json.dumps(reference))
    golden_config = json.loads((golden / "config.json").read_text())
    shape = {
        "decoder_layers": layers,
        "decoder_embed_dim": width,
        "decoder_attention_heads": heads,
        "decoder_ffn_embed_dim": feedforward,
        "adaptive_softmax_cutoff": ",".join(map(str, cutoffs)),
        "adaptive_softmax_factor": float(FACTOR),
        "tokens_per_sample": BLOCK,
    }
    config = {
        "model": golden_config["model"] | shape,
        "derived": {"parameters": sum(value.numel() for value in model.w.values())},
        "training_flags": f"--clip-norm {CLIP}",
        "tied_parameters": tied,
        "specials": {"<s>": 0, "<pad>": PADDING, "</s>": END, "<unk>": UNKNOWN},
        "dictionary": {"symbols": symbols, "counts": [1] * 4 + [counts[symbol] for symbol in symbols[4:]]},
    }
    (folder / "config.json").write_text(json.dumps(config))


def train(model, shifted):
    """Three steps of fairseq's NAG with clipping, in float32."""
    velocity, previous = {name: torch.zeros_like(value) for name, value in model.w.items()}, None
    for number, rate in enumerate((0.5, 0.35, 0.45)):
        model.w = {name: value.detach().requires_grad_() for name, value in model.w.items()}
        first, last = 4 * number, 4 * number + 4
        starts = range(first * BLOCK, last * BLOCK, BLOCK)
        loss = sum(model.training_loss(shifted[a : a + BLOCK], shifted[a + 1 : a + BLOCK + 1]) for a in starts)
        tokens = (last - first) * BLOCK
        (loss / tokens).backward()
        gradients = {name: value.grad for name, value in model.w.items()}
        norm = float(torch.stack([g.norm() for g in gradients.values()]).norm())
        ratio, scale = rate / (previous or rate), min(1.0, CLIP / (norm + 1e-6))
        before = {name: float(g.double().norm()) for name, g in gradients.items()}
        with torch.no_grad():
            for name, value in model.w.items():
                g, v = scale * gradients[name], velocity[name]
                model.w[name] = value + MOMENTUM**2 * ratio * v - (1 + MOMENTUM) * rate * g
                velocity[name] = MOMENTUM * ratio * v - rate * g
        previous = rate
        yield {
            "lr": rate,
            "blocks": [first, last],
            "loss_sum_nats": loss.item(),
            "sample_size": tokens,
            "grad_norm_before_clip": norm,
            "grad_norm_per_parameter_before_clip": before,
            "parameter_norm_after": {name: float(value.double().norm()) for name, value in model.w.items()},
        }
