"""Times the three metrics against SciPy's and scikit-image's loops on 256 pairs of maps: equality first, then ratios.

Run: `python benchmarks/metrics_speed.py`. It exits with an error where a value differs by more than 1e-6 or where the
library is less than four times as fast.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from atexlib.maps import alike


def ratio(peer: Callable[[], object], ours: Callable[[], object], turns: int = 15) -> float:
    """The peer's time over ours: both take turns, the median over the turns."""

    def seconds(run: Callable[[], object]) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return float(np.median([seconds(peer) / seconds(ours) for _ in range(turns)]))


def topk_loop(a: np.ndarray, b: np.ndarray, k: int = 50) -> list[float]:
    """Top-k intersection, image by image, as one would write it with NumPy's sets."""
    tops = [[np.argsort(image.ravel())[-k:] for image in images] for images in (a, b)]
    return [len(np.intersect1d(p, q)) / k for p, q in zip(*tops, strict=True)]


def main() -> None:
    """Print a table: metric, largest difference, the peer's time over ours."""
    generator = torch.Generator().manual_seed(0)
    a = torch.rand((256, 1, 28, 28), generator=generator)
    b = (0.5 * a + 0.5 * torch.rand(a.shape, generator=generator)).clamp_min(0.3)  # many ties
    x, y = a[:, 0].double().numpy(), b[:, 0].double().numpy()
    rows = {
        "spearman": (
            lambda: alike.spearman(a, b),
            lambda: [spearmanr(p.ravel(), q.ravel()).statistic for p, q in zip(x, y, strict=True)],
        ),
        "topk_intersection": (lambda: alike.topk_intersection(a, b), lambda: topk_loop(x, y)),
        "ssim": (
            lambda: alike.ssim(a, b),
            lambda: [structural_similarity(p, q, data_range=1.0) for p, q in zip(x, y, strict=True)],
        ),
    }
    failed = False
    print(f"{'metric':<20}{'largest difference':>20}{'peer / ours':>14}")
    for name, (ours, peer) in rows.items():
        difference = np.abs(ours().numpy() - np.array(peer())).max()
        faster = ratio(peer, ours)
        failed |= bool(difference > 1e-6) or faster < 4
        print(f"{name:<20}{difference:>20.1e}{faster:>13.1f}x")
    sys.exit("slower than promised, or unequal" if failed else 0)


if __name__ == "__main__":
    main()
