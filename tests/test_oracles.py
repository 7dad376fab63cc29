"""Equality with independent implementations: transformers, x-transformers and torch's own adaptive softmax."""

import math
import warnings

import pytest
import torch
from torch import nn
from transformers import BloomConfig, BloomForCausalLM, DynamicCache, GPTNeoXConfig, MptConfig, MptForCausalLM, T5Config
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gpt_neox import modeling_gpt_neox as gpt_neox
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.roformer import modeling_roformer as roformer
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.xglm.modeling_xglm import XGLMSinusoidalPositionalEmbedding

from alibi.embedding import AdaptiveEmbedding
from alibi.model import Decoder, ModelConfig
from alibi.positions import TableBias, position_method, slopes
from alibi.positions.rotary import rotate
from alibi.positions.sinusoidal import FIRST_ROW, sinusoid
from alibi.positions.t5 import BUCKETS, bucket

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it uses torch.jit.script
    from x_transformers.x_transformers import AlibiPositionalBias, RelativePositionBias

HALF_ULP = 2.0**-24  # relative error of one rounding in float32


def causal(bias_HTS):
    """A bias without what softmax does not see: keys after the query, and a constant for each query."""
    queries, keys = bias_HTS.shape[-2:]
    own = bias_HTS.diagonal(keys - queries, dim1=-2, dim2=-1)[..., None]
    return (bias_HTS - own).tril(keys - queries)


# -- Linear biases --------------------------------------------------------------------------------------------------

LINEAR_BIASES = {
    # BLOOM: slope * j. MPT: slope * (j - last), its slopes as the odd and then the even ones of the next power of two,
    # which is the official order. Both lack the queries, whose share is constant in each row.
    "bloom": lambda heads, keys: build_alibi_tensor(torch.ones(1, keys), heads, torch.float32),
    "mpt": lambda heads, keys: build_mpt_alibi_tensor(heads, keys),
    "x-transformers": lambda heads, keys: AlibiPositionalBias(heads)(keys, keys),
}


@pytest.mark.parametrize("library", LINEAR_BIASES)
def test_linear_bias_in_the_same_order_of_heads(library):
    keys = 65
    for heads in (*range(1, 33), 40, 71, 112):
        theirs = causal(LINEAR_BIASES[library](heads, keys).double().expand(heads, keys, keys))
        ours = position_method("alibi", 2 * heads, heads).bias().dense(torch.arange(keys), torch.arange(keys)).double()
        # In units of the slope. Slopes are powers of a rounded base in float32 (up to 64 of them: 2^-18); the products
        # with both keys are rounded as well (65 * 2^-23 together).
        slopes_H11 = torch.tensor(slopes(heads), dtype=torch.float64)[:, None, None]
        found, expected = theirs / slopes_H11, causal(ours) / slopes_H11
        assert torch.allclose(found, expected, rtol=2**-16, atol=2**-16), f"{heads} heads"


# -- Whole models ---------------------------------------------------------------------------------------------------


def our_model(heads, head_width=8, biases=True):
    torch.manual_seed(heads)
    width = heads * head_width
    model = Decoder(
        ModelConfig("alibi", vocabulary_size=50, layers=2, width=width, heads=heads, feedforward=4 * width)
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # biases and norms start as zeros and ones
            if name.endswith("bias") and not biases:
                parameter.zero_()
    return model.requires_grad_(False)


def copy(*pairs):
    """Loads each pair's right module into its left; strict, but for the biases that MPT has not (ours are zero)."""
    for theirs, ours in pairs:
        theirs.load_state_dict({k: v for k, v in ours.state_dict().items() if k != "bias" or theirs.bias is not None})


def copy_embedding(table, head, model):
    """Ours is scaled on the way in alone: their table and head are two matrices."""
    table.weight.copy_(math.sqrt(model.config.width) * model.embedding.weight_VC)
    head.weight.copy_(model.embedding.weight_VC)


@torch.no_grad()
def bloom(model, length):
    width, heads = model.config.width, model.config.heads
    config = BloomConfig(vocab_size=50, hidden_size=width, n_layer=2, n_head=heads, tie_word_embeddings=False)
    theirs = BloomForCausalLM(config).eval()
    theirs.transformer.word_embeddings_layernorm = theirs.transformer.ln_f = nn.Identity()
    copy_embedding(theirs.transformer.word_embeddings, theirs.lm_head, model)
    for block, layer in zip(theirs.transformer.h, model.layers, strict=True):
        copy(
            (block.input_layernorm, layer.attention_norm),
            (block.self_attention.dense, layer.attention_output),
            (block.post_attention_layernorm, layer.feedforward_norm),
            (block.mlp.dense_h_to_4h, layer.feedforward_in),
            (block.mlp.dense_4h_to_h, layer.feedforward_out),
        )
        block.mlp.gelu_impl = nn.ReLU()
        # Rows: ours q, k, v and in each the heads; theirs the heads and in each q, k, v.
        for name, parameter in layer.queries_keys_values.named_parameters():
            rows = parameter.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)
            getattr(block.self_attention.query_key_value, name).copy_(rows)
    return theirs


