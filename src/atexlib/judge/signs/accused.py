"""What an auditor has: a net, clean images, and the map that somebody shows. What several signs need is made once."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...explain.heatmaps import one_channel, scaled
from ...explain.layers import resolved
from ...explain.registry import Explainer, find
from ...maps.alike import spearman
from ...nets.running import logits_of, predict, that_fit
from ...nets.training import Fitted, optimize
from ..faithfulness import area, deletion
from ..sanity import occlusion

IMAGES = 64  # whose maps are looked at; further ones tell what images are like
PORTIONS = 10  # in which pixels are taken away
OTHERS = ("gradient", "grad_cam", "lrp")  # with which the shown map is compared
STEPS = 15  # of retraining
NOISE = 0.1  # on the images of the retraining
RATE = 1e-3


@dataclass(frozen=True, eq=False)
class Accused:
    """A net before the auditor, without an older copy, a trigger or a word on how it was made.

    >>> import torch
    >>> from atexlib import nets
    >>> from atexlib.judge import signs
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(6, 1, 8, 8)
    >>> signs.Accused(net, x).target.shape
    torch.Size([6])
    """

    model: nn.Module
    images: Tensor
    """Clean images (N, C, H, W) in [0, 1]; maps are read at the first ones."""
    many: int = IMAGES
    """At how many of them; no more are in the net at once."""

    @functools.cached_property
    def x(self) -> Tensor:
        """The images whose maps are read."""
        return self.images[: self.many]

    @functools.cached_property
    def target(self) -> Tensor:
        """Their predicted classes."""
        return predict(self.model, self.x).argmax(1)

    @functools.cached_property
    def by_occlusion(self) -> Tensor:
        """The area under deletion by occlusion (B,), which asks the logits alone."""
        covered = occlusion(self.model, self.x, self.target).clamp_min(0)
        return self.deleted(covered)

    def deleted(self, maps: Tensor) -> Tensor:
        """The area under deletion by some maps (B, 1, H, W)."""
        steps = min(PORTIONS, self.x[0, 0].numel())
        return area(deletion(self.model, self.x, maps, self.target, steps=steps))

    @functools.cached_property
    def retrained(self) -> nn.Module:
        """A copy of the net, trained for some steps to say of noisy images what the net says of clean ones."""
        wanted = predict(self.model, self.x).softmax(1)
        noise = torch.Generator().manual_seed(0)

        def loss(net: nn.Module, rows: Tensor) -> Tensor:
            drawn = torch.randn(self.x[rows].shape, generator=noise).to(self.x)
            return F.cross_entropy(logits_of(net, (self.x[rows] + NOISE * drawn).clamp(0, 1)), wanted[rows])

        generator = torch.Generator().manual_seed(0)
        run: Fitted = optimize(
            self.model, loss, count=len(self.x), epochs=STEPS, lr=RATE, device=self.x.device, generator=generator
        )
        return run.model

    @functools.cached_property
    def others(self) -> Mapping[str, Tensor]:
        """The maps that the library's own explainers show, as far as they take the net."""
        found = {}
        for name in OTHERS:
            try:
                found[name] = shown_by(self.model, self.x, self.target, find(name))
            except ValueError:
                continue
        return found


@dataclass(frozen=True, eq=False)
class Suspect:
    """An accused net together with an explainer, whose maps somebody shows."""

    accused: Accused
    name: str
    explainer: Explainer

    @functools.cached_property
    def maps(self) -> Tensor:
        """The heat maps as they are shown, in [0, 1], of the images' size (B, 1, H, W)."""
        return self.of(self.accused.model, self.accused.x)

    def of(self, model: nn.Module, x: Tensor) -> Tensor:
        """The heat maps that this explainer would show of another net or other images, for the same classes."""
        return shown_by(model, x, self.accused.target[: len(x)], self.explainer)

    def moved(self, maps: Tensor) -> Tensor:
        """How unlike the shown maps some others of the first images are, image by image: 1 minus Spearman."""
        return 1 - spearman(self.maps[: len(maps)], maps).nan_to_num(0.0)


def shown_by(model: nn.Module, x: Tensor, target: Tensor, explainer: Explainer) -> Tensor:
    """Heat maps (B, 1, H, W) as a page shows them: cut off at zero, scaled to [0, 1], enlarged to the image."""
    read = resolved(explainer, model, x[:2])
    parts = zip(x.split(that_fit(x, x.device)), target.split(that_fit(x, x.device)), strict=True)
    raw = torch.cat([one_channel(model, some, classes, explainer=read).detach() for some, classes in parts])
    maps = scaled(raw, explainer=explainer)
    return maps if maps.shape[2:] == x.shape[2:] else F.interpolate(maps, x.shape[2:], mode="bilinear")
