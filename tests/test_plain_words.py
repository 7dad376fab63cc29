"""Sentences are plain in chapters and in the package's docstrings and comments; chapters open with one minute."""

import ast
import io
import itertools
import re
import tokenize

import nbformat
import pytest
from conftest import ROOT, texts

from alibi.book.chapters import chapters

PAGES = {path.stem: path for path in chapters(ROOT) if path.suffix == ".ipynb"}
LONGEST = 25
MEAN_BELOW = 20
# Of a page's Markdown with its formulas, exercises and solutions, and of its captions; code cells are not counted.
WORDS = 1800

# A chapter takes as many minutes as its words and its open code do at these rates, give or take the factor.
WORDS_PER_MINUTE = 200
LINES_OF_CODE_PER_MINUTE = 20
MINUTES_WITHIN = 1.5
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
BOX = re.compile(r"^:::\{admonition\} In one minute\n:class: tip\n(.*?)\n\n(.*?)\n:::$", re.DOTALL | re.MULTILINE)
READERS = re.compile(r"\*For\* .+ · \*(\d+) minutes?\* · \*assumes\* .+", re.DOTALL)

# Units that are counted, and things that they are counted by: "nats a token" says per with an article.
COUNTED = (
    "bit|block|byte|cell|column|curve|hour|line|microsecond|minute|multiplication|nat|number|one|operation|pair|panel|"
    "paragraph|parameter|piece|point|radian|rate|row|run|second|step|token|word"
)
COUNTED_BY = (
    "band|block|bucket|byte|cell|chapter|claim|column|core|corpus|curve|head|key|layer|length|line|method|minute|model|"
    "page|pair|panel|paragraph|piece|point|query|row|run|second|seed|sentence|step|token|window|word"
)
PATTERNS = {
    "a for per": rf"\b(?:(?:{COUNTED})s?|passes|entries|matrix|matrices) an? (?:{COUNTED_BY})\b",
    "that over that": r"\bthat over that\b|\bover that at\b",
    "that at L": r"\bthat at (?:MATH|L\b)",
    "a what-clause as subject": r"^(?:What|Who|Whoever)\b(?!.*\?$)",
    "no for not a": r"(?<!\bthere )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|fewer\b|better\b|worse\b)\w",
    "for want of": r"\bfor want of\b",
    "so many": r"\bso many\b",
    "as far as": r"\bas far as (?:it|points|that|there|they|we|you)\b",
    "foretell": r"\bforet(?:ell|old)",
    "the lot of": r"\bthe lot of\b",
    "as dear as": r"\bas dear as\b",
    "held against": r"\b(?:held|hold|holds) (?:\w+ )?against\b",
    "whoever": r"\bwhoever\b",
}

# For docstrings and comments, which may say per with an article; a docstring doesn't open with a clause of a question.
PACKAGE_PATTERNS = {name: PATTERNS[name] for name in ("so many", "as far as", "for want of", "foretell", "whoever")} | {
    "a what-clause as subject": PATTERNS["a what-clause as subject"],
    "likewise": r"\blikewise\b",
    "but for": r"\bbut for\b",
    "those there are are": r"\bthere are are\b",
}
OPENING = r"^(?:What|Who|Whoever|Which|How|Where|Why)\b(?!.*\?$)"

# The end of a sentence: its mark, perhaps a bracket or quote that closes, then a capital, number or opening mark.
END = re.compile(r"""(?<=[.?!])(?:[)"']*)\s+(?=["'(]*[A-Z0-9])""")
ABBREVIATIONS = re.compile(r"\b(?:e\.g|i\.e|et al|vs|cf|p|pp|ch|Fig|Eq|Sec)\.$")