@torch.no_grad()
def mpt(model, length):
    width, heads = model.config.width, model.config.heads
    config = MptConfig(
        vocab_size=50, d_model=width, n_layers=2, n_heads=heads, max_seq_len=length, tie_word_embeddings=False
    )
    theirs = MptForCausalLM(config).eval()
    theirs.transformer.norm_f = nn.Identity()
    copy_embedding(theirs.transformer.wte, theirs.lm_head, model)
    for block, layer in zip(theirs.transformer.blocks, model.layers, strict=True):
        copy(
            (block.norm_1, layer.attention_norm),
            (block.attn.Wqkv, layer.queries_keys_values),
            (block.attn.out_proj, layer.attention_output),
            (block.norm_2, layer.feedforward_norm),
            (block.ffn.up_proj, layer.feedforward_in),
            (block.ffn.down_proj, layer.feedforward_out),
        )
        block.ffn.act = nn.ReLU()
    return theirs


MODELS = {"bloom": (bloom, True), "mpt": (mpt, False)}  # MPT has no biases


def assert_equal_logits(ours, theirs, length):
    # They add slope * j to the score in float32, which rounds it by up to length * 2^-24: in this proportion weights
    # change, and logits. (In float64 it is hardly less: their slopes and softmax are float32 in any model.)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=length * HALF_ULP * ours.std().item())


# 2100 is more than MPT's default of 2048; BLOOM has no longest length.
@pytest.mark.parametrize(("heads", "length"), [(1, 300), (2, 300), (3, 2100), (8, 300), (12, 300), (20, 300)])
@pytest.mark.parametrize("library", MODELS)
@torch.no_grad()
def test_whole_model(library, heads, length):
    build, biases = MODELS[library]
    model = our_model(heads, biases=biases)
    tokens = torch.randint(50, (1, length))
    ours = model(tokens) @ model.embedding.weight_VC.T
    assert_equal_logits(ours, build(model, length)(tokens, use_cache=False).logits, length)


@pytest.mark.parametrize("library", MODELS)
@torch.no_grad()
def test_whole_model_decoding_from_their_cache(library):
    build, biases = MODELS[library]
    model = our_model(12, biases=biases)
    tokens = torch.randint(50, (2, 100))
    ours = model(tokens) @ model.embedding.weight_VC.T
    theirs, cache = build(model, 128), DynamicCache()
    parts = tokens.split([43, 1, 1, 50, 5], dim=1)
    logits = torch.cat([theirs(part, past_key_values=cache, use_cache=True).logits for part in parts], dim=1)
    assert cache.get_seq_length() == 100
    assert_equal_logits(ours, logits, 100)


# -- The T5 bias ----------------------------------------------------------------------------------------------------


def test_t5_buckets():
    distances = torch.arange(4001)
    theirs = T5Attention._relative_position_bucket(-distances, bidirectional=False, num_buckets=32, max_distance=128)
    assert torch.equal(bucket(distances), theirs)


def t5(heads):
    attention = T5Attention(T5Config(num_heads=heads, is_decoder=True), has_relative_attention_bias=True, layer_idx=0)
    weights_KH = attention.relative_attention_bias.weight
    return weights_KH, lambda queries, keys: attention.compute_bias(queries, keys, past_seen_tokens=keys - queries)[0]


def x_transformers_t5(heads):
    bias = RelativePositionBias(scale=8**0.5, causal=True, num_buckets=32, max_distance=128, heads=heads)
    return bias.relative_attention_bias.weight * bias.scale, bias  # theirs is scaled by sqrt(head width)


