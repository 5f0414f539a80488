"""The annotations hold: mypy, as it is set up in pyproject.toml, finds no error in the package."""

from pathlib import Path

from mypy import api


def test_mypy_finds_no_error(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    out, err, code = api.run([])
    assert code == 0, out + err
