"""Any picture, number, folder and setting as they come (kinds G, H, I and J of issue 21)."""

import dataclasses
import os
import subprocess
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
import torch
from conftest import objective_of, seeded
from entries import AUDIT, LABELS, READERS, TRAINERS, Around, audited, body
from PIL import Image, ImageOps
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import atexlib
from atexlib import attack, chapters, checks, data, explain, judge, maps, show
from atexlib.experiments.engine import store
from atexlib.experiments.subjects import nets as subjects
from atexlib.judge import report

ROOT = Path(__file__).parents[1]


@pytest.fixture
def x():
    return 0.05 + 0.9 * torch.rand(3, 1, 8, 8, generator=seeded(1))


# G. Numbers of any type and size


def pair(shape=(2, 1, 12, 12)):
    a = torch.randn(shape, generator=seeded(2))
    return a, a + 0.3 * torch.randn(shape, generator=seeded(3))


SHAPES = {
    "normalize max": lambda a: maps.normalize(a).flatten(1).amax(1),
    "normalize l1": lambda a: maps.normalize(a, by="l1").flatten(1).sum(1),
    "mass_on": lambda a: maps.mass_on(a, torch.arange(a.shape[2]).view(-1, 1).expand_as(a) < 4),
    "total_variation": maps.total_variation,
    "center_of_mass": maps.center_of_mass,
}
TWO = {
    "spearman": maps.spearman,
    "kendall": maps.kendall,
    "topk": lambda a, b: maps.topk_intersection(a, b, 9),
    "lens": lambda a, b: maps.lens_topk(a, b, 9),
    "ssim": lambda a, b: maps.ssim(maps.normalize(a), maps.normalize(b)),
}
SCALES = {"float16": (torch.float16, 6e-6), "bfloat16": (torch.bfloat16, 1e-30), "float32": (torch.float32, 1e-33),
          "large": (torch.float32, 1e36), "double": (torch.float64, 1e-300)}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("case", SCALES)
def test_shapes_of_maps_do_not_depend_on_their_scale_and_type(case, name):
    dtype, scale = SCALES[case]
    a = torch.rand(2, 1, 12, 12, generator=seeded(2), dtype=torch.float64)
    found = SHAPES[name]((a * scale).to(dtype))
    assert found.dtype in (torch.float32, torch.float64)
    rough = 0.02 if dtype in (torch.float16, torch.bfloat16) else 1e-5
    assert torch.allclose(found.double(), SHAPES[name](a), rtol=rough, atol=rough)


@pytest.mark.parametrize("name", SHAPES)
def test_large_maps_in_half_precision_do_not_overflow(name):
    big = torch.rand(1, 3, 512, 512, generator=seeded(2)).half()
    assert torch.allclose(SHAPES[name](big), SHAPES[name](big.float()), rtol=1e-3)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("case", SCALES)
def test_measures_of_two_maps_are_those_of_exact_numbers(case, name):
    dtype, scale = SCALES[case]
    a, b = ((values * scale).to(dtype) for values in (v.double() for v in pair()))
    exact = [values.double() / values.double().abs().max() for values in (a, b)]
    assert torch.allclose(TWO[name](a, b), TWO[name](*exact), atol=1e-6)


