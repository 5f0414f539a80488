import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import seeded

from atexlib import show
from atexlib.show import Column

pytestmark = pytest.mark.filterwarnings("error")
MAPS = torch.randn(3, 1, 8, 8, generator=seeded())
RGB = torch.rand(3, 3, 8, 8, generator=seeded(1))


@pytest.fixture(autouse=True)
def agg():
    with mpl.rc_context():
        plt.switch_backend("Agg")
        show.style()
        yield
        plt.close("all")


def drawn(picture, kind, limit=None):
    """The pixels and the ends of the colour scale of one picture."""
    _, ax = plt.subplots()
    show.show(ax, picture, kind, limit)
    (image,) = ax.images
    return torch.as_tensor(image.get_array().filled()), image.get_clim()


def test_a_gallery_is_a_grid_of_what_was_asked_for():
    columns = [Column("image", RGB), Column("size", MAPS, "size"), Column("map", MAPS, "signed"), Column("again", RGB)]
    figure = show.gallery(columns, rows=["a", "b", "c"])
    axes = figure.axes
    assert len(axes) == 12
    assert {(ax.get_subplotspec().rowspan.start, ax.get_subplotspec().colspan.start) for ax in axes} == {
        (row, column) for row in range(3) for column in range(4)
    }
    assert [ax.get_title() for ax in axes] == ["image", "size", "map", "again"] + 8 * [""]
    assert [ax.get_ylabel() for ax in axes[::4]] == ["a", "b", "c"]
    assert all(len(ax.images) == 1 and not len(ax.get_xticks()) and not len(ax.get_yticks()) for ax in axes)
    for row, picture in enumerate(MAPS):
        assert torch.equal(torch.as_tensor(axes[4 * row + 2].images[0].get_array().filled()), picture[0])


def test_one_picture_is_a_gallery_too():
    assert len(show.gallery([Column("one", RGB[:1])]).axes) == 1


@pytest.mark.parametrize("picture", [MAPS[0], MAPS[0].abs(), -MAPS[0].abs(), RGB[0] - 0.2])
def test_signed_maps_are_centred_at_zero_and_sizes_start_there(picture):
    shown, (low, high) = drawn(picture, "signed")
    assert torch.equal(shown, picture.sum(0))
    assert low == -high
    assert high == pytest.approx(shown.abs().max().item())
    shown, (low, high) = drawn(picture, "size")
    assert torch.equal(shown, picture.abs().amax(0))
    assert (low, high) == (0, pytest.approx(shown.max().item()))


@pytest.mark.parametrize(("kind", "ends"), [("signed", (-5, 5)), ("size", (0, 5))])
def test_a_limit_is_the_end_of_the_scale(kind, ends):
    assert drawn(MAPS[0], kind, 5.0)[1] == ends


@pytest.mark.parametrize(("kind", "ends"), [("signed", (-1, 1)), ("size", (0, 1)), ("image", (0, 1))])
def test_a_map_of_zeros_is_drawn(kind, ends):
    shown, limits = drawn(torch.zeros(1, 8, 8), kind)
    assert not shown.any()
    assert limits == ends


def test_images_keep_their_brightness():
    grey = 0.3 + 0.1 * RGB[0, :1]
    shown, limits = drawn(grey, "image")
    assert torch.equal(shown, grey[0])
    assert limits == (0, 1)
    assert torch.equal(drawn(RGB[0], "image")[0], RGB[0].permute(1, 2, 0))


def test_a_map_with_a_graph_in_float64_is_drawn():
    assert torch.equal(drawn(MAPS[0].double().requires_grad_(), "signed")[0], MAPS[0, 0])


@pytest.mark.parametrize("kind", show.CMAPS)
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_gallery_can_be_saved_with_its_note(kind, ending):
    figure = show.gallery([Column("φ(x), |φ|₁", MAPS.sigmoid(), kind)], note="digits; preset smoke; seed 0; cpu")
    assert figure.get_supxlabel() == "digits; preset smoke; seed 0; cpu"
    file = io.BytesIO()
    figure.savefig(file, format=ending)
    assert len(file.getvalue()) > 1000


def test_a_figure_without_a_note_has_no_foot():
    assert show.gallery([Column("map", MAPS)]).get_supxlabel() == ""


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_images_of_any_number_of_channels_are_drawn(channels):
    picture = torch.rand(channels, 6, 6)
    figure, ax = plt.subplots()
    show.show(ax, picture)
    np.testing.assert_allclose(ax.images[0].get_array(), picture.mean(0), rtol=1e-6)
    plt.close(figure)
