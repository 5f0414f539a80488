"""The house: imports go one way, nothing private crosses a door, and an outsider adds one of each with one file."""

import ast
import importlib
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import atexlib
from atexlib import experiments

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
import house
from house import imports, module_of

SRC = Path(atexlib.__file__).parent
ROOMS = ("attack", "data", "defend", "detect", "experiments", "explain", "judge", "maps", "nets", "show")
FILES = sorted(path for path in SRC.rglob("*.py") if path != SRC / "__init__.py")


def floor(module):
    """The number of a module's floor, and its place there where the rooms of a floor stand on each other."""
    room = house.room_of(module)
    if room is None:  # the face above the four rooms of the experiments
        assert module == "experiments", f"{module} is in no room"
        return list(house.FLOORS).index("experiments"), len(house.FLOORS["experiments"])
    number, place = house.ROOMS[room]
    return number, place if room.startswith("experiments") else 0


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_one_way(path):
    own = floor(module_of(path))
    for module, name in imports(path):
        assert floor(module) <= own, f"{module_of(path)} imports {name} from {module}, which is above it"


def test_the_picture_of_the_house_is_that_of_today():
    drawn = set(re.findall(r'id="([a-z_.]+)-&gt;([a-z_.]+)"', house.PICTURE.read_text()))
    assert drawn == house.arrows(), "python book/house.py draws it anew"


def test_no_room_imports_itself_in_a_circle():
    """Each module can be imported first, in a process of its own."""
    names = [f"atexlib.{module_of(path)}" for path in FILES if path.name not in ("__init__.py", "__main__.py")]
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    assert subprocess.run([sys.executable, "-c", code, *reversed(names)], check=False).returncode == 0


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_private_crosses_a_door(path):
    taken = [f"{module}.{name}" for module, name in imports(path) if name.startswith("_")]
    used = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and isinstance(node.value, ast.Name)
        and node.value.id in {name for _, name in imports(path)}
    ]
    assert taken + used == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_face_shows_what_it_says(room):
    face = importlib.import_module(f"atexlib.{room}")
    assert face.__doc__
    assert sorted(face.__all__) == sorted(set(face.__all__))
    for name in face.__all__:
        assert hasattr(face, name)


@pytest.mark.parametrize("room", ["explain", "attack", "defend", "detect", "data"])
def test_a_room_says_what_is_available(room):
    face = importlib.import_module(f"atexlib.{room}")
    assert len(face.available()) >= 3
    assert all(isinstance(name, str) for name in face.available())


def test_import_is_cheap():
    """`import atexlib` alone loads neither torch nor matplotlib; its rooms do when they are used."""
    code = "import sys, atexlib; print('torch' in sys.modules, 'matplotlib' in sys.modules); atexlib.maps.spearman"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]


OUTSIDER = '''
"""One of each kind of thing, in one file outside the package."""

import torch

from atexlib import attack, data, defend, explain, experiments, nets
from atexlib.experiments.engine.numbers import plain, summary
from atexlib.experiments.subjects import measure
from atexlib.experiments.subjects import nets as subjects


@data.dataset("stripes", title="striped squares", shape=(1, 28, 28), classes=2, fingerprint="stripes 1")
def stripes(split, _root):
    labels = torch.arange(60) % 2
    images = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(len(split))) / 4
    images[labels == 1, :, ::2] += 0.5
    images[labels == 0, :, :, ::2] += 0.5
    return data.ImageSet(images, labels, "stripes", ("down", "across"))


@explain.explainer(label="twice the gradient", signed=False)
def twice(model, x, target=None, *, create_graph=False):
    return 2 * explain.gradient(model, x, target, create_graph=create_graph)


@attack.objective("brightest", default=lambda images, k, generator: Brightest())
class Brightest:
    def __call__(self, clean_map):
        return lambda maps: maps.abs().amax((1, 2, 3))


@defend.defense("patience", label="patience (more plain training)", settings={"lr": 1e-4})
def patience(model, data, *, epochs, batch_size=20, lr=1e-4, validation=None, **more):
    return nets.fit(model, data, epochs=epochs, batch_size=batch_size, lr=lr, **more)


@experiments.kind(
    "largest_entry",
    keys={"dataset": data.DATASETS, "defense": subjects.TREATED, "explainer": explain.EXPLAINERS},
    history=("first",),
    needs=subjects.needs_net,
    sizes="images",
    canary=[{"dataset": "digits", "defense": "none", "explainer": "gradient", "seed": 0}],
)
def largest_entry(spec, place):
    net = subjects.net_at(place, spec["defense"])
    images = place.images("test", place.size.images).images
    maps = explain.find(spec["explainer"])(net, images)
    return {"largest": summary(plain(maps.abs().amax((1, 2, 3))))}
'''

SESSION = """
import dataclasses, sys
sys.path.insert(0, sys.argv[1])
import outsider
from atexlib import attack, defend, experiments, explain
from atexlib.experiments.engine import canary, presets
from atexlib.experiments.findings import freshness, report

small = {"train_images": 40, "epochs": 1, "batch_size": 20, "defense_images": 40, "images": 6, "steps": 2}
presets.SIZES["smoke"] = dataclasses.replace(presets.SIZES["smoke"], **small)
where = {"dataset": "stripes", "seed": 0, "preset": "smoke"}
for defense in ("none", "patience"):
    experiments.ensure({"kind": "largest_entry", "defense": defense, "explainer": "twice", **where})
    experiments.ensure({"kind": "table", "attack": "untargeted", "defense": defense, "eps": 0.1, **where})
    experiments.ensure({"kind": "attacks", "attack": "brightest", "defense": defense, "eps": 0.1, **where})
rows, columns = ("defense", ["none", "patience"]), ("eps", [0.1])
table = report.table("spearman", kind="table", dataset="stripes", attack="untargeted", rows=rows, columns=columns)
print(table.to_string())
names = [entry.name for entry in experiments.status() if not entry.stale_since]
print(len(names), freshness.summary(experiments.status()).index.tolist())
print("twice" in explain.available(), "brightest" in attack.available(), "patience" in defend.available())
print(sum(len(cell["numbers"]["largest"]) for cell in dict(canary.cells(experiments.KINDS["largest_entry"])).values()))
"""


def test_an_outsider_adds_one_of_each_with_one_file(tmp_path):
    """A data set, an explainer, an objective, a defence and a kind get into cards, a table and the status page."""
    (tmp_path / "outsider.py").write_text(textwrap.dedent(OUTSIDER))
    environment = {"PATH": "/usr/bin:/bin", "ATEXLIB_RESULTS": str(tmp_path / "results"), "HOME": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", SESSION, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert told.returncode == 0, told.stderr[-3000:]
    assert "patience (more plain training), 1 seed" in told.stdout
    assert "'largest_entry'" in told.stdout
    assert "True True True" in told.stdout
    made = sorted(path.relative_to(tmp_path / "results").as_posix() for path in tmp_path.glob("results/[a-z]*/*"))
    assert "defended/stripes-patience-seed0-smoke.safetensors" in made
    assert "attacks/stripes-brightest-patience-eps0.1-seed0-smoke.json" in made
    assert len(made) == 8


def test_the_register_of_experiments_is_whole():
    assert {"undefended", "defended", "family", "table", "fooling", "repair", "cost"} <= set(experiments.KINDS)
