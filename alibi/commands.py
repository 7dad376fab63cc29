"""The commands: data, train, evaluate, generate, verify, bench, reproduce, records, scorecard, book.

Each command imports its modules when it is called, so that a help text does not wait for torch.
"""

import json
import math
import signal
import sys
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from alibi.corpora.hub import HUB
from alibi.corpora.mixture import MIXTURES
from alibi.errors import InputError, UserError
from alibi.interruption import UnfinishedError
from alibi.paths import check_output, results_folder, shipped_results_folder
from alibi.reproduction.experiments import TABLES
from alibi.run_spec import BOOKKEEPING, Bookkeeping, RunSpec

if TYPE_CHECKING:
    from rich.console import Console

    from alibi.configuration import TrainConfig
    from alibi.corpora.corpus import Corpus, Split
    from alibi.positions import PositionMethod

CORPORA = (
    f'wikipedia-sample, {", ".join([*HUB, *MIXTURES])}, or a folder in ALIBI_DATA; "NAME, first 20M words, vocabulary '
    '32768" reads the beginning of its training text, and keeps the most frequent words.'
)


def data(
    name: Annotated[Positional[str], arg(help=CORPORA)], tokenisation: str | None = None, streaming: bool = False
) -> None:
    """Prepare a corpus and show its splits, counts, licence, cache folder and a few lines.

    A folder ALIBI_DATA/NAME comes before the hub. It holds {train,valid,test}.parquet, or .tokens, .txt, .raw, these
    plain or with .xz, .gz, .zst. The hub's file names serve too, such as validation-00000-of-00001.parquet; a name may
    stand before, as in wiki.train.tokens.

    Args:
        name: see `CORPORA`.
        tokenisation: words (by fairseq's rules), bytes (byte pairs), bert or gpt2; the corpus's own if left out.
        streaming: read the hub's files and keep only the tokens.
    """
    from alibi.corpora.corpus import load
    from alibi.corpora.report import describe

    print(describe(load(name, tokenisation, streaming=streaming)))


def train(
    run: OmitArgPrefixes[RunSpec],
    out: Path | None = None,
    eval_corpus: str | None = None,
    dry_run: bool = False,
    gpus: int = 1,
    bookkeeping: OmitArgPrefixes[Bookkeeping] = BOOKKEEPING,
) -> None:
    """Train a model with one position method, then evaluate it at its training length on the validation split.

    Writes model.safetensors, config.json and metrics.jsonl into the output folder. The same command goes on from the
    last checkpoint, to the same bits; it only evaluates a finished run. On SIGTERM, SIGHUP or SIGINT it finishes the
    step, saves and ends with exit status 75. Before and after the training only Ctrl-C has another, 130. In a Slurm job
    script:

        srun python -m alibi train ... || { [ $? = 75 ] && scontrol requeue $SLURM_JOB_ID; }

    Under torchrun several processes share a run, each with a GPU of its own or on the CPU (see `alibi.processes`):

        torchrun --nproc-per-node 8 --max-restarts 3 -m alibi train ...

    torchrun passes SIGTERM on, and kills processes that still run 30 seconds later (its --shutdown-timeout); its own
    exit status is then 1. If a process fails or is killed, the others end too, and a restart goes on from the last
    checkpoint.

    Args:
        run: the run to train.
        out: output folder, made if missing; all processes must see it. Only --dry-run needs none.
        eval_corpus: corpus to evaluate on, in the training vocabulary; if left out, the training corpus, where it has a
            validation split.
        dry_run: train nothing; print parameters, memory by part, and estimates of tokens/s, time and GPU hours.
        gpus: number of GPUs that --dry-run assumes.
        bookkeeping: checkpoints, validation and metrics beside the run.
    """
    from alibi.processes import group

    bookkeeping.check()
    if dry_run:
        _dry_run(run, gpus)
        return
    if gpus != 1:
        raise InputError(f"gpus={gpus} is only for --dry-run: torchrun --nproc-per-node {gpus} trains on several GPUs")
    if out is None:
        raise InputError("--out is missing: name the folder that the run is written to, such as --out runs/first")
    try:
        with group():
            _train(run, out, eval_corpus, bookkeeping)
    except KeyboardInterrupt as stop:
        # A scheduler's signal while the run is prepared or evaluated; Ctrl-C is a person's.
        if str(stop) in ("", signal.SIGINT.name):
            raise
        raise UnfinishedError(f"{stop}: stopped outside of the training; the same command goes on") from stop


