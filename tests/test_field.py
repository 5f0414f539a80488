"""The page on later work names code that exists, the refresher's code runs, the bibliography is complete and used."""

import importlib
import json
import re
from pathlib import Path

import pytest
import torch

import atexlib

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "book").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
FIELD = (ROOT / "book" / "field.md").read_text(encoding="utf-8")
REFRESHER = (ROOT / "book" / "refresher.md").read_text(encoding="utf-8")
BIB = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")


def test_the_code_that_the_page_names_exists():
    names = set(re.findall(r"`((?:explain|attack|defend|judge|maps|nets)\.\w+)`", FIELD))
    assert len(names) > 15
    missing = []
    for name in names:
        module, part = name.split(".")
        if not hasattr(importlib.import_module(f"{atexlib.__name__}.{module}"), part):
            missing.append(name)
    assert missing == []


def test_the_peers_have_what_the_page_says():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in FIELD.splitlines() if line.startswith("| ")]
    start = next(i for i, row in enumerate(rows) if "captum" in row)
    table = dict.fromkeys(rows[start], ())
    for title in ("captum", "Zennit"):
        place = rows[start].index(title)
        table[title] = set(re.findall(r"`(\w+)`", " ".join(row[place] for row in rows[start + 1 :])))
    captum = [importlib.import_module(f"captum.{name}") for name in ("attr", "robust", "metrics")]
    assert {name for name in table["captum"] if not any(hasattr(module, name) for module in captum)} == set()
    zennit = importlib.import_module("zennit.attribution")
    assert table["Zennit"]
    assert {name for name in table["Zennit"] if not hasattr(zennit, name)} == set()


def test_the_refreshers_code_gives_what_it_says():
    found = []
    space = {"said": lambda value, text: found.append((value, text))}
    for block in re.findall(r"^```python\n(.*?)^```", REFRESHER, re.M | re.S):
        exec(re.sub(r"^([^#\n]*?)  # (t\w+[.(].*)$", r'said(\1, "\2")', block, flags=re.M), space)
    assert len(found) == 8
    for value, text in found:
        wanted = eval(text.replace(", grad_fn=...", ""), {"torch": torch, "tensor": torch.tensor})
        same = value == wanted if isinstance(value, torch.Size) else torch.allclose(value, wanted.to(value))
        assert same, (value, text)


@pytest.fixture(scope="module")
def entries():
    parts = re.split(r"^@", BIB, flags=re.M)[1:]
    return {re.match(r"\w+\{(\w+),", part)[1]: part for part in parts}


def check_entry(entry):
    """What an entry lacks: author, title and year; where it came out; and a way to find it."""
    fields = set(re.findall(r"^\s+(\w+)\s*=", entry, re.M))
    missing = [name for name in ("author", "title", "year") if name not in fields]
    if not entry.startswith("misc") and not fields & {"journal", "booktitle", "publisher"}:
        missing.append("where it came out")
    if not fields & {"doi", "eprint", "url", "pages"} and "noppel2024sok" not in entry:  # its address is not certain
        missing.append("a way to find it")
    return missing


def test_every_entry_is_complete(entries):
    assert len(entries) > 60
    assert {key: check_entry(entry) for key, entry in entries.items() if check_entry(entry)} == {}


def test_an_incomplete_entry_is_caught():
    good = "article{a,\n  author = {A},\n  title = {T},\n  journal = {J},\n  year = {1},\n  doi = {10}\n}"
    assert check_entry(good) == []
    for name in ("author", "title", "journal", "year", "doi"):
        assert check_entry(re.sub(rf"  {name} = .*\n", "", good))


def test_every_entry_is_cited_and_every_citation_has_an_entry(entries):
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    for path in NOTEBOOKS:
        texts += ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    found = re.findall(r"\{(?:foot)?cite:[pt]\}`([^`]+)`", "\n".join(texts))
    cited = {key.strip() for keys in found for key in keys.split(",")}
    assert cited - set(entries) == set()
    assert set(entries) - cited == set()
