"""Measured records beside the paper's numbers: their choice, captions and costs."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from alibi.book import plots, tables
from alibi.errors import UnknownNameError
from alibi.progress import duration
from alibi.records import measured_results
from alibi.reproduction import claim_tables, claims
from alibi.reproduction.choice import Choice, chosen
from alibi.reproduction.experiments import EXPERIMENTS, TABLES
from alibi.reproduction.plan import listing, states
from alibi.reproduction.runner import reproduce
from alibi.run_spec import smoke_steps
from alibi.scale import SCALES

# The paper's tables have other lengths than ours; a number of ours is shown if theirs has a length within this share.
NEAR = 0.03
# Columns that a number of theirs and one of ours share.
PAIRED = ["method", "paper_length", "paper_eval_length"]
# The identity of a run: its records share these columns, also those of several experiments.
RUN = [
    "scale", "method", "train_length", "seed", "data_seed", "corpus_used", "tokens_trained", "parameters",
    "learning_rate", "method_rate", "dtype", "config_hash",
]  # fmt: skip


def results(experiments: str | Sequence[str], scale: str = "") -> pd.DataFrame:
    """The measured records of experiments at a scale, or at the largest that has any; the table may be empty.

    If there are runs on several texts, it takes the text nearest to the paper's, as claims do, and among equals the
    longest training: numbers of different texts do not compare. Smoke runs are left out, except where ALIBI_SMOKE makes
    this a try of everything. The new column `paper_eval_length` is the evaluation
    length in the paper's tokens, as `paper_length` is the training length.

    Args:
        experiments: one name, or several that train the same runs.
        scale: name of the scale; empty for the largest that has records.

    Raises:
        InputError: if no scale or experiment has this name.
    """
    if scale and scale not in SCALES:
        raise UnknownNameError("scale", scale, SCALES)
    names = [experiments] if isinstance(experiments, str) else experiments
    for name in names:
        if name not in TABLES:
            raise UnknownNameError("experiment", name, TABLES)
    records = pd.concat([measured_results(name) for name in names], ignore_index=True)
    if smoke_steps() is None:
        records = records[~records.smoke.fillna(False)]
    recorded = [name for name in SCALES if (records.scale == name).any()]
    chosen = records[records.scale == (scale or (recorded or [""])[-1])]
    chosen = chosen[chosen.corpus_used.isin(_nearest_texts(chosen))]
    chosen = chosen.reset_index(drop=True)
    factor = chosen.paper_length / chosen.train_length
    return chosen.assign(paper_eval_length=(chosen.eval_length * factor).astype("Float64"))


def _nearest_texts(records: pd.DataFrame) -> list[str]:
    """For each of the paper's corpora, the shown one of the texts that were used for it."""
    texts = records.groupby(["corpus", "corpus_used"], as_index=False).tokens_trained.max()
    far = [claims.substitution(corpus, used) for corpus, used in zip(texts.corpus, texts.corpus_used, strict=True)]
    nearest = texts.assign(far=far, tokens=-texts.tokens_trained.astype(float)).sort_values(["far", "tokens"])
    return nearest.drop_duplicates("corpus").corpus_used.tolist()


def described(records: pd.DataFrame) -> str:
    """The description of measured records for a caption: scale, model, text, seeds, device and commit."""
    if records.empty:
        return "Not yet measured."

    def each(column: str, form: str = "{}") -> str:
        values = [form.format(value) for value in sorted(records[column].dropna().unique())]
        return " and ".join([", ".join(values[:-1]), values[-1]] if values[1:] else values)

    seeds = sorted(records.seed.dropna().unique())
    told = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    text = each("corpus_used").replace("->", "evaluated on")
    return (
        f"Measured at scale {each('scale')}: {each('parameters', '{:,}')} parameters, {each('tokens_trained', '{:,}')} "
        f"tokens of {text}; {told}; {each('device')}, torch {each('torch_version')}, {each('dtype')}; "
        f"commit{'s' if records.commit.nunique() > 1 else ''} {each('commit')}."
    )


def caption(records: pd.DataFrame, name: str = "") -> Markdown:
    """A caption under a figure, in italics: the name of these records, then `described`."""
    return Markdown(f"*{name}{described(records)}*")


def complete(experiment: str, scale: str, seeds: int = 1) -> None:
    """Measures and records an experiment's missing cells at a scale, after a list of all cells and their time."""
    named = chosen(Choice(experiment, scale, seeds=range(seeds)))
    print(listing(states(named)))
    reproduce(named)