@pytest.mark.parametrize("name", attack.OBJECTIVES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_objectives_score_maps_in_half_precision(name, dtype):
    images = torch.rand(2, 1, 12, 12, generator=seeded(4))
    a, b = ((values * 1e-3).to(dtype) for values in pair())
    chosen = objective_of(name, images)
    assert torch.allclose(chosen(a)(b).float(), chosen(a.float())(b.float()), atol=2e-2)


class Away(TorchFunctionMode):
    """As if some images lay on a device without float64; `.cpu()` brings a tensor home."""

    def __init__(self, *tensors):
        super().__init__()
        self.away, self.found = list(tensors), []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "cpu":
            return out.clone()
        if name != "numpy" and {*map(id, tree_leaves((args, kwargs)))} & {*map(id, self.away)}:
            made = [value for value in tree_leaves(out) if isinstance(value, torch.Tensor)]
            self.away += made
            self.found += [name for value in made if value.dtype == torch.float64]
        return out


HERE = {
    "accuracy": lambda net, x: READERS["accuracy"](net, x),
    "fgsm": READERS["fgsm"],
    "pgd": READERS["pgd"],
    "manipulate": READERS["manipulate"],
    "average_case": READERS["average_case"],
    "max_min": READERS["max_min"],
    "deletion": READERS["deletion"],
    "audit": audited,
    "fit": TRAINERS["fit"],
    "fool": TRAINERS["fool"],
    "success": lambda net, x: attack.success(net, net, x, LABELS, loss="topk", explainer="gradient"),
    **{name: READERS[name] for name in explain.EXPLAINERS},
    **{name: lambda net, x, call=call: call(x, x.flip(0)) for name, call in TWO.items()},
    **{name: lambda net, x, call=call: call(x) for name, call in SHAPES.items()},
}


@pytest.mark.parametrize("name", HERE)
def test_nothing_needs_float64_where_the_images_are(name, x):
    with Away(x) as mode:
        HERE[name](body(), x)
    assert mode.found == []


# H. Pictures and folders


def saved(folder, name, picture, **options):
    (folder / "a").mkdir(exist_ok=True)
    picture.save(folder / "a" / name, **options)


def half(mode="RGB"):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30] = (200, 40, 90)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_pictures_stand_as_viewers_show_them(suffix, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    saved(tmp_path, f"1.{suffix}", half(), exif=exif)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a" / f"1.{suffix}"))
    saved(tmp_path, "2.png", upright.convert("RGB"))
    first, second = data.load_folder(tmp_path, size=20).images
    assert torch.allclose(first, second, atol=0.02)


MODES = {"L": 0.35, "1": 0.5, "P": 0.02, "CMYK": 0.02, "YCbCr": 0.02, "RGBA": 0.02, "LA": 0.35}


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_mode_come_in_as_they_look(mode, tmp_path):
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    picture = half("L").convert("LA") if mode == "LA" else half(mode)
    saved(tmp_path, f"1.{suffix}", picture, **({"quality": 100} if suffix == "jpg" else {}))
    saved(tmp_path, "2.png", half("1" if mode == "1" else "L" if mode in ("L", "LA") else "RGB"))
    first, second = data.load_folder(tmp_path, size=20).images
    assert (first - second).abs().mean() < 0.02


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "colour"])
def test_what_is_transparent_is_white(kind, tmp_path):
    clear = np.zeros((40, 40, 4), np.uint8)
    clear[10:30, 10:30] = (200, 0, 0, 255)
    picture, options = Image.fromarray(clear, "RGBA"), {}
    if kind == "LA":
        picture = picture.convert("LA")
    elif kind == "palette":
        picture, options = Image.fromarray(clear[..., :3]).convert("P", palette=Image.Palette.ADAPTIVE), {}
        options = {"transparency": picture.getpixel((0, 0))}
    elif kind == "colour":
        picture, options = Image.fromarray(clear[..., :3]), {"transparency": (0, 0, 0)}
    saved(tmp_path, "1.png", picture, **options)
    (image,) = data.load_folder(tmp_path, size=20).images
    assert image[:, 0, 0].tolist() == [1, 1, 1]
    assert image[:, 10, 10].mean() < 0.5


def test_half_transparent_pixels_are_laid_on_white(tmp_path):
    saved(tmp_path, "1.png", Image.new("RGBA", (20, 20), (0, 0, 0, 128)))
    assert data.load_folder(tmp_path, size=10).images.mean() == pytest.approx(127 / 255, abs=0.01)


DEEP = {"uint16": Image.fromarray(np.full((20, 20), 40_000, np.uint16)), "int32": Image.new("I", (9, 9), 70_000)}


@pytest.mark.parametrize("make", DEEP.values(), ids=DEEP)
def test_sixteen_bits_are_refused(make, tmp_path):
    saved(tmp_path, "1.png", make)
    with pytest.raises(ValueError, match=r"1\.png has more than 8 bits a channel.*save it with 8 bits"):
        data.load_folder(tmp_path, size=10)


def test_hidden_files_and_folders_are_left_out(tmp_path):
    saved(tmp_path, "1.PNG", half())
    for hidden in ("a/._1.png", "a/.DS_Store", "a/.2.jpg", ".DS_Store", "Thumbs.db", "a/Thumbs.db", "a/notes.txt"):
        (tmp_path / hidden).write_bytes(b"no picture")
    for hidden in (".ipynb_checkpoints", ".git", "a/.thumbnails"):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / "1.png").write_bytes(b"no picture")
    found = data.load_folder(tmp_path, size=10)
    assert (len(found.images), found.classes) == (1, ("a",))


def test_a_folder_may_be_named_from_home(tmp_path, monkeypatch):
    folder = tmp_path / "My Pictures, 2nd"
    folder.mkdir()
    saved(folder, "1.png", half())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(data.load_folder("~/My Pictures, 2nd", size=10).images) == 1