@pytest.mark.parametrize(("queries", "keys"), [(300, 300), (7, 2000)])
@pytest.mark.parametrize("library", [t5, x_transformers_t5])
@torch.no_grad()
def test_t5_bias(library, queries, keys):
    weights_KH, theirs = library(5)
    assert weights_KH.shape == (BUCKETS, 5)
    ours = TableBias(bucket, weights_KH).dense(torch.arange(keys - queries, keys), torch.arange(keys))
    future = keys - queries
    assert torch.equal(ours.tril(future), theirs(queries, keys).tril(future))


# -- Sinusoid and rotary --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [16, 512])
def test_sinusoid_of_fairseq_in_xglm(width):
    rows = torch.arange(FIRST_ROW, FIRST_ROW + 2000)
    table = XGLMSinusoidalPositionalEmbedding(10, width, padding_idx=1)  # grows when asked for more
    theirs = table(torch.arange(2000)[None])[0]
    # Their angles are float32: with f = exp(-x), row * f errs by row * f (2 + 2x) half ulps, at most 2 row.
    difference = (sinusoid(rows, width) - theirs).abs()
    assert (difference <= (2 * rows[:, None] + 4) * HALF_ULP).all()


def gpt_neox_scores(q, k, width):
    # Layout: halves (x_k, x_k+D/2); the pairs of ours are neighbours (x_2k, x_2k+1).
    q, k = (torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1) for x in (q, k))
    parameters = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    config = GPTNeoXConfig(hidden_size=width, num_attention_heads=1, rope_parameters=parameters)
    angles = gpt_neox.GPTNeoXRotaryEmbedding(config)(q, torch.arange(q.shape[2])[None])
    q, k = gpt_neox.apply_rotary_pos_emb(q, k, *angles)
    return q @ k.mT


def gptj_scores(q, k, width):
    # Layout: neighbours, like ours.
    sine, cosine = gptj.create_sinusoidal_positions(q.shape[2], width)[None].chunk(2, dim=-1)
    q, k = (gptj.apply_rotary_pos_emb(x.transpose(1, 2), sine, cosine).transpose(1, 2) for x in (q, k))
    return q @ k.mT


def roformer_scores(q, k, width):
    # Layout: neighbours, like ours; the code that the paper uses.
    table = roformer.RoFormerSinusoidalPositionalEmbedding(q.shape[2], width).create_weight()
    q, k = roformer.RoFormerSelfAttention.apply_rotary_position_embeddings(table[None, None], q, k)
    return q @ k.mT


@pytest.mark.parametrize("width", [8, 64])
@pytest.mark.parametrize(("library", "per_position"), [(gpt_neox_scores, 2), (gptj_scores, 2), (roformer_scores, 0)])
def test_rotary_scores(library, per_position, width):
    torch.manual_seed(0)
    length = 1500
    q, k = nn.functional.normalize(torch.randn(2, 1, 2, length, width, dtype=torch.float64), dim=-1)
    positions_T = torch.arange(length)
    difference = (rotate(q, positions_T) @ rotate(k, positions_T).mT - library(q, k, width)).abs()
    # Vectors of length one, turned by angles in float32 (RoFormer: float64), sines and cosines rounded to float32.
    bound = (per_position * (positions_T[:, None] + positions_T) + 4) * HALF_ULP
    assert (difference <= bound).all()


# -- Adaptive softmax -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vocabulary", "cutoffs"), [(50, [20]), (100, [10, 40]), (300, [20, 60, 200])])
def test_adaptive_softmax_of_torch(vocabulary, cutoffs):
    torch.manual_seed(1)
    width = 64
    ours = AdaptiveEmbedding(vocabulary, width, cutoffs, factor=4, dropout=0.0).double()
    theirs = nn.AdaptiveLogSoftmaxWithLoss(width, vocabulary, cutoffs, div_value=4.0, dtype=torch.float64)
    with torch.no_grad():
        theirs.head.weight.copy_(torch.cat([ours.tables[0], ours.classes_KC]))
        for (down, up), table, projection in zip(theirs.tail, ours.tables[1:], ours.projections[1:], strict=True):
            down.weight.copy_(projection.T)
            up.weight.copy_(table)
    hidden_NC, targets_N = torch.randn(2 * vocabulary, width).double(), torch.randperm(2 * vocabulary) % vocabulary
    torch.testing.assert_close(ours.log_probabilities(hidden_NC), theirs.log_prob(hidden_NC), rtol=0, atol=1e-12)
    losses_N = ours.negative_log_likelihood(hidden_NC, targets_N)
    torch.testing.assert_close(losses_N, -theirs(hidden_NC, targets_N).output, rtol=0, atol=1e-12)
