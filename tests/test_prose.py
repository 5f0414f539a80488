"""The prose of the book is spelled right, in British English with -ise, and repeats no word word.

A dictionary (pyspellchecker) finds words that do not exist, and `typos` finds American spellings and the misspellings
that the dictionary takes for rare words. The project's own terms are in book/words.txt. A check is first shown a text
with a mistake in it.
"""

import json
import re
import subprocess
import sysconfig
from functools import cache
from pathlib import Path

import pytest
from spellchecker import SpellChecker

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted(path for path in (ROOT / "book").glob("*.*") if path.suffix in (".md", ".rst"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb")) + sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
LIST = ROOT / "book" / "words.txt"

# What is not prose, in the order in which it is taken out: a pattern, and what is left of it.
NOT_PROSE = [
    (r"\A---\n.*?^---$", ""),  # a page's settings
    (r"^( *)(`{3,}).*?^\1\2$", ""),  # code
    (r"<!--.*?-->|</?\w[^>\n]*>", ""),
    (r"\$\$.*?\$\$( *\([\w-]+\))?", "…"),
    (r"\{term\}`([^`]+)`", r"\1"),
    (r"(\{[\w:]+\})?(`+)(?!`).+?\2", "…"),  # another role, or code in a line
    (r"\$[^$]+\$", "…"),
    (r"^:alt:", ""),
    (r"^ *:[\w-]+:.*|^\.\. [\w-]+::.*|^[\w.]+\n[-~]{3,}$", ""),  # options; directives and the names of modules in reST
    (r"^(:{3,}\{figure\}).*|:{3,}\{[\w-]+\}", ""),
    (r"\[([^\]]+)\]\(\1\)", "…"),  # a file's name that links to it
    (r"Defense Against Explanation Manipulation", "…"),  # a paper's title
    (r"\]\([^)]*\)|https?://\S+|[\w/-]*\.[a-z]{2,4}\b", "…"),  # addresses, names of files
]


def text_of(path):
    """A page, or the markdown, captions and alt texts of a notebook."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        shown = cell["metadata"].get("mystnb", {})
        parts += [shown.get("figure", {}).get("caption", ""), shown.get("image", {}).get("alt", "")]
        parts += ["".join(cell["source"])] if cell["cell_type"] == "markdown" else []
    return "\n\n".join(parts)


def prose(text):
    for pattern, left in NOT_PROSE:
        text = re.sub(pattern, left, text, flags=re.M | re.S if ".*?" in pattern or ".+?" in pattern else re.M)
    return text.replace("’", "'")


def words(text):
    """The words of prose, without their possessive s; a letter alone and what has a digit in it are symbols."""
    found = re.findall(r"\b[^\W\d_]+(?:'[^\W\d_]+)*\b", prose(text))
    return {word for word in (re.sub(r"'s$", "", word) for word in found) if len(word) > 1}


def decapitalized(word):
    return word[0].lower() + word[1:]


def typos(words, locale):
    """What the tool objects to: word -> better ones."""
    tool = Path(sysconfig.get_path("scripts")) / "typos"
    command = [tool, "--isolated", "--locale", locale, "--format", "json", "-"]
    done = subprocess.run(command, input="\n".join(sorted(words)), text=True, capture_output=True, check=False)
    assert done.returncode in (0, 2), done.stderr  # 2: found something
    lines = map(json.loads, done.stdout.splitlines())
    return {line["typo"]: line["corrections"] for line in lines if line["type"] == "typo"}


@cache
def dictionary():
    return SpellChecker(language="en")


def check_spelling(words, own):
    """What is wrong with the words that are misspelled; `own` are the project's terms, which may start a sentence."""
    unknown = {word for word in words if not {word, decapitalized(word)} & set(own)}
    unknown = {word for word in unknown if dictionary().unknown([word])}
    # The dictionary is American: of colour it knows color.
    american = {word: better[0] for word, better in typos(unknown, "en-us").items()}
    unknown = {word for word in unknown if word not in american or dictionary().unknown([american[word]])}
    problems = dict.fromkeys(unknown, "no word, nor one of book/words.txt")
    ize = re.compile(r"(?!(re|down|over|under|super|cap)?siz|(ap|mis)?priz|seiz)\w{2,}iz(e[drs]?|ers|ing|ations?|able)")
    problems |= {word: "the book writes -ise" for word in words if ize.fullmatch(word.lower())}
    problems |= {word: f"write {' or '.join(better)}" for word, better in typos(words, "en-gb").items()}
    return [f"{word}: {problem}" for word, problem in sorted(problems.items())]


def check_doubled(text):
    pairs = re.findall(r"\b([^\W\d_]+)\s+(\1)\b", prose(text), re.I)
    return [f"twice: {word}" for word, again in pairs if again.islower()]  # else the second starts a sentence


def check_list(own, used):
    """What is wrong with the list of terms: it must be sorted, and hold no word that is not needed."""
    problems = [] if own == sorted(set(own), key=str.lower) else ["not sorted, or a word stands twice"]
    used = used | {decapitalized(word) for word in used}
    return problems + [f"no text uses {word}" for word in own if word not in used]


def terms():
    return LIST.read_text(encoding="utf-8").split()


@cache
def everything():
    """Every word of the book, and one page that has it."""
    return {
        word: page for path in PAGES + NOTEBOOKS for word, page in dict.fromkeys(words(text_of(path)), path).items()
    }


def test_every_word_is_spelled_right_and_british():
    problems = check_spelling(everything().keys(), terms())
    assert [f"{everything()[text.partition(':')[0]].relative_to(ROOT)}: {text}" for text in problems] == []


def test_no_word_stands_twice_in_a_row():
    found = {str(path.relative_to(ROOT)): check_doubled(text_of(path)) for path in PAGES + NOTEBOOKS}
    assert {path: problems for path, problems in found.items() if problems} == {}


def test_the_list_of_terms_is_sorted_and_every_one_is_used():
    assert check_list(terms(), everything().keys()) == []


# The checks themselves

GOOD = "The defence's colours don't lie: organised, sized and analysed, ATEX recognises a neighbourhood at its centre."
SPOILED = {
    "American": ("defence", "defense"),
    "American, at the start": ("The defence", "Defense"),
    "American, an ending": ("colours", "colored"),
    "with a z": ("organised", "organized"),
    "with a z, a rarer word": ("organised", "tokenized"),
    "with a z after y": ("analysed", "analyzed"),
    "misspelled": ("recognises", "reconises"),
    "misspelled as a rare word": ("sized", "ballance"),
    "a British misspelling": ("neighbourhood", "neigbourhood"),
    "a term that is not listed": ("ATEX", "APEX-like Wexl"),
    "a term in other letters": ("ATEX", "Atex"),
}


@pytest.mark.parametrize(("old", "new"), SPOILED.values(), ids=SPOILED)
def test_a_misspelled_word_is_caught(old, new):
    assert old in GOOD
    assert check_spelling(words(GOOD), ["ATEX"]) == []
    assert len(check_spelling(words(GOOD.replace(old, new)), ["ATEX"])) == 1


def test_a_doubled_word_is_caught():
    assert check_doubled("It is what `is` is.\n\nThat that; the $x$ the other.") == ["twice: That"]
    assert check_doubled("Look at the\nthe map.") == ["twice: the"]
    assert check_doubled("slow training\n  Training that is slow") == []


def test_a_bad_list_is_caught():
    used = {"ATEX", "Logit", "softmax"}
    assert check_list(["ATEX", "logit", "softmax"], used) == []
    assert check_list(["logit", "ATEX", "softmax"], used)
    assert check_list(["ATEX", "logit", "logit", "softmax"], used)
    assert check_list(["ATEX", "logit", "softmax", "zennit"], used) == ["no text uses zennit"]


MARKUP = """---
jupytext: colour
---
# Titel
```python
codde = 1
```
:::{figure} _static/pathh.png
:name: namme
:alt: altt
Captionn $mathh$ and `codde`, {cite:p}`keyy` and {term}`termm`
:::
$$
mathh
$$ (eq-labell)

[linkk](adress.md) to [FILLE.md](FILLE.md), https://urll.example/pathh, setup.toml and L2, x <b class="classs">bold</b>
.. directivve:: argumennt
"""


def test_only_prose_is_read():
    assert words(MARKUP) == {"Titel", "altt", "Captionn", "and", "termm", "linkk", "to", "bold"}


def test_captions_and_alt_texts_are_read(tmp_path):
    figure = {"mystnb": {"figure": {"caption": "A captionn"}, "image": {"alt": "An altt"}}}
    cells = [
        {"cell_type": "code", "metadata": figure, "source": ["codde"]},
        {"cell_type": "markdown", "metadata": {}, "source": ["Some ", "prosse"]},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert words(text_of(tmp_path / "a.ipynb")) == {"captionn", "An", "altt", "Some", "prosse"}
