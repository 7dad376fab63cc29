"""Claims of other papers, most of them later, as decision rules in the form of `alibi.reproduction.rules`.

They compare ALiBi with later methods, and ask whether a flat perplexity means that far tokens are read. All rules were
written before any run that they judge, but the intervals over seeds of A1, A5, A6 and A8, and a change of A13's. Each
states the claim of the named paper in our terms: lengths are the ALiBi paper's, so L = 512 is 64 tokens at scale
laptop, and L_valid goes to 16 L. A remark gives the source's measurement, its model, and the difference from our
question; its figures are the source's. If a source gives no bound, the bound is this book's: 1 % of perplexity or 0.01
nats is equal, and a perplexity *holds* as in those rules.

Measures of reading (`alibi.reproduction.experiments.reads_further`) are of the last tokens of windows of 16 L, unless a
statistic says L. Interpolation belongs to the evaluation of the runs of `after_alibi`.

Retrieval (`alibi.reproduction.experiments.retrieval`) counts if the method learned the task: more than 0.95 of its
answers at L are right. There L is 64, and stands for itself. A result of the opposite sign contradicts each of these
claims.
"""

import math
from collections.abc import Callable
from typing import Any

from alibi.reproduction.evidence import Estimate, Sample
from alibi.reproduction.rules import FIGURE_1, HOLDS_UP_TO, LEVEL_SPREAD, LOWEST_SPREAD, Claim, Part, Values, each

AFTER, READS, RETRIEVAL = ("after_alibi",), ("reads_further",), ("retrieval",)
CHI, CHI_2022 = "Chi et al. 2023", "Chi et al. 2022"
KAZEMNEJAD, FOX, YARN = "Kazemnejad et al. 2023", "Lin et al. 2025", "Peng et al. 2024"
NTK_ALIBI = "keezen, ntk_alibi"  # github.com/keezen/ntk_alibi
TASKS_REMARK = "Here a small model learns generated tasks alone, at 64 tokens."
# In training lengths.
FAR = 16
EQUAL = 0.01
# Standard deviations of rotary's loss (nats) over the same seeds as `alibi.reproduction.rules.LEVEL_SPREAD`, at these
# multiples of L.
ROTARY_SPREAD = {2: 0.0128, 4: 0.0402}


def _ratio(method: str, other: str, multiple: float, other_multiple: float | None = None) -> Values:
    """Perplexity of a method over another's, both trained at L, on windows of multiple x L (without overlap)."""
    windows = multiple, other_multiple or multiple

    def value(sample: Sample, length: int) -> float:
        own, others = (sample.perplexity(m, length, w * length) for m, w in zip((method, other), windows, strict=True))
        return own / others

    return each(FIGURE_1, value)


def _interpolated(method: str, kind: str, multiple: float, of: Callable[[Sample, int], float]) -> Values:
    """Perplexity of a method interpolated for windows of multiple x L, over another perplexity of the same method."""
    return each(FIGURE_1, lambda s, L: s.interpolated(method, L, multiple * L, kind) / of(s, L))


def _estimated(statistic: str, value: Callable[[Sample, int], Estimate], **bounds: Any) -> Part:
    """A part whose values have standard errors over the articles of the text."""
    values, errors = each(FIGURE_1, lambda s, L: value(s, L)[0]), each(FIGURE_1, lambda s, L: value(s, L)[1])
    return Part(statistic, READS, values, errors=errors, **bounds)


def _cut(sample: Sample, length: int, form: str) -> Estimate:
    """Nats that ALiBi loses when only the last 2 L tokens may be seen."""
    return sample.truncated_change("alibi", length, FAR * length, 2 * length, form)


def _saved(sample: Sample, length: int, distance: float) -> Estimate:
    """Nats that windows of 2 L save ALiBi against windows of L, on words last seen distance x L before (0: never)."""
    change, error = sample.repeated_change("alibi", length, FAR * length, 2 * length, distance * length)
    return -change, error


def _saved_more(sample: Sample, length: int) -> Estimate:
    """Nats that windows of 2 L save on words last seen L to 2 L before, less those on words that occur nowhere before.

    The two groups share articles, so the error, of groups taken as independent, is the larger one.
    """
    (copied, error), (never, never_error) = _saved(sample, length, 1), _saved(sample, length, 0)
    return copied - never, math.hypot(error, never_error)


