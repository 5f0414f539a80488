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


# Large maps


def large(side=80):
    """A faint map of 80 pixels a side, with one giant pixel."""
    faint = torch.randn(1, side, side, generator=seeded(2))
    giant = faint.clone()
    giant[0, 5, 7] = 1e4
    return faint, giant


@pytest.mark.parametrize("kind", ["size", "signed"])
def test_a_large_map_with_one_giant_pixel_is_still_seen(kind):
    faint, giant = large()
    for shown, (_, high) in (drawn(picture, kind) for picture in (faint, giant)):
        bright = (shown.abs() > 0.3 * high).double().mean()
        assert bright > 0.2
    assert drawn(giant, kind)[1][1] == pytest.approx(drawn(faint, kind)[1][1], rel=0.3)


def test_what_is_drawn_of_a_large_map_is_what_the_note_says():
    picture = torch.randn(3, 80, 70, generator=seeded(3))
    for kind, values in {"size": picture.abs().amax(0), "signed": picture.sum(0)}.items():
        shown, (low, high) = drawn(picture, kind)
        for i, j in ((40, 40), (0, 0), (79, 35), (1, 69)):  # where the window leaves the map, the mean is of the rest
            around = values[max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3]
            assert shown[i, j] == pytest.approx(around.mean().item(), abs=1e-5)
        assert high == pytest.approx(np.percentile(shown.abs(), 99.5), rel=1e-4)
        assert low == (0 if kind == "size" else -high)
        note = show.gallery([Column("map", picture[None], kind)], note="digits").get_supxlabel()
        assert note == "digits\nmaps: means of 5 x 5 pixels, colours end at the 99.5th percentile"


def test_a_large_map_with_a_limit_and_a_large_image_are_drawn_pixel_by_pixel():
    _, giant = large()
    shown, ends = drawn(giant, "signed", 2.0)
    assert torch.equal(shown, giant[0])
    assert ends == (-2, 2)
    photograph = torch.rand(3, 80, 80, generator=seeded(4))
    assert torch.equal(drawn(photograph, "image")[0], photograph.permute(1, 2, 0))
    figure = show.gallery([Column("image", photograph[None]), Column("change", giant[None], "signed", 2.0)], note="n")
    assert figure.get_supxlabel() == "n"


@pytest.mark.parametrize("side", [28, 64])
def test_a_map_that_is_not_large_is_drawn_pixel_by_pixel(side):
    _, giant = large(side)
    shown, ends = drawn(giant, "size")
    assert torch.equal(shown, giant[0].abs())
    assert ends == (0, 1e4)
    assert show.gallery([Column("map", giant[None], "size")], note="n").get_supxlabel() == "n"


def test_a_large_map_of_few_entries_is_drawn_up_to_its_largest():
    picture = torch.zeros(1, 80, 80)
    picture[0, 40, 40] = 25.0
    shown, (_, high) = drawn(picture, "size")
    assert high == 1
    assert shown[40, 40] == 1


def test_a_map_lies_over_its_photograph_in_grey():
    photograph, sizes = torch.full((3, 8, 8), 0.5), torch.zeros(1, 8, 8)
    sizes[0, 2, 2] = 4.0
    figure = show.gallery([Column("map", sizes[None], "size", over=photograph[None])])
    colours, bar = torch.as_tensor(figure.axes[0].images[0].get_array().filled()), figure.axes[1]
    dark, bright = (torch.tensor(plt.get_cmap("magma")(end)[:3]) for end in (0.0, 1.0))
    grey = torch.full((3,), plt.get_cmap("gray")(0.5)[0])
    assert torch.allclose(colours[0, 0], 0.65 * grey + 0.35 * dark, atol=1e-6)
    assert torch.allclose(colours[2, 2], 0.2 * grey + 0.8 * bright, atol=1e-6)
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "end"]


def test_only_sizes_lie_over_a_photograph_as_large_as_they_are():
    _, ax = plt.subplots()
    for picture, kind in ((MAPS[0], "signed"), (RGB[0], "image"), (MAPS[0, :, :4], "size")):
        with pytest.raises(ValueError, match="lay sizes over a photograph as large as the map"):
            show.show(ax, picture, kind, over=RGB[0])
