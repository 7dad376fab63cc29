"""Adaptive input and softmax: the equations, the ties, the initialisation, dropout, and memory that stays bounded."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import Sizes

from alibi import embedding as embedding_file
from alibi.embedding import AdaptiveEmbedding, TiedEmbedding
from alibi.model import Decoder, ModelConfig, unmade
from alibi.scale import paper_model


@pytest.fixture
def adaptive():
    torch.manual_seed(0)
    made = AdaptiveEmbedding(60, 32, (20, 40)).double()
    with torch.no_grad():
        for table in made.tables:
            table[1] = torch.randn(table.shape[1])
    return made


def test_embeddings_are_scaled_rows_projected(adaptive):
    tokens = torch.randint(60, (3, 7))
    out = adaptive(tokens)
    for place, token in zip(out.flatten(0, 1), tokens.flatten().tolist(), strict=True):
        band = token // 20
        row = adaptive.projections[band] @ adaptive.tables[band][token % 20]
        torch.testing.assert_close(place, math.sqrt(32) * row)


@pytest.mark.parametrize("wrong", [60, -1, -100])
def test_ids_outside_the_vocabulary_are_refused(adaptive, wrong):
    with pytest.raises(IndexError, match="2 token ids are outside the 60 entries"):
        adaptive(torch.tensor([[3, wrong, 59], [wrong, 0, 20]]))
    with pytest.raises(IndexError):
        TiedEmbedding(60, 32)(torch.tensor([wrong]))
    for made in (adaptive, TiedEmbedding(60, 32).double()):
        with pytest.raises(IndexError, match=f"{wrong} is out of bounds"):
            made.negative_log_likelihood(torch.randn(3, 32).double(), torch.tensor([3, wrong, 59]))


def test_probabilities_add_up_and_the_loss_is_theirs(adaptive):
    hidden, targets = torch.randn(50, 32).double(), torch.randint(60, (50,))
    log_probabilities = adaptive.log_probabilities(hidden)
    torch.testing.assert_close(log_probabilities.exp().sum(1), torch.ones(50).double())
    expected = -log_probabilities.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(adaptive.negative_log_likelihood(hidden, targets), expected)
    gapped = adaptive.negative_log_likelihood(hidden, torch.tensor([21, 41, 22, 1] * 12 + [0, 0]), True)
    plain = adaptive.negative_log_likelihood(hidden, torch.tensor([21, 41, 22, 1] * 12 + [0, 0]))
    assert (gapped != plain).tolist() == [True, True, False, False] * 12 + [False, False]


@pytest.mark.parametrize("kind", ["tied", "adaptive"])
def test_chunks_change_neither_loss_nor_gradient(kind, monkeypatch):
    torch.manual_seed(1)
    made = (TiedEmbedding(60, 32) if kind == "tied" else AdaptiveEmbedding(60, 32, (20, 40), dropout=0.3)).double()
    hidden, targets = torch.randn(50, 32, dtype=torch.float64, requires_grad=True), torch.randint(60, (50,))
    results = []
    for size in (2**24, 100):
        monkeypatch.setattr(embedding_file, "LOGITS_AT_A_TIME", size)
        made.eval()
        made.zero_grad()
        hidden.grad = None
        losses = made.negative_log_likelihood(hidden, targets)
        (losses * torch.arange(50)).sum().backward()
        results.append(
            [losses, hidden.grad, *(p.grad for name, p in made.named_parameters() if name != "projections.0")]
        )
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(whole, chunked)


def test_dropout_acts_before_the_softmax_and_inside_its_bands(adaptive):
    adaptive.dropout = 0.5
    hidden = torch.randn(2000, 32).double()
    for band, entries in ((0, (0, 20)), (1, (20, 40))):
        targets = torch.randint(*entries, (2000,))
        adaptive.eval()
        exact = adaptive.negative_log_likelihood(hidden, targets)
        adaptive.train()
        dropped = adaptive.negative_log_likelihood(hidden, targets)
        assert (exact != dropped).float().mean() > 0.99, band
    adaptive.dropout = 0.0
    assert torch.equal(adaptive.negative_log_likelihood(hidden, targets), exact)


def test_a_chunk_computed_again_drops_what_it_dropped(adaptive, monkeypatch):
    # The gradient of a chunk must belong to the loss that was reported, dropout and all.
    monkeypatch.setattr(embedding_file, "LOGITS_AT_A_TIME", 40)
    adaptive.dropout = 0.5
    # In each band, and in all of them, more tokens than one chunk holds.
    targets = torch.tensor([3, 21, 41, 22, 42, 23, 43])
    hidden = torch.randn(len(targets), 32, dtype=torch.float64)

    def loss(x):
        torch.manual_seed(5)
        return adaptive.train().negative_log_likelihood(x, targets).sum()

    assert torch.autograd.gradcheck(loss, hidden.requires_grad_(), eps=1e-6, atol=1e-6)


def test_no_tensor_of_tokens_times_vocabulary_is_made_in_training():
    # The paper's vocabulary at its longest training length, a narrow model; every band is hit.
    tokens, vocabulary, width = 3072, 267_744, 64
    torch.manual_seed(2)
    made = AdaptiveEmbedding(vocabulary, width, (20_000, 60_000), dropout=0.2).train()
    hidden = torch.randn(tokens, width, requires_grad=True)
    with Sizes() as sizes:
        made.negative_log_likelihood(hidden, torch.randint(vocabulary, (tokens,))).sum().backward()
    weights = max(table.numel() for table in made.tables)
    assert sizes.largest <= max(embedding_file.LOGITS_AT_A_TIME, weights)
    assert sizes.largest < tokens * vocabulary / 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rare_words_change_neither_the_sizes_of_large_tensors_nor_the_dtype_of_the_residual_stream(dtype):
    # A batch with other words than the last one then finds the blocks of memory that the last one left.
    made, sizes = AdaptiveEmbedding(6000, 32, (1000,), factor=1), []
    for rare in (10, 20, 30):
        tokens = torch.randint(1000, (8, 16))
        tokens.view(-1)[torch.randperm(128)[:rare]] += 1000 * torch.randint(1, 5, (rare,))
        with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16), Sizes() as made_of:
            hidden = made(tokens)
            assert hidden.dtype is torch.float32
            made.negative_log_likelihood(hidden.flatten(0, 1), tokens.flatten()).sum().backward()
        sizes.append({size for size in made_of.found if size > 30 * 32})
    assert sizes[0] == sizes[1] == sizes[2]


def test_initialisation_is_the_official_one():
    torch.manual_seed(3)
    made = AdaptiveEmbedding(3000, 256, (1000, 2000))
    for table, width in zip(made.tables, (256, 64, 16), strict=True):
        assert table.shape == (1000, width)
        assert table.std().item() == pytest.approx(width**-0.5, rel=0.02)
        assert not table[1].any() and table[0].any() and table[2].any()
    for projection in made.projections:
        bound = math.sqrt(6 / sum(projection.shape))
        assert 0.98 * bound < projection.abs().max() <= bound
    assert 0.95 * math.sqrt(6 / 258) < made.classes_KC.abs().max() <= math.sqrt(6 / 258)


def test_cutoffs_that_make_no_bands_are_refused():
    for cutoffs in ((), (0, 10), (10, 10), (20, 10), (60,), (10, 70)):
        with pytest.raises(ValueError, match="must rise between 0 and the 60 entries"):
            AdaptiveEmbedding(60, 32, cutoffs)
    with pytest.raises(ValueError, match="the last band gets less than one column"):
        AdaptiveEmbedding(60, 8, (20, 40))


def test_the_papers_models_have_the_papers_sizes():
    # What fairseq prints for the first; the second by hand from the paper's shape.
    assert unmade(paper_model("247M")).parameter_count() == 246_933_504
    width, inner, layers, vocabulary = 2048, 8192, 25, 50_257
    layer = 4 * width * width + 4 * width + 2 * width * inner + width + inner + 4 * width
    large = unmade(paper_model("1.3B"))
    assert large.parameter_count() == layers * layer + vocabulary * width == 1_361_883_136
    assert unmade(replace(paper_model("1.3B"), method="t5")).parameter_count() == large.parameter_count() + 32 * 16
    with pytest.raises(ValueError, match=r"unknown model of the paper '7B'; choose from 247M, 1.3B"):
        paper_model("7B")


def test_a_model_with_adaptive_softmax_trains_caches_and_generates():
    torch.manual_seed(4)
    shape = {"vocabulary_size": 90, "layers": 2, "width": 32, "heads": 4, "feedforward": 64, "cutoffs": (30, 60)}
    dropouts = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "softmax_dropout"), 0.1)
    model = Decoder(ModelConfig("alibi", **shape, **dropouts))
    tokens = torch.randint(90, (4, 33))
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(60):
        loss = model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
    model.eval()
    found = model.generate(tokens[0, :4], 12, temperature=0)
    for end in range(4, 16):
        scores = model.embedding.log_probabilities(model(found[None, :end])[:, -1])[0]
        best, second = scores.topk(2).values
        assert found[end] == scores.argmax() or best - second < 1e-4