def runs(experiment: str, scales: Sequence[str]) -> Styler:
    """A table of an experiment's training runs: seeds with records, by method, scale and training length L.

    A dash is a run that the experiment plans and that has no record; a cell stays empty where none is planned. ALiBi is
    in the first row. The caption names the text of evaluation.
    """
    cells: dict[tuple[str, int], dict[str, str]] = {}
    texts = set()
    for scale in scales:
        recorded = plots.perplexities(results(experiment, scale))
        seeds = recorded.groupby(["method", "train_length"]).seed.nunique()
        texts |= {used.split(" -> ")[-1] for used in recorded.corpus_used}
        for run, length in ((cell.trains, cell.train_length) for cell in EXPERIMENTS[experiment](scale)):
            if run:
                recorded_seeds = seeds.get((run.method, length)) or "-"
                cells.setdefault((scale, length), {})[plots.TITLES[run.method]] = f"{recorded_seeds}"
    shown = pd.DataFrame(cells)
    first = [title for title in (plots.TITLES[name] for name in plots.PAPER_ORDER[::-1]) if title in shown.index]
    shown = shown.loc[first + [title for title in shown.index if title not in first]]
    read = f", all read on the validation text of {' and '.join(sorted(texts))}" if texts else ""
    told = f"Recorded seeds of each run (-: none yet){read}"
    table = tables.styled(shown.fillna("").rename_axis(columns=["scale", "L"]), told)
    # Six lengths fit a phone.
    narrow = "padding-inline: 0.3rem; font-size: 0.8em"
    return table.set_table_styles([{"selector": "th, td", "props": narrow}], overwrite=False)


def cost(records: pd.DataFrame) -> str:
    """The training time of these records' runs, such as "8 runs, 3.5 h of training in all"."""
    runs = records.dropna(subset="seconds").drop_duplicates(RUN)
    many = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    return f"{many}, {duration(float(runs.seconds.sum()))} of training in all"


def _at_our_windows(ours: pd.DataFrame, paper: pd.DataFrame, factor: float = 1) -> pd.DataFrame:
    """Our rows by `PAIRED`, each with the paper's value at the same L and window; our lengths are times the factor.

    Rows with none of the paper's windows near are left out. Between two of its windows log perplexity is interpolated.
    """
    theirs = paper[(paper.metric == "perplexity") & (paper.split == "valid")].dropna(subset="value")
    theirs = theirs.assign(
        paper_length=factor * theirs.train_length.astype(float),
        paper_eval_length=factor * theirs.eval_length.astype(float),
    ).drop_duplicates(PAIRED)
    paired = ours.merge(theirs, on=PAIRED[:2], suffixes=("", "_theirs"))
    apart = (paired.paper_eval_length_theirs / paired.paper_eval_length - 1).abs()
    rows = paired[apart <= NEAR].drop_duplicates(PAIRED).set_index(PAIRED)
    curves = dict(iter(theirs.sort_values("paper_eval_length").groupby(PAIRED[:2])))
    for method, length, window in rows.index:
        curve = curves[method, length]
        known, losses = np.log(curve.paper_eval_length.to_numpy()), np.log(curve.value.to_numpy(float))
        rows.loc[(method, length, window), "value"] = np.exp(np.interp(np.log(window), known, losses))
    return rows