def sentences(markdown):
    """The sentences of a Markdown text, in which each formula, citation or piece of code is one word.

    Headings, tables, listings, raw HTML and the marks of a fence are left out; the text in a dropdown or a box stays.
    A displayed formula belongs to the sentence around it, and each item of a list is a text of its own.
    """
    lines, fences = [], []
    for line in markdown.split("\n"):
        if mark := re.match(r"\s*(`{3,}|:{3,})(.*)$", line):
            if fences and not mark[2].strip() and mark[1] == fences[-1][0]:
                fences.pop()
            else:
                fences.append(mark.groups())
            lines.append("")
        elif all(info.strip().startswith(("{dropdown}", "{admonition}")) for _, info in fences):
            hidden = re.match(r"\s*(#|\||<|!\[|:\w+:)", line)
            lines.append("" if hidden else line)
    text = "\n".join(lines)
    # A formula that ends with a full stop ends the sentence.
    text = re.sub(r"\s*\$\$(.+?)\$\$\s*", lambda m: " MATH. " if closes(m[1]) else " MATH ", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$]+\$", "MATH", text)
    text = re.sub(r"(?:\{[\w-]+\})?`+[^`]+`+", "CODE", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}", "", text)
    found = []
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
        plain = re.sub(r"^\s*(?:[-*]|\d+\.) ", "", block)
        start = ""
        for part in END.split(" ".join(plain.split())):
            start = f"{start} {part}".strip()
            if not ABBREVIATIONS.search(start):
                found.append(start)
                start = ""
        found.append(start)
    return [sentence for sentence in found if word_count(sentence)]


def closes(formula):
    return formula.rstrip().rstrip("}").endswith(".")


def word_count(sentence):
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


def faults(sentence, patterns=PATTERNS):
    return [name for name, pattern in patterns.items() if re.search(pattern, sentence, re.IGNORECASE)]