def _distance(method: str) -> Values:
    """Mean attention distance of a method over ALiBi's, over all heads and layers, in windows of L."""

    def mean(sample: Sample, method: str, length: int) -> float:
        return float(sample.heads("attention_distance_mean", method, length, length).mean())

    return each(FIGURE_1, lambda s, L: mean(s, method, L) / mean(s, "alibi", L))


def _collapsed(sample: Sample, length: int) -> float:
    """Share of ALiBi's heads that give the first token more than half of their weight, in windows of L."""
    return float((sample.heads("attention_on_first", "alibi", length, length) > 0.5).mean())


def _steeper(sample: Sample, length: int) -> float:
    """Mean weight on the first token of ALiBi's steeper half of heads minus the flatter half's, in windows of L.

    For head counts that are powers of two, the first heads are the steepest.
    """
    shares_LH = sample.heads("attention_on_first", "alibi", length, length)
    half = shares_LH.shape[1] // 2
    return float(shares_LH[:, :half].mean() - shares_LH[:, half:].mean())


def _more(
    statistic: str,
    task: str,
    first: tuple[str, str],
    second: tuple[str, str],
    strict: bool = True,
    distractors: int = 0,
) -> Part:
    """One method's share of right answers past L minus another's, each with its interpolation.

    Both are means over windows of 2, 4, 8 and 16 L (`alibi.reproduction.evidence.Sample.answers_past`).
    """

    def values(sample: Sample) -> list[float]:
        ours, others = (sample.answers_past(task, *which, distractors) for which in (first, second))
        return [ours - others]

    return Part(statistic, RETRIEVAL, values, low=0, strict=strict)


