"""`python -m atexlib run`: train a net and write it among the committed ones, without a notebook."""

import argparse
import time

import torch

from . import checks, data, experiments, training


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run it."""
    parser = argparse.ArgumentParser(prog="python -m atexlib", description=__doc__)
    run = parser.add_subparsers(dest="command", required=True).add_parser("run", help="train a net and write it")
    run.add_argument("--dataset", choices=data.DATASETS, required=True)
    run.add_argument("--preset", choices=experiments.PRESETS, required=True)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--device", default="cpu")
    run.add_argument("--recompute", action="store_true", help="train even if the net is there")
    options = parser.parse_args(arguments)
    checks.count("--seed", options.seed, low=0)
    checks.device(options.device)
    path = experiments.net_path(dataset=options.dataset, defense="none", seed=options.seed, preset=options.preset)
    if path.exists() and not options.recompute:
        print(f"{path} is there; pass --recompute to train it again.")
        return
    start = time.perf_counter()
    fitted = experiments.train(
        dataset=options.dataset, seed=options.seed, preset=options.preset, device=options.device, progress=True
    )
    seconds = time.perf_counter() - start
    test = data.load(options.dataset, "test")
    facts = {
        "dataset": options.dataset,
        "preset": options.preset,
        "seed": options.seed,
        "best_epoch": fitted.best_epoch,
        "validation_accuracy": fitted.history[fitted.best_epoch - 1]["accuracy"],
        "test_accuracy": training.accuracy(fitted.model, test.images, test.labels),
        "test_fingerprint": test.fingerprint,
        "torch": torch.__version__,
        "device": options.device,
        "seconds": round(seconds, 1),
    }
    experiments.save_net(fitted.model, path, facts)
    print(f"{path}: {facts}")


if __name__ == "__main__":
    main()