def _dry_run(run: RunSpec, gpus: int) -> None:
    from alibi.configuration import configure, corpus_of
    from alibi.planning import report

    corpus = corpus_of(run)
    text = corpus.split("valid" if corpus.streamed else "train")
    print(report(configure(run, corpus), text.tokens, gpus))


def _train(run: RunSpec, out: Path, eval_corpus: str | None, bookkeeping: Bookkeeping) -> None:
    from alibi import train as training
    from alibi.configuration import CONFIG, check_here, configure, corpus_of
    from alibi.corpora.corpus import load
    from alibi.evaluate import evaluate as measure
    from alibi.weights import load_model

    if not (out / CONFIG).is_file():  # A finished run is only evaluated, which needs no GPU.
        check_here(run)
    corpus = corpus_of(run)
    evaluated_on = corpus if eval_corpus is None else load(eval_corpus)
    if eval_corpus is not None:
        evaluated_on.require("valid")
    elif "valid" not in corpus.splits:
        print(f"{corpus.name} (from {corpus.source}) has no split 'valid': the run is not evaluated", file=sys.stderr)
    config = configure(run, corpus)
    training.train(config, corpus, out, bookkeeping, exact_dtype=run.dtype is not None)
    trained = f"{out}: {run.method} trained at {config.train_length} on {corpus.name}"
    if "valid" not in evaluated_on.splits:
        print(f"{trained}, not evaluated: it has no split 'valid'")
        return
    split = evaluated_on.encoded_by(corpus, "valid")
    _tell_unknown(split, evaluated_on, corpus)
    found = measure(load_model(out, run.device), split, corpus.end_of_line, config.train_length)
    print(
        f"{trained}, evaluated nonoverlapping at {found.length} on {evaluated_on.name} valid\n"
        f"perplexity {found.perplexity:.2f} per token, {_or_dash(found.word_perplexity)} per word, "
        f"{found.bits_per_byte:.4f} bits per byte"
    )
    if found.remark:
        print(f"{evaluated_on.name} valid: {found.remark}")


