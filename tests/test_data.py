import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from atexlib import data
from atexlib.data import sets


def write_idx(path, array):
    """The IDX format: two zero bytes, a type code (8: unsigned byte), the number of axes, their sizes, the data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = np.array(array.shape, dtype=">i4").tobytes()
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A made-up MNIST of the published sizes, with its own checksums in place of the published ones."""
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 60_000), ("t10k", 10_000)):
        write_idx(tmp_path / f"MNIST/raw/{prefix}-images-idx3-ubyte", rng.integers(0, 256, (count, 2, 2)))
        write_idx(tmp_path / f"MNIST/raw/{prefix}-labels-idx1-ubyte", rng.integers(0, 10, count))
    sums = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in (tmp_path / "MNIST/raw").iterdir()}
    monkeypatch.setitem(sets._IDX_FILES, "MNIST", sums)
    monkeypatch.setenv("ATEXLIB_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("split", "count"), [("train", 1000), ("validation", 297), ("test", 500)])
def test_digits(split, count):
    digits = data.load("digits", split)
    assert digits.images.shape == (count, 1, 28, 28)
    assert digits.images.dtype == torch.float32
    assert digits.images.min() >= 0
    assert digits.images.max() <= 1
    assert digits.labels.dtype == torch.long
    assert set(digits.labels.tolist()) == set(range(10))


def test_digits_splits_hold_every_image_once():
    pixels = torch.cat([data.load("digits", split).images[:, :, ::4, ::4] for split in data.SPLITS])
    assert len(pixels) == len(load_digits().target)
    whole = torch.cat([data.load("digits", split).images.flatten(1) for split in data.SPLITS])
    assert len(whole.unique(dim=0)) >= len(np.unique(load_digits().data, axis=0))


def test_splits_are_cut_from_the_published_files(root):
    train, validation, test = (data.load("mnist", split) for split in data.SPLITS)
    assert [len(part.labels) for part in (train, validation, test)] == [50_000, 10_000, 10_000]
    raw = np.frombuffer((root / "MNIST/raw/train-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 1, 2, 2)
    joined = torch.cat([train.images, validation.images])
    np.testing.assert_array_equal((joined * 255).round().byte().numpy(), raw)


def test_fingerprint_sees_every_pixel_and_label():
    digits = data.load("digits", "test")
    again = data.load("digits", "test")
    assert digits.fingerprint == again.fingerprint
    images = digits.images.clone()
    images[3, 0, 5, 5] += 0.01
    labels = digits.labels.clone()
    labels[0] += 1
    changed = {data.ImageSet(images, digits.labels, "digits").fingerprint}
    changed.add(data.ImageSet(digits.images, labels, "digits", digits.classes).fingerprint)
    changed.add(digits.fingerprint)
    assert len(changed) == 3


def test_an_altered_file_is_named(root):
    path = root / "MNIST/raw/t10k-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte.*altered; delete it"):
        data.load("mnist", "test")
    assert len(data.load("mnist", "train").labels) == 50_000  # the other split does not rest on that file


def test_a_truncated_file_is_named(root):
    path = root / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.*1,000 bytes.*truncated"):
        data.load("mnist", "train")


def test_a_missing_file_is_named_when_it_cannot_be_downloaded(root, monkeypatch):
    (root / "MNIST/raw/t10k-images-idx3-ubyte").unlink()

    def no_network(self):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", no_network)
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte is missing.*no network.*ATEXLIB_DATA"):
        data.load("mnist", "test")


def picture_tree(path, *, size=(9, 6)):
    rng = np.random.default_rng(0)
    for name, color in {"blue": (0, 0, 255), "red": (255, 0, 0)}.items():
        (path / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.tile(np.array(color, np.uint8), (*size, 1))
            pixels[0, 0] = rng.integers(0, 256, 3)
            Image.fromarray(pixels).save(path / name / f"{i}.png")


def test_load_folder(tmp_path):
    picture_tree(tmp_path)
    images = data.load_folder(tmp_path, size=4)
    assert images.images.shape == (6, 3, 4, 4)
    assert images.classes == ("blue", "red")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.files == tuple(f"{name}/{i}.png" for name in ("blue", "red") for i in range(3))
    assert images.first(2).files == ("blue/0.png", "blue/1.png")
    center = images.images[:, :, 2, 2]
    assert torch.allclose(center, torch.tensor([[0.0, 0, 1]] * 3 + [[1.0, 0, 0]] * 3), atol=0.02)


def test_load_folder_keeps_some_of_each_class(tmp_path):
    picture_tree(tmp_path)
    images = data.load_folder(tmp_path, size=4, per_class=2)
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.files == ("blue/0.png", "blue/1.png", "red/0.png", "red/1.png")
    assert torch.equal(images.images, data.load_folder(tmp_path, size=4).images[[0, 1, 3, 4]])


def test_a_folder_of_pictures_without_classes_is_read_too(tmp_path):
    picture_tree(tmp_path)
    (tmp_path / "red/notes.txt").write_text("no picture")
    images, tree = data.load_folder(tmp_path / "red", size=4, per_class=2), data.load_folder(tmp_path, size=4)
    assert torch.equal(images.images, tree.images[3:5])
    assert (images.labels.tolist(), images.classes, images.files) == ([-1, -1], (), ("0.png", "1.png"))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none is neither a tree of class folders .* nor a folder of pictures"):
        data.load_folder(tmp_path / "none", size=4)


def test_load_folder_names_a_broken_picture(tmp_path):
    picture_tree(tmp_path)
    (tmp_path / "red/1.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"red/1\.png is not a readable picture"):
        data.load_folder(tmp_path, size=4)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_load_folder_refuses_pictures_that_rgb_would_cut_off(tmp_path, kind):
    picture_tree(tmp_path)
    Image.fromarray(np.full((6, 6), 1000, kind)).save(tmp_path / "red/1.tiff")
    with pytest.raises(ValueError, match=r"red/1\.tiff has more than 8 bits a channel \(mode .*\); save it with 8"):
        data.load_folder(tmp_path, size=4)


def test_load_folder_needs_pictures_in_every_class(tmp_path):
    picture_tree(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        data.load_folder(tmp_path, size=4)
    shutil.rmtree(tmp_path / "empty")
    with pytest.raises(ValueError, match="is not a folder"):
        data.load_folder(Path(tmp_path) / "nowhere", size=4)


def test_a_picture_comes_in_as_a_viewer_shows_it(tmp_path):
    """Turned as its EXIF data say, on white where it is transparent; files that are hidden are none."""
    (tmp_path / "a").mkdir()
    half = np.zeros((40, 40, 3), np.uint8)
    half[:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    Image.fromarray(half).save(tmp_path / "a" / "1.png", exif=exif)
    clear = np.zeros((40, 40, 4), np.uint8)
    clear[10:30, 10:30] = (200, 0, 0, 255)
    Image.fromarray(clear, "RGBA").save(tmp_path / "a" / "2.png")
    Image.fromarray(half).convert("P").save(tmp_path / "a" / "3.gif", transparency=0)
    Image.fromarray(np.full((40, 40, 2), (90, 0), np.uint8), "LA").save(tmp_path / "a" / "4.png")
    (tmp_path / "a" / "._5.png").write_bytes(b"not a picture")
    (tmp_path / "a" / "6.gif").write_bytes(b"no extension that is read")
    turned, logo, *others = data.load_folder(tmp_path, size=20).images
    assert turned[:, :, 11:].mean() > 0.9 > 0.1 > turned[:, :, :9].mean()
    assert logo[:, 0, 0].tolist() == [1, 1, 1]
    assert logo[:, 10, 10].tolist() == pytest.approx([200 / 255, 0, 0], abs=0.01)
    assert [picture[:, 0, 0].tolist() for picture in others] == [[1, 1, 1]]