def docstrings(source):
    """Those of modules, classes, functions and attributes: every string that is a statement."""
    statements = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr))
    return [node.value for node in statements if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def comments(source):
    """Comments; those on consecutive lines are one text."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = [(token.start[0], token.string.lstrip("# ")) for token in tokens if token.type == tokenize.COMMENT]
    runs = itertools.groupby(enumerate(lines), lambda numbered: numbered[1][0] - numbered[0])
    return [" ".join(text for _, (_, text) in run) for _, run in runs]


def package_faults(source):
    """Each fault in a module's docstrings and comments, with its sentence."""
    texts = [[END.split(" ".join(block.split())) for block in text.split("\n\n")] for text in docstrings(source)]
    found = [("a question opens", blocks[0][0]) for blocks in texts if re.search(OPENING, blocks[0][0])]
    texts.append([END.split(text) for text in comments(source)])
    every = [sentence for blocks in texts for block in blocks for sentence in block]
    return found + [(name, sentence) for sentence in every for name in faults(sentence, PACKAGE_PATTERNS)]


def cells_of(chapter):
    return nbformat.read(PAGES[chapter], as_version=4).cells


def prose(chapter):
    return [sentence for text in texts(nbformat.read(PAGES[chapter], as_version=4)) for sentence in sentences(text)]


def open_code(chapter):
    """The lines of code that a reader sees without unfolding a cell, blank ones left out."""
    cells = [cell for cell in cells_of(chapter) if cell.cell_type == "code"]
    shown = [cell.source for cell in cells if not FOLDED & set(cell.metadata.get("tags", []))]
    return [line for source in shown for line in source.splitlines() if line.strip()]


each_chapter = pytest.mark.parametrize("chapter", PAGES)


@each_chapter
def test_sentences_are_short(chapter):
    counts = {sentence: word_count(sentence) for sentence in prose(chapter)}
    assert [sentence for sentence, words in counts.items() if words > LONGEST] == []
    assert sum(counts.values()) / len(counts) < MEAN_BELOW


@each_chapter
def test_a_page_is_read_to_its_end(chapter):
    words = sum(len(text.split()) for text in texts(nbformat.read(PAGES[chapter], as_version=4)))
    assert words <= WORDS, f"{chapter} has {words} words: cut what another page tells, or make two pages of it"


@each_chapter
def test_sentences_are_plain(chapter):
    assert [(found, sentence) for sentence in prose(chapter) if (found := faults(sentence))] == []


def test_docstrings_and_comments_are_plain():
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "alibi").rglob("*.py"))}
    assert [(path.name, *fault) for path, source in texts.items() for fault in package_faults(source)] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""What a run reads."""', ["a question opens", "a what-clause as subject"]),
        ('"""Which methods find it? Three do."""\n# The first of so\n# many.\n\n# It ends.', ["so many"]),
        ('def f():\n    """How many there are.\n\n    Likewise."""', ["a question opens", "likewise"]),
        ('x = "so many"\n"""Its number.\n\nArgs:\n    x: what it costs."""', []),
    ],
)
def test_faults_of_a_module_are_found(source, expected):
    assert [name for name, _ in package_faults(source)] == expected


@pytest.mark.parametrize("chapter", PAGES)
def test_a_chapter_opens_with_one_minute_and_says_how_many_it_takes(chapter):
    written = [cell.source for cell in cells_of(chapter) if cell.cell_type == "markdown"]
    boxes = [len(BOX.findall(text)) for text in written]
    assert boxes == [1] + [0] * (len(written) - 1)
    title, opening = written[0].split("\n\n", 1)
    assert re.fullmatch("# .+", title)
    box = BOX.match(opening)
    assert box, "the box stands between the title and the text"
    bullets, readers = box.groups()
    assert bullets.startswith("- ") and len(re.findall("^- ", bullets, re.MULTILINE)) == 3
    told = READERS.fullmatch(readers)
    assert told, f"not of the form *For* ... · *N minutes* · *assumes* ...: {readers}"
    words = sum(word_count(sentence) for sentence in prose(chapter))
    needed = words / WORDS_PER_MINUTE + len(open_code(chapter)) / LINES_OF_CODE_PER_MINUTE
    assert needed / MINUTES_WITHIN <= int(told[1]) <= needed * MINUTES_WITHIN, f"{needed:.1f} minutes"


@pytest.mark.parametrize(
    ("markdown", "counts"),
    [
        ("# A title\n\nOne two three. Four\nfive!", [3, 2]),
        ("One $a + b = c$ three `some code` **five**, {cite}`key` [seven eight](page.ipynb).", [8]),
        ("The score is\n\n$$ s = a. b + c $$\n\nwhere it stands.", [7]),
        ("The score is\n\n$$\ns = a .\n$$\n\nThen it stands.", [4, 3]),
        ("Three things:\n\n- one two. Three\n  four.\n- five\n\n1. six seven", [2, 2, 2, 1, 2]),
        ("```python\nnot = counted\n```\n\n| a | table |\n|---|---|\n\nOne.", [1]),
        ("````{dropdown} Solution\nOne two.\n```python\nnot = counted\n```\nThree.\n````\nFour.", [2, 1, 1]),
        (":::{admonition} In one minute\n:class: tip\n- One two.\n- three\n\n*Four* · five\n:::\nSix.", [2, 1, 2, 1]),
        ("*What to see. How it\nwas made.*", [3, 4]),
        ("Press et al. (2022), p. 20, say 1.5 - 2, i.e. more. (Or less?) Less.", [11, 2, 1]),
    ],
    ids=[
        "heading",
        "spans",
        "formula within",
        "formula at the end",
        "lists",
        "listing",
        "dropdown",
        "box",
        "caption",
        "dots",
    ],
)
def test_words_of_a_sentence_are_counted(markdown, counts):
    assert [word_count(sentence) for sentence in sentences(markdown)] == counts


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("It has one a head, or 3 nats a token.", ["a for per"]),
        ("The figure has a panel a method, a curve a window length.", ["a for per"]),
        ("Each token that a head sees is one of a window's tokens, half a window back.", []),
        ("Perplexity over that at MATH falls.", ["that over that", "that at L"]),
        ("What is lost can be bounded.", ["a what-clause as subject"]),
        ("What is lost, and who finds it?", []),
        ("It is no error.", ["no for not a"]),
        ("There is no border, and it is no longer there.", []),
        ("It is drawn as far as it is measured.", ["as far as"]),
        ("The second sees twice as far as the first.", []),
        ("Whoever compares them held it against us, for want of a rule.", ["a what-clause as subject", "for want of"]),
    ],
)
def test_patterns_are_found(sentence, expected):
    assert set(expected) <= set(faults(sentence)) and (expected or not faults(sentence))