def _or_dash(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _trained_on(config: "TrainConfig") -> "Corpus":
    """The corpus of a run; another text of the same name is refused."""
    from alibi.configuration import TrainingError
    from alibi.corpora.corpus import load_in

    corpus = load_in(config.corpus, config.tokenisation, config.stream_sha256)
    # The vocabulary of a streamed text does not come from the text.
    if not corpus.streamed and (found := corpus.training_sha256) != config.stream_sha256:
        raise TrainingError(
            f"{corpus.name} (from {corpus.source}) has the training stream {found[:12]}, but the run was trained on "
            f"{config.stream_sha256[:12]}: its vocabulary may differ; restore that text, or train again"
        )
    return corpus


def _tell_unknown(split: "Split", read: "Corpus", trained_on: "Corpus") -> None:
    if split.unknown and trained_on.tokenisation == "words":
        written = read.text(split.name).split().count("<unk>")
        print(
            f"{read.name} {split.name}: {split.unknown:,} of {len(split.tokens):,} tokens are <unk>: {written:,} are "
            f"<unk> in the text, and {split.unknown - written:,} words are not in the vocabulary of {trained_on.name}"
        )


def evaluate(
    folder: Positional[Path],
    lengths: tuple[int, ...] = (),
    stride: int | None = None,
    split: str = "valid",
    eval_corpus: str | None = None,
    device: str | None = None,
) -> None:
    """Evaluate a trained model at several window lengths, also longer than its training length.

    Under torchrun the processes share the windows, and find the same numbers as one process.

    Args:
        folder: output folder of a training run.
        lengths: tokens in a window (L_valid); if left out, half to sixteen times the training length, none below the
            stride.
        stride: new tokens in each sliding window; nonoverlapping windows if left out.
        split: train, valid (or validation, val, dev) or test.
        eval_corpus: corpus to evaluate on; the training corpus if left out.
        device: cpu, cuda or mps; if left out, the device of the training where it is available, else the CPU.
    """
    from alibi.processes import group

    with group():
        _evaluate(folder, lengths, stride, split, eval_corpus, device)


def _evaluate(
    folder: Path, lengths: tuple[int, ...], stride: int | None, split: str, eval_corpus: str | None, device: str | None
) -> None:
    from alibi.configuration import read_config
    from alibi.corpora.corpus import load
    from alibi.corpora.folders import split_named
    from alibi.device import settle_cpu
    from alibi.evaluate import evaluate as measure
    from alibi.reproduction.evaluations import EXTRAPOLATION
    from alibi.weights import load_model
    from alibi.windows import check_window

    split, config = split_named(split), read_config(folder)
    for length in lengths:
        check_window(length, stride)
    settle_cpu(config.threads)
    model, remarks = load_model(folder, device), set[str]()
    for length in lengths:
        model.positions.check_length(length)
    if not lengths:
        usual = dict.fromkeys(max(1, round(multiple * config.train_length)) for multiple in EXTRAPOLATION)
        readable = [length for length in usual if _reads(model.positions, length)]
        if beyond := [f"{length:,}" for length in usual if length not in readable]:
            remarks |= {f"method {config.model.method} can't read windows of {', '.join(beyond)}"}
        check_window(readable[-1], None if stride is None else min(stride, readable[-1]))
        lengths = tuple(length for length in readable if length >= (stride or 0))
        if not lengths:
            raise InputError(
                f"stride={stride} is beyond {readable[-1]}, the longest window that is read without --lengths: name "
                "longer ones there"
            )
    corpus = _trained_on(config)
    evaluated_on = corpus if eval_corpus is None else load(eval_corpus)
    chosen = evaluated_on.encoded_by(corpus, split)
    _tell_unknown(chosen, evaluated_on, corpus)
    kind = "nonoverlapping" if stride is None else f"sliding window, stride {stride}"
    read = f"{evaluated_on.name} {split}"
    print(f"{config.model.method}, trained at {config.train_length} on {config.corpus}; {read}, {kind}")
    print(f"{'length':>8} {'perplexity':>12} {'per word':>12} {'bits/byte':>10}")
    for length in lengths:
        found = measure(model, chosen, corpus.end_of_line, length, stride)
        per_word = _or_dash(found.word_perplexity)
        print(f"{length:8} {found.perplexity:12.2f} {per_word:>12} {found.bits_per_byte:10.4f}")
        remarks |= {found.remark}
    if longer := [f"{length:,}" for length in lengths if length > len(chosen.tokens)]:
        remarks |= {f"it has {len(chosen.tokens):,} tokens, so no window of {', '.join(longer)} is full"}
    for remark in sorted(remarks - {""}):
        print(f"{read}: {remark}")


def _reads(positions: "PositionMethod", length: int) -> bool:
    try:
        positions.check_length(length)
    except InputError:
        return False
    return True


def generate(
    folder: Positional[Path],
    prompt: Positional[str],
    tokens: int = 100,
    temperature: float = 0.8,
    seed: int = 1,
    device: str | None = None,
) -> None:
    """Continue a prompt with a trained model; the text may grow past the training length.

    Args:
        folder: output folder of a training run.
        prompt: text to continue.
        tokens: number of tokens to add.
        temperature: divides the logits; 0 always takes the most probable token.
        seed: of the sampling.
        device: cpu, cuda or mps; if left out, the device of the training where it is available, else the CPU.
    """
    import torch

    from alibi.configuration import read_config
    from alibi.weights import load_model

    if tokens < 0 or not temperature >= 0 or not -(2**63) <= seed < 2**64:
        raise InputError(
            f"tokens={tokens}, temperature={temperature}, seed={seed}: choose at least 0 tokens, a temperature of at "
            "least 0, and a seed of 64 bits"
        )
    config = read_config(folder)
    model = load_model(folder, device)
    vocabulary = _trained_on(config).vocabulary
    encoded = torch.tensor([vocabulary.end_of_line, *vocabulary.encode(prompt)], device=model.device)
    source = torch.Generator(model.device).manual_seed(seed)
    print(vocabulary.decode(model.generate(encoded, tokens, temperature, source)[1:].tolist()))


def verify(folder: Positional[Path | None] = None) -> None:
    """Recompute the results of the official code, compare, and print each quantity with its verdict.

    Exit status 1 if any difference is larger than its tolerance. Tolerances follow from the rounding of float32 and
    float64 (alibi/official/rounding.py), and so hold on any machine; "used" is the difference as a share of the
    tolerance.

    Args:
        folder: official vectors; the project's own if left out.
    """
    from alibi.official.vectors import Vectors
    from alibi.official.verify import verify as checks
    from alibi.paths import golden_folder

    chosen, failed, made = folder or golden_folder(), 0, 0
    if not chosen.is_dir():
        raise InputError(f"{chosen} is not a folder: name one of official vectors, or none for the project's own")
    print(f"official vectors in {chosen}; about 20 seconds on one core")
    print(f"{'quantity':62} {'difference':>10} {'tolerance':>10} {'used':>6}  verdict")
    for check in checks(chosen):
        made, failed = made + 1, failed + (not check.passed)
        verdict = "equal" if check.passed else "DIFFERENT"
        used = "" if math.isnan(check.share) else f"{check.share:.1%}"
        print(f"{check.quantity:62} {check.difference:10.1e} {check.tolerance:10.1e} {used:>6}  {verdict}", flush=True)
    if remark := Vectors(chosen).remark:
        print(remark)
    if failed:
        raise UserError(f"{failed} of {made} quantities differ from the official ones")
    print(f"all {made} quantities equal the official ones")


def bench(
    shapes: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    peers: bool = False,
    parts: tuple[str, ...] = (),
    device: str | None = None,
    json_file: Annotated[Path | None, arg(name="json")] = None,
) -> None:
    """Time training steps, method against method and against other libraries, as ratios within one run.

    It takes two to six minutes on two cores, and 17 to 20 for the whole table, --peers --shapes all.

    Args:
        shapes: if left out W1 (width 256, L = 128) and W2 (width 512, L = 512), or on CUDA 247M-512, 247M-1024 and
            247M-3072; W2-3072, large-512 and others have names of this form; all takes every one that the device holds.
        methods: position methods; if left out sinusoidal and alibi, and with --shapes all each shape's rivals; ratios
            divide the others by the first. alibi+window is ALiBi within a decay window of 12 nats.
        peers: also time MPT, GPT-NeoX and x-transformers models of the same shape, in our settings and as installed.
        parts: train, evaluation, memory, kernels (attention alone, by length); if left out train, or every one with
            --shapes all.
        device: cpu, cuda or mps; the fastest available one if left out.
        json_file: file to write machine, ceilings, rows and ratios to.
    """
    from alibi.speed.benchmark import bench as measure
    from alibi.speed.report import report

    if json_file is not None:
        check_output(json_file)
    found = measure(shapes, peers, device, methods, parts)
    if json_file is not None:
        json_file.write_text(json.dumps(found.as_json(), indent=2) + "\n", encoding="utf-8")
    _console(120).print(report(found))


def reproduce(
    experiment: Annotated[Positional[str], arg(help=f"one of {', '.join(TABLES)}, or all of them.")] = "all",
    scale: str = "quick",
    minutes: float = 0,
    methods: tuple[str, ...] = (),
    lengths: tuple[int, ...] = (),
    seeds: tuple[str, ...] = (),
    corpus: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    shard: str | None = None,
    list_only: Annotated[bool, arg(name="list")] = False,
    as_json: Annotated[bool, arg(name="json")] = False,
    dry_run: bool = False,
) -> None:
    """Run missing cells of the experiments and append records to data/results/; it can stop and go on at any time.

    The cells that most claims need come first, then further seeds. Recorded cells are skipped, so the same command goes
    on after Ctrl-C or any other stop. Exit status 75: it was stopped, or its time was over, before all cells were run.
    If a cell fails, a message names it, and the others are run.

    Args:
        experiment: a name of `alibi.reproduction.experiments.TABLES`, or all.
        scale: quick, laptop, gpu or paper.
        minutes: stop after this time; the same command goes on; 0 sets no limit.
        methods: only these position methods, or the controls trigram and trigram-cache.
        lengths: only these training lengths.
        seeds: seeds of weights and data order, such as 0 1 2, 0-4 or 0,2,5-7; 0 alone if left out.
        corpus: another text, such as wikipedia-sample, which needs no network, or a folder in ALIBI_DATA; the
            experiment's own if left out.
        device: cpu, cuda or mps (the GPU of a Mac); the scale's own if left out.
        dtype: bfloat16 or float32, for trainings that are compared with those of other machines; the device's native
            one if left out. Times, retrieval and the noise floor have their own.
        shard: I/N, such as 3/8: only the third of eight shares of the cells, for one machine or one task of a Slurm
            array from 1 on ($SLURM_ARRAY_TASK_ID/8 with --array=1-8). Shares have no cell and no training run in
            common; `records merge` joins their records.
        list_only: show the cells, whether each is recorded, and the cost of the others on this machine; run nothing.
        as_json: with --list, print one JSON document.
        dry_run: like --list, with the whole configuration of the first cell.
    """
    from alibi.reproduction import plan
    from alibi.reproduction.choice import Choice, seeds_named, shard_named
    from alibi.reproduction.claim_tables import changes
    from alibi.reproduction.claims import both_scorecards
    from alibi.reproduction.runner import check_minutes
    from alibi.reproduction.runner import reproduce as run

    if as_json and not list_only:
        raise InputError("--json shows what --list shows: choose --list --json")
    check_minutes(minutes)
    choice = Choice(
        experiment,
        scale,
        methods=methods,
        lengths=lengths,
        seeds=seeds_named(seeds),
        corpus=corpus,
        device=device,
        dtype=dtype,
        shard=shard_named(shard),
    )
    planned = plan.plan(choice)
    if as_json:
        print(json.dumps(plan.as_json(planned), indent=2))
        return
    if dry_run:
        first = next(state.cell for state in planned if not state.refused)
        print(json.dumps(first.configured(), indent=2))
    print(plan.listing(planned), flush=True)
    if list_only or dry_run:
        return
    before = [*chain(*both_scorecards())]
    ended: Exception | None = None
    try:
        run([(state.experiment, state.cell) for state in planned], minutes)
    except Exception as unfinished:
        ended = unfinished
    print(plan.summary(plan.plan(choice)))
    print(changes(before, [*chain(*both_scorecards())]))
    if ended is not None:
        raise ended


def records(action: Positional[Literal["merge"]], files: Positional[tuple[Path, ...]]) -> None:
    """Check records of other machines, and append them to data/results/ if all are right.

    Numbers that are already recorded are skipped, so a whole file of results may be given, to a folder that has its
    older ones: a new number must be one that this version measures. If there is a fault, nothing is written, and a
    message names its line, column and value.

    Args:
        action: merge.
        files: CSV files as reproduce writes them.
    """
    from alibi.paths import expanded
    from alibi.reproduction.merging import merge

    if not files:
        raise InputError(f"{action}: name a file, as in records merge wikitext103.csv")
    merged = merge([expanded(path) for path in files])
    for told in merged.kept_out:
        print(told)
    kept = f", {len(merged.kept_out):,} kept out" if merged.kept_out else ""
    print(f"{merged.appended:,} records appended, {merged.known:,} were there{kept}")


def scorecard(json_file: Annotated[Path | None, arg(name="json")] = None) -> None:
    """Judge the paper's claims, then those of later papers, by the records in data/results/.

    Lengths are the paper's. Records of scale quick do not count as evidence; the rules are in
    alibi/reproduction/rules.py and later_rules.py. After the verdicts come the gates of each scale, the verdicts in
    worlds where the paper's claims are false or empty (by the paper's numbers / by ours), and every change of a rule.

    Args:
        json_file: file for the verdicts, with statistics, rules, effects, intervals and missing numbers.
    """
    from alibi.reproduction.claim_tables import as_json, change_table, gate_table, null_table, table
    from alibi.reproduction.claims import both_scorecards, gates

    if json_file is not None:
        check_output(json_file)
    if not results_folder().is_dir() and shipped_results_folder() is None:
        print(f"warning: there is no folder {results_folder()}, so no claim has records", file=sys.stderr)
    families = both_scorecards()
    if json_file is not None:
        json_file.write_text(json.dumps(as_json([*chain(*families)]), indent=2) + "\n", encoding="utf-8")
    for title, verdicts in zip(("", "claims of later papers"), families, strict=True):
        if title:
            print(f"\n{title}\n")
        _console(160).print(table(verdicts))
        for verdict, count in Counter(verdict.verdict for verdict in verdicts).items():
            print(f"{count:2} {verdict}")
    for title, shown in (
        ("gates of the scales below the paper's", gate_table(gates())),
        ("rules in other worlds: by the paper's numbers / by ours", null_table()),
        ("changes of rules", change_table()),
    ):
        print(f"\n{title}\n")
        _console(160).print(shown)


def _console(width: int) -> "Console":
    """A console as wide as the terminal, or of this width for a file or a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width, highlight=False)


def book(
    chapter: Positional[str | None] = None,
    parameters: Annotated[
        UseAppendAction[tuple[str, ...]], arg(name="parameter", aliases=("-p",), metavar="NAME=VALUE")
    ] = (),
    refresh: bool = False,
    pdf: bool = False,
) -> None:
    """Build the whole book, or execute one chapter with parameters of your own.

    Without a chapter: trains the missing live runs, executes the changed chapters and builds the site. With one:
    executes it into _build/executed/, for example

        python -m alibi book alibi -p train_length=64 -p steps=50

    Args:
        chapter: such as alibi; the whole book if left out.
        parameters: a parameter of the chapter and its value; may be given several times.
        refresh: write the outputs of all chapters back into book/ instead of building the site.
        pdf: print the site, once it is built, into one PDF as well; needs Chromium.
    """
    from alibi.book import build as building
    from alibi.book.execution import changed, execute
    from alibi.book.parameters import ParameterError

    if pdf:
        from alibi.book.pdf import browser, print_book

        if chapter is not None or refresh:
            raise InputError("--pdf prints the whole built book: leave out the chapter and --refresh")
        # Told before chapters are executed, if there is none.
        browser()
    if chapter is not None:
        if refresh:
            raise InputError(f"--refresh is for the whole book: leave out the chapter {chapter}")
        execute(chapter, parameters)
        return
    if parameters:
        raise ParameterError(f"{parameters[0]}: name the chapter that takes it, as in book alibi -p {parameters[0]}")
    if changed():
        from alibi.reproduction.experiments import wikitext103
        from alibi.reproduction.runner import fill_cache

        # The runs are trained before the chapters, because here the progress bars are visible.
        fill_cache(wikitext103.live())
    if refresh:
        building.refresh()
        return
    first_page = building.build()
    if pdf:
        print(f"the book as a PDF: {print_book(first_page.parent).as_uri()}")


# torchrun may start several processes of these commands; the others would do the same work in each process.
SHARED_BY_PROCESSES = ("train", "evaluate")
COMMANDS: dict[str, Callable[..., None]] = {
    "data": data,
    "train": train,
    "evaluate": evaluate,
    "generate": generate,
    "verify": verify,
    "bench": bench,
    "reproduce": reproduce,
    "records": records,
    "scorecard": scorecard,
    "book": book,
}