@pytest.mark.parametrize("channels", range(1, 7))
def test_any_number_of_channels_is_drawn(channels, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.Softplus(5), nn.Flatten(), nn.Linear(256, 3))
    x = torch.rand(2, channels, 8, 8, generator=seeded(1))
    found = audited(net, x, ["gradient", "grad_cam", "lrp"])
    for name in ("audit.html", "audit.md"):
        assert report.save(found, tmp_path / name).stat().st_size > 0
    figure, ax = show.plotting.plt.subplots()
    show.show(ax, x[0])
    drawn = np.asarray(ax.images[0].get_array())
    show.plotting.plt.close(figure)
    wanted = x[0].permute(1, 2, 0) if channels == 3 else x[0].mean(0)
    assert np.allclose(drawn, wanted.numpy(), atol=1e-6)


INSIDE = {name: READERS[name] for name in ("manipulate", "audit", "pgd", "fgsm", "average_case", "max_min")}
INSIDE |= {name: TRAINERS[name] for name in ("naive", "adversarial", "refreshed")}


@pytest.mark.parametrize("off", [-2.98e-8, 1 + 1.2e-7, 1 + 5e-7])
@pytest.mark.parametrize("name", INSIDE)
def test_a_rounding_step_outside_the_bounds_is_let_through(name, off, x):
    x[0, 0, 0, 0] = off
    before = x.clone()
    found = INSIDE[name](body(), x)
    assert torch.equal(x, before)
    images = getattr(found, "x", found if isinstance(found, torch.Tensor) else None)
    if images is not None:
        assert images.min() >= 0
        assert images.max() <= 1
    if name == "manipulate":
        assert (found.distance <= 0.1).all()


@pytest.mark.parametrize("off", [-1e-3, 1.01, 255.0])
@pytest.mark.parametrize("name", INSIDE)
def test_what_lies_further_outside_is_refused_with_a_remedy(name, off, x):
    x[0, 0, 0, 0] = off
    with pytest.raises(ValueError, match=r"outside \(0(\.0)?, 1(\.0)?\).*\.clamp\(0(\.0)?, 1(\.0)?\)"):
        INSIDE[name](body(), x)


def test_undoing_a_normalisation_does_not_stop_an_attack():
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = (torch.rand(2, 3, 8, 8, generator=seeded(1)) * 255).round() / 255
    x[0, :, 0], x[0, :, 1] = 0, 1
    z = ((x - mean) / std + mean / std) * std
    assert not torch.equal(z, z.clamp(0, 1))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Softplus(5), nn.Flatten(), nn.Linear(256, 3))
    found = attack.manipulate(net, z, attack.Distance(), eps=8 / 255, steps=2)
    assert found.x.min() >= 0
    assert found.x.max() <= 1
    audited(net, z)


# I. Settings and paths


def make_says(folder, value, home):
    """What `make` exports as ATEXLIB_DATA."""
    (folder / "show.mk").write_text(f"include {ROOT}/Makefile\nshow:\n\t@printf '%s' \"$$ATEXLIB_DATA\"\n")
    environment = {**os.environ, "ATEXLIB_DATA": value, "HOME": str(home)}
    command = ["make", "-s", "-C", str(ROOT), "-f", str(folder / "show.mk"), "show"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["data", "My Data", "two  spaces", "it's mine", "a(b)c", "ä & b", "semi;colon"])
def test_make_hands_on_a_path_as_it_is(name, tmp_path):
    assert make_says(tmp_path, str(tmp_path / name), tmp_path) == str(tmp_path / name)


@pytest.mark.parametrize("value", ["~/My Data", "~"])
def test_make_knows_the_home_folder(value, tmp_path):
    assert make_says(tmp_path, value, tmp_path) == value.replace("~", str(tmp_path))


def test_make_makes_a_path_absolute(tmp_path):
    assert make_says(tmp_path, "My Data", tmp_path) == str(ROOT / "My Data")