LATER_CLAIMS = (
    Claim("A1", "A model without positions whose attention is cut at L equals ALiBi at 16 L", "abstract, section 1", (
        Part("perplexity without positions, attention cut at the last L keys in each layer, over ALiBi's uncut, L = "
             "512 and 1024", READS,
             each(FIGURE_1, lambda s, L: math.exp(
                 s.truncated("none", L, FAR * L, L) - s.truncated("alibi", L, FAR * L, FAR * L))),
             low=1 - EQUAL, high=1 + EQUAL, spread=LOWEST_SPREAD),
    ), "The source: far away ALiBi is highly similar to windowed attention. Here the window is cut at evaluation "
       "alone. Through several layers it reads farther than L, which the source gives as a reason to fail.",
       gates="a", paper=CHI),
    Claim("A2", "Windowed attention that four layers keep within L equals ALiBi at 16 L", "abstract, section 1", (
        Part("perplexity of windowed attention at 16 L over that at L, L = 512 and 1024", AFTER,
             _ratio("window", "window", FAR, 1), high=HOLDS_UP_TO),
        Part("perplexity of windowed attention at 16 L over ALiBi's", AFTER, _ratio("window", "alibi", FAR),
             low=1 - EQUAL, high=1 + EQUAL, spread=LOWEST_SPREAD),
    ), "Trained with windows of L / 4, so that models of four layers never read past L: that this holds is by "
       "construction, that it equals ALiBi is not.", gates="a", paper=CHI),
    Claim("A3", "L covers the receptive field of what extrapolates, and of nothing else", "abstract", (
        Part("ALiBi's receptive field over L, L = 512 and 1024", READS,
             each(FIGURE_1, lambda s, L: s.receptive_field("alibi", L, FAR * L) / L), high=1),
        Part("sinusoidal's receptive field over L", READS,
             each(FIGURE_1, lambda s, L: s.receptive_field("sinusoidal", L, FAR * L) / L), low=1, strict=True),
        Part("rotary's receptive field over L", READS,
             each(FIGURE_1, lambda s, L: s.receptive_field("rotary", L, FAR * L) / L), low=1, strict=True),
    ), "The tokens that have 0.99 of the gradient of the last loss, the source's measure.", paper=CHI),
    Claim("A4", "Cut to its last 2 L tokens, ALiBi loses nothing", "abstract, section 1", (
        _estimated("nats that ALiBi loses where each layer sees the last 2 L keys alone, L = 512 and 1024",
                   lambda s, L: _cut(s, L, "attention"), low=-EQUAL, high=EQUAL),
        _estimated("nats that ALiBi loses where the window is shortened to its last 2 L tokens",
                   lambda s, L: _cut(s, L, "window"), low=-EQUAL, high=EQUAL),
    ), "What the source's windowed reading predicts; the bound is this book's.", gates="a", paper=CHI),
    Claim("A5", "Without positions perplexity is worse than ALiBi's far past L", "appendix on a 1.3B model of code", (
        Part("perplexity without positions over ALiBi's at 16 L, L = 512 and 1024", AFTER, _ratio("none", "alibi", FAR),
             low=1, strict=True, spread=LOWEST_SPREAD),
    ), "1.3B parameters trained at 1,024, documents of 2,750 to 3,000 tokens: with a context of 2,560 without "
       "positions 536, ALiBi 150, so ALiBi fails there too.", paper=KAZEMNEJAD),
    Claim("A6", "Just past L a model without positions is ahead of ALiBi", "appendix on a 1.3B model of code", (
        Part("perplexity without positions over ALiBi's at 1.25 L, L = 512 and 1024", AFTER,
             _ratio("none", "alibi", 1.25), high=1, strict=True, spread=LOWEST_SPREAD),
    ), "The same models on documents of 1,500 to 1,750 tokens: with a context of 1,024 without positions 2.19, ALiBi "
       "2.23, with one of 1,400 2.12 and 2.31. In longer documents ALiBi is ahead from a context of 1,800 on.",
       gates="a", paper=KAZEMNEJAD),
    Claim("A7", "The T5 bias and no positions attend farther than ALiBi", "analysis of attention", (
        Part("mean attention distance of the T5 bias over ALiBi's in windows of L, L = 512 and 1024", READS,
             _distance("t5"), low=1, strict=True),
        Part("mean attention distance without positions over ALiBi's in windows of L", READS, _distance("none"),
             low=1, strict=True),
    ), "107M parameters, addition with its steps written out: ALiBi attends mostly to near tokens, the others to near "
       "and far ones.", paper=KAZEMNEJAD),
    Claim("A8", "A forget gate is at least as good as fixed slopes at L", "ablations of the gate", (
        Part("perplexity of the forgetting transformer over ALiBi's at L_valid = L, L = 512 and 1024", AFTER,
             _ratio("forgetting", "alibi", 1), high=1, spread=LEVEL_SPREAD),
    ), "ALiBi is its case of a constant gate. The source has 125M to 760M parameters; here the gate stands alone, "
       "without the source's other changes of the block.", gates="b", paper=FOX),
    Claim("A9", "A forget gate extrapolates", "abstract", (
        Part("perplexity of the forgetting transformer at 2 L over that at L, L = 512 and 1024", AFTER,
             _ratio("forgetting", "forgetting", 2, 1), high=HOLDS_UP_TO),
    ), "The first author notes that more training tokens make it extrapolate worse, so small runs flatter it.",
       gates="a", paper=FOX),
    Claim("A10", "KERPLE's logarithm is better than ALiBi far past L", "experiments on three corpora, five seeds", (
        Part("perplexity of KERPLE over ALiBi's at 16 L, L = 512 and 1024", AFTER, _ratio("kerple", "alibi", FAR),
             high=1, strict=True, spread=LOWEST_SPREAD),
    ), "162M parameters trained at 512 and read to 16,384 tokens. Its abstract does not name ALiBi.",
       gates="a", paper=CHI_2022),
    Claim("A11", "Sandwich is better than ALiBi far past L", "abstract", (
        Part("perplexity of Sandwich over ALiBi's at 16 L, L = 512 and 1024", AFTER, _ratio("sandwich", "alibi", FAR),
             high=1, strict=True, spread=LOWEST_SPREAD),
    ), "The abstract does not name ALiBi. It says that Sandwich uses more than L tokens, which this perplexity would "
       "show.", gates="a", paper=CHI),
    Claim("A12", "FIRE is better than ALiBi past L", "abstract", (
        Part("perplexity of FIRE over ALiBi's at 4 L, L = 512 and 1024", AFTER, _ratio("fire", "alibi", 4),
             high=1, strict=True, spread=LOWEST_SPREAD),
    ), "125M parameters, trained at 2,048 and read to 8,192 tokens, 4 L.", gates="a", paper="Li et al. 2024"),
    Claim("A13", "xPos fails less than rotary past L", "abstract", (
        Part("perplexity of xPos over rotary's at 2 L, L = 512 and 1024", AFTER, _ratio("xpos", "rotary", 2),
             high=1, strict=True, spread=ROTARY_SPREAD[2]),
        Part("perplexity of xPos over rotary's at 4 L", AFTER, _ratio("xpos", "rotary", 4), high=1, strict=True,
             spread=ROTARY_SPREAD[4]),
    ), "The source reads long texts by blocks; here windows are whole for both.", paper="Sun et al. 2023"),
    Claim("A14", "What ALiBi gains past L is most in words that it can copy from there", "abstract", (
        _estimated("nats that windows of 2 L save against windows of L on words last seen L to 2 L before, less those "
                   "saved on words that occur nowhere before, L = 512 and 1024", _saved_more, low=0, strict=True),
        _estimated("nats saved on words that were last seen L to 2 L before", lambda s, L: _saved(s, L, 1),
                   low=0, strict=True),
    ), "A published model of 490M parameters that reads 8,192 tokens: context past 2,000 helps few tokens. It helps "
       "those that can be copied, later pieces of split words and, up to 5,000, rare tokens and tokens that occur "
       "nowhere before. If the second part is broken, ALiBi does not copy from past L at all.",
       gates="a", paper="Sun et al. 2021"),
    Claim("A15", "Interpolated slopes keep ALiBi whole to 2 L, where its own fail", "section 1", (
        Part("ALiBi's perplexity at 2 L with slopes divided by 2 over that at L, L = 512 and 1024", AFTER,
             _interpolated("alibi", "pi", 2, lambda s, L: s.perplexity("alibi", L, L)), high=HOLDS_UP_TO),
        Part("ALiBi's perplexity at 2 L with slopes divided by 2 over that with its own", AFTER,
             _interpolated("alibi", "pi", 2, lambda s, L: s.perplexity("alibi", L, 2 * L)), high=1, strict=True),
    ), "A model of 3B parameters trained on many tokens, whose own slopes hold to 1.12 L. Where they hold by "
       "themselves there is nothing to mend.", gates="a", paper="Al-Khateeb et al. 2023"),
    Claim("A16", "YaRN is rotary's better way past L", "abstract", (
        Part("rotary's perplexity at 4 L with YaRN over that as trained, L = 512 and 1024", AFTER,
             _interpolated("rotary", "yarn", 4, lambda s, L: s.perplexity("rotary", L, 4 * L)), high=1, strict=True),
        Part("rotary's perplexity at 4 L with YaRN over that with interpolated positions", AFTER,
             _interpolated("rotary", "yarn", 4, lambda s, L: s.interpolated("rotary", L, 4 * L, "pi")),
             high=1, strict=True),
    ), "The source trains a little at the new length. Its appendix B.3 reads Llama 2 without training, to about 2 L, "
       "and YaRN is ahead of interpolation there too. Here nothing is trained.", paper=YARN),
    Claim("A17", "Steep heads of ALiBi collapse onto the first token", "Schallon 2026, of BLOOM", (
        Part("share of ALiBi's heads with more than half of their weight on the first token, windows of L, L = 512 and "
             "1024", READS, each(FIGURE_1, _collapsed), low=0.31),
        Part("weight on the first token of the steeper half of ALiBi's heads less that of the flatter", READS,
             each(FIGURE_1, _steeper), low=0, strict=True),
    ), "In BLOOM 31 to 44 % of the heads give the first token more than half of their weight. The source calls them "
       "the steepest. By its own formula the heads that it names, the last 7 of 16, are the flattest. The second part "
       "tests its words. A difference below 0 would agree with its formula.", paper="Schallon 2026"),
    Claim("A18", "Without positions more is found past L than with ALiBi", "abstract", (
        _more("share of passkeys found past L without positions less that with ALiBi, mean of 2, 4, 8 and 16 L",
              "passkey", ("none", ""), ("alibi", "")),
        _more("share of values recalled past L among 15 distractors without positions less that with ALiBi, the same "
              "mean", "recall", ("none", ""), ("alibi", ""), distractors=15),
    ), "107M parameters on ten generated tasks, tested up to twice the length of training, mean reciprocal rank: no "
       "positions .69, ALiBi .50, rotary .33. " + TASKS_REMARK, paper=KAZEMNEJAD),
    Claim("A19", "ALiBi finds nothing that stands farther back than L", "abstract, section 1", (
        Part("share of passkeys that ALiBi finds in the first half of windows of 4 L, more than 2 L before the "
             "question", RETRIEVAL, lambda s: [s.answers_in_first_half("passkey", "alibi", 4)], high=0.05),
    ), "What the source's windowed reading predicts. The bound is this book's. " + TASKS_REMARK, paper=CHI),
    Claim("A20", "ALiBi's slopes are what limits how far it finds", "introduction of its readme", (
        _more("share of passkeys found past L with ALiBi's slopes less that with eight times these, mean of 2, 4, 8 "
              "and 16 L", "passkey", ("alibi", ""), ("alibi-x8", "")),
        _more("share found past L with slopes divided by L_valid / L less that with its own, the same mean",
              "passkey", ("alibi", "pi"), ("alibi", "")),
        _more("share found past L with NTK's slopes less that with its own", "passkey", ("alibi", "ntk"),
              ("alibi", "")),
    ), "BLOOM of 1.7B parameters trained at 2,048, topics at about 3,000 tokens: its own slopes 2 %, divided 74 %, "
       "NTK's 96 %; lines at about 5,000: 0, 30, 40 %. Eight times the slopes are at 64 tokens what the paper's are at "
       "512. " + TASKS_REMARK, paper=NTK_ALIBI),
    Claim("A21", "NTK's slopes find more past L than all slopes divided", "table of its readme", (
        _more("share of passkeys found past L with NTK's slopes less that with slopes divided by L_valid / L, mean of "
              "2, 4, 8 and 16 L", "passkey", ("alibi", "ntk"), ("alibi", "pi")),
    ), "The same figures: 96 against 74 %, and 40 against 30 %.", paper=NTK_ALIBI),
    Claim("A22", "Heads without a bias beside heads that see near tokens copy past L", "section on length", (
        _more("share of copied tokens right past L with half of the heads unbiased less that with ALiBi, mean of 2, 4, "
              "8 and 16 L", "copying", ("alibi-half", ""), ("alibi", "")),
        _more("share of copied tokens right past L with ALiBi less that with rotary", "copying", ("alibi", ""),
              ("rotary", "")),
    ), "160M parameters trained on strings of up to 50: with Hard-ALiBi, where some heads see the last few tokens "
       "alone and the others all, strings of 1,000 are copied almost without an error, and other methods fail earlier. "
       "Here half of the heads have ALiBi's slopes, and no symbol comes twice in a string.",
       paper="Jelassi et al. 2024"),
    Claim("A23", "Half of the heads without a bias recall more past L", "section on position encodings", (
        _more("share of values recalled past L among 15 distractors with half of the heads unbiased less that with "
              "ALiBi, mean of 2, 4, 8 and 16 L", "recall", ("alibi-half", ""), ("alibi", ""), distractors=15),
    ), "NAPE, trained at 64 and read to 65,536 tokens: half of the heads with slopes 1 / h, half without positions; "
       "the source also changes the softmax, which is not done here.", paper="Vasylenko et al. 2026"),
    Claim("A24", "A forget gate finds at least as much past L as fixed slopes", "abstract", (
        _more("share of passkeys found past L with a forget gate less that with ALiBi, mean of 2, 4, 8 and 16 L",
              "passkey", ("forgetting", ""), ("alibi", ""), strict=False),
    ), "The source reports needles found almost perfectly within its training length. " + TASKS_REMARK, paper=FOX),
    Claim("A25", "YaRN finds what rotary loses past L", "abstract", (
        _more("share of passkeys found past L by rotary with YaRN less that as trained, mean of 2, 4, 8 and 16 L",
              "passkey", ("rotary", "yarn"), ("rotary", "")),
    ), "The source trains a little at the new length; here nothing is trained.", paper=YARN),
)  # fmt: skip