def beside(
    paper: pd.DataFrame,
    measured: pd.DataFrame,
    caption: str,
    same_length: pd.DataFrame | None = None,
) -> Styler:
    """Perplexities of the paper and ours at evaluation lengths near one of the paper's (3 %), and the difference.

    Lengths are ours in the paper's tokens (times the scale's factor), and its numbers are interpolated there. Several
    seeds give mean and standard deviation.
    Models and texts differ, so levels differ; the ratio to the same model's perplexity at L can be compared.

    Args:
        paper: rows of the paper's tables.
        measured: from `results`; one protocol and stride.
        caption: of the table.
        same_length: rows of the paper's tables, for two more columns: the paper's perplexity in the same protocol, and
            its ratio to the one at L, at L and L_valid equal to our own numbers of tokens, not to the lengths that they
            stand for.
    """
    protocol = measured.protocol.iloc[0] if len(measured) else ""
    ours = plots.perplexities(measured, protocol=protocol)
    ours = ours.astype(dict.fromkeys(PAIRED[1:], float)).groupby(PAIRED).value.agg(["mean", "std"]).reset_index()
    both = _at_our_windows(ours, paper).rename(columns={"value": "paper", "mean": "measured", "std": "deviation"})
    if same_length is not None and len(measured):
        factor = float((measured.paper_length / measured.train_length).iloc[0])
        both["same"] = _at_our_windows(ours, plots.perplexities(same_length, protocol=protocol), factor).value
    own = both.index.get_level_values("paper_eval_length") == both.index.get_level_values("paper_length")
    relative = {
        name: both[name] / both[name].where(own).groupby(level=PAIRED[:2]).transform("max")
        for name in ("paper", "measured", "same")
        if name in both
    }
    shown = pd.DataFrame(
        {
            "the paper": both.paper.map("{:,.2f}".format),
            "measured": [
                f"{mean:,.2f}" + ("" if pd.isna(spread) else f" ± {spread:.2f}")
                for mean, spread in zip(both.measured, both.deviation, strict=True)
            ],
            "difference": (both.measured - both.paper).map("{:+,.2f}".format),
            "the paper, over that at L": relative["paper"].map("{:.3f}".format),
            "measured, over that at L": relative["measured"].map("{:.3f}".format),
        },
        index=both.index,
    )
    if "same" in both:
        shown["the paper at our L"] = both.same.map("{:,.2f}".format)
        shown["the same, over that at L"] = relative["same"].map("{:.3f}".format)
    shown = shown.replace("nan", "")
    order = {name: place for place, name in enumerate(plots.COLOURS)}
    shown = shown.sort_index(key=lambda level: level.map(order) if level.name == "method" else level)
    shown.index = pd.MultiIndex.from_tuples(
        [(plots.TITLES[method], f"{length:g}", f"{window:g}") for method, length, window in shown.index],
        names=["", "L", "L_valid"],
    )
    return tables.styled(shown, caption)


def verdicts(numbers: Sequence[int | str]) -> Styler:
    """The verdicts on these claims by the records, each part with its rule, the paper's value and ours."""
    judged = [verdict for verdict in chain(*claims.both_scorecards()) if verdict.number in numbers]
    rows = []
    for verdict in judged:
        shut = [f"gate {gate.letter} shut" for gate in verdict.gates if gate.state == claims.SHUT]
        for part in verdict.findings:
            paper, effect = (part.number(value) for value in (part.paper, part.effect))
            seeds = str(part.seeds) if part.seeds else ""
            holds = ", ".join([" ".join(filter(None, [part.outcome or claims.NOT_MEASURED, part.scale])), *shut])
            spread = claim_tables.intervals(part)
            rows.append((f"{verdict.number}", part.statistic, part.rule, paper, effect, spread, seeds, holds))
    names = ["claim", "statistic", "rule", "the paper", "measured", "95 % interval", "seeds", "the rule"]
    known = [name for place, name in enumerate(names) if any(row[place] for row in rows)]
    shown = pd.DataFrame(rows, columns=names)[known].set_index(["claim", "statistic"])
    # The verdict comes first: a narrow screen shows the beginning of a line.
    told = [f"{verdict.number} {verdict.verdict}: {verdict.title}" for verdict in judged]
    numbered = ", ".join(str(verdict.number) for verdict in judged)
    return tables.styled(shown, "<br>".join([f"Claim{'s' if len(judged) > 1 else ''} {numbered}:", *told]))


def relative(records: pd.DataFrame) -> pd.DataFrame:
    """Perplexities without overlap, of the paper or measured, each with its ratio to the same model's at L.

    Adds `multiple`, L_valid / L, and `ratio`, perplexity over perplexity at L (missing if the latter is); numbers are
    floats, and lengths are in the paper's tokens, `paper_length` and `paper_eval_length`. The last of equal rows
    counts.
    """
    keys = ["method", "paper_length", "seed", "tokens_trained"]
    rows = plots.perplexities(records)
    if "paper_eval_length" not in rows:
        lengths = {"paper_length": rows.train_length, "paper_eval_length": rows.eval_length}
        rows = rows.assign(**lengths, seed=0, tokens_trained=0)
    rows = rows.drop_duplicates([*keys, "paper_eval_length"], keep="last")
    numbers = ["paper_length", "paper_eval_length", "train_length", "eval_length", "value"]
    rows = rows.astype(dict.fromkeys(numbers, float))
    own = rows[rows.paper_eval_length == rows.paper_length].set_index(keys).value.rename("own")
    rows = rows.join(own, on=keys)
    multiple = rows.paper_eval_length / rows.paper_length
    return rows.assign(multiple=multiple, ratio=rows.value / rows.own).drop(columns="own")


def curves(paper: pd.DataFrame, measured: pd.DataFrame, sources: Sequence[str]) -> pd.DataFrame:
    """The paper's rows of these tables and the measured records in one frame, for the functions of `plots`."""
    return pd.concat([paper[paper.source.isin(sources)], measured], ignore_index=True)