def test_the_data_may_lie_under_a_home_folder_with_spaces(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setenv("HOME", str(tmp_path / "Jane Doe"))
    watched = dataclasses.replace(data.DATASETS["digits"], read=lambda split, root: seen.append(root))
    monkeypatch.setitem(data.DATASETS, "digits", watched)
    data.load("digits", "test", root="~/My Data")
    monkeypatch.setenv("ATEXLIB_DATA", "~/My Data")
    data.load("digits", "test")
    assert seen == [tmp_path / "Jane Doe" / "My Data"] * 2


def test_reports_and_results_may_lie_under_home(tmp_path, monkeypatch, x):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = report.save(audited(body(), x, ["gradient"]), "~/my audit.html")
    assert path == tmp_path / "my audit.html"
    assert path.exists()
    monkeypatch.setenv("ATEXLIB_RESULTS", "~/my results")
    assert store.place("a") == tmp_path / "my results" / "a"


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu")])
def test_devices_are_known_as_torch_knows_them(device, monkeypatch):
    monkeypatch.setattr(subjects, "undefended", lambda _, place: (body().to(place.device), {}))  # training takes long
    assert checks.device(device) == torch.device(device)
    assert chapters.begin(preset="smoke", dataset="digits", device=device, seed=0).images.device.type == "cpu"


@pytest.mark.parametrize("device", ["cuda:7", "mps", "tpu", "gpu"])
def test_a_device_that_is_not_here_is_named(device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match=f"device is '{device}', which cannot be used here"):
        chapters.begin(preset="smoke", dataset="digits", device=device, seed=0)


SAID = {
    "1": True,
    "True": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "False": False,
    "no": False,
    "": False,
}


@pytest.mark.parametrize("word", SAID)
def test_a_switch_may_be_said_in_any_word(word, monkeypatch):
    monkeypatch.setenv("ATEXLIB_RECOMPUTE", word)
    values = {}
    exec(parameters_cell(), values)
    assert checks.switch("recompute", values["recompute"]) is SAID[word]
    assert checks.switch("recompute", SAID[word]) is SAID[word]


@pytest.mark.parametrize("word", ["maybe", "2", "None", 1, None])
def test_another_word_is_refused(word):
    with pytest.raises(ValueError, match=r"recompute is .*; pass True or False"):
        chapters.begin(preset="smoke", dataset="digits", device="cpu", seed=0, recompute=word)


def parameters_cell():
    cells = nbformat.read(ROOT / "notebooks" / "02_manipulating_inputs.ipynb", 4).cells
    (cell,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    return cell.source


def test_papermill_reads_every_parameter():
    for path in sorted((ROOT / "notebooks").glob("**/[0-9]*.ipynb")):
        found = papermill.inspect_notebook(str(path))
        assert {"preset", "dataset", "device", "seed", "recompute"} <= found.keys(), path.name


# J. A default that is right at one scale only


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e-2, 0.05])
def test_ssim_of_raw_maps_is_refused_with_the_remedy(scale):
    a, b = pair()
    a, b = (values / values.abs().max() * scale for values in (a, b))
    with pytest.raises(ValueError, match=r"normalise them \(maps\.normalize\), or pass the data_range"):
        maps.ssim(a, b)
    assert maps.ssim(a, b, data_range=2 * scale).isfinite().all()


def test_ssim_of_maps_that_use_more_than_the_range_is_refused():
    a, b = pair()
    with pytest.raises(ValueError, match=r"normalise them \(maps\.normalize\), or pass the data_range"):
        maps.ssim(50 * a, 50 * b)
    assert maps.ssim(50 * a, 50 * b, data_range=300).isfinite().all()


def test_ssim_does_not_depend_on_scale_where_the_range_is_said():
    a, b = pair()
    values = [maps.ssim(a * scale, b * scale, data_range=6 * scale) for scale in (1e-6, 1, 1e6)]
    assert torch.allclose(values[0], values[1], atol=1e-6)
    assert torch.allclose(values[2], values[1], atol=1e-6)


def test_maps_of_two_classes_are_not_alike(x):
    net = Around(after=lambda z: z / 100)
    a, b = explain.gradient(net, x, 0), explain.gradient(net, x, 1)
    with pytest.raises(ValueError, match="normalise"):
        maps.ssim(a, b)
    assert maps.ssim(maps.normalize(a), maps.normalize(b)).mean() < 0.9


def test_constant_and_equal_maps_have_a_ssim():
    flat = torch.full((1, 1, 8, 8), 0.5)
    assert maps.ssim(flat, flat).item() == pytest.approx(1)
    assert maps.ssim(0 * flat, 0 * flat).item() == pytest.approx(1)


def test_an_audit_of_a_net_of_tiny_maps_is_that_of_one_of_large_ones(x):
    first, second = (
        atexlib.audit(Around(after=lambda z, s=s: z * s), x, LABELS, explainers=["gradient"], **AUDIT).table
        for s in (1.0, 2.0**-12)
    )
    assert first["ssim"].tolist() == second["ssim"].tolist()
    assert judge.area(torch.ones(1, 3)).item() == 1
