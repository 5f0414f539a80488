"""The boxes "What we found" of the chapters that rest on cards: each number is read when the page is made."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...detect import DETECTORS
from ..subjects.nets import TREATED
from . import claims_fooling, pages, report, verdicts, words
from .claims import METRICS, PAPER_DATA
from .claims_fooling import DATA, FOOLED, LOSSES
from .claims_ours import BAR
from .claims_predictions import MOST, efficacy, maps
from .figures import CLAIMS, against_none, checklist, front_in_words, leaderboard, noise_in_words
from .words import Box, compared

EPS = (0.05, 0.1)
TABLE_EPS = 0.06
Spec = dict[str, Any]


def naive(*, dataset: str = DATA) -> Box:
    """Chapter 5: the naive defence against none, a smooth target against its own, and what a batch costs."""
    where: Spec = {"kind": "table", "dataset": dataset, "attack": "untargeted", "eps": TABLE_EPS}
    said = _against(where, "defense", {"naive": "the naive defence", "none": "no defence"}, METRICS, eps=TABLE_EPS)
    trials: Spec = {"kind": "variants", "dataset": dataset}
    names = {"naive: weight 4": "the naive defence as it is"}
    for variant, title in {
        "SmoothGrad target": "a SmoothGrad target",
        "one step of ascent": "one step of ascent",
    }.items():
        for eps in EPS:
            pair = {f"naive: {variant}": title} | names
            said += _against(trials, "variant", pair, [f"{metric} {eps}" for metric in METRICS], eps=eps, price=False)
    seconds = pages.costs().filter(like="s a batch")
    ratios = (seconds.loc["naive, 1"] / seconds.loc["plain"]).tolist()
    said.append(f"A batch of the naive defence with one neighbour takes {min(ratios):.1f} to {max(ratios):.1f} times "
                "as long as one of plain training, by the size of the image.")  # fmt: skip
    note = f"{report.origin(**where, defense='naive')}; targets: one net each, {pages.origin('variants')}"
    return Box(said, note)


def atex(*, dataset: str = DATA) -> Box:
    """Chapter 6: ATEX against no training, against itself without the projection, and against blunter units."""
    where: Spec = {"kind": "variants", "dataset": dataset}
    wide, said = "atex: eps 0.6", []
    for rival, title in {
        "no training": "no training",
        "free: eps 0.6": "the same training without the projection",
    }.items():
        for eps in EPS:
            names = {wide: "ATEX, wide", rival: title}
            said += _against(where, "variant", names, [f"{metric} {eps}" for metric in METRICS], eps=eps, price=False)
    small = {"atex: eps 0.1": "ATEX at the radius 0.1", "no training": "no training"}
    said += _against(where, "variant", small, [f"spearman {EPS[1]}"], eps=EPS[1], price=False)
    return Box(said, f"one net each, intervals over images; {pages.origin('variants', dataset=dataset)}")


def judged(*, dataset: str = DATA, claims: Sequence[str] = ("T1", "T2", "T3", "T4", "T5", "T6", "T13")) -> Box:
    """Chapter 7: the words of the verdicts, and ATEX against its rivals under the worst of seven attacks."""
    sorts: dict[str, list[str]] = {}
    for name in claims:
        sorts.setdefault(verdicts.verdict(CLAIMS[name].cells("atex").values()), []).append(name)
    said = [f"{verdict.capitalize()}: {', '.join(names)}." for verdict, names in sorts.items()]
    said += [*noise_in_words(dataset=dataset, eps=EPS[0]).sentences, *checklist(dataset=dataset).said.sentences]
    for first, second, sizes in (
        ("atex", "naive", EPS),
        ("atex", "atex_free", EPS),
        ("atex", "beta", EPS),
        ("atex_0.1", "none", EPS[1:]),
    ):
        names = {name: TREATED[name].label for name in (first, second)}
        for eps in sizes:
            where: Spec = {"kind": "worst", "dataset": dataset, "eps": eps}
            said += _against(where, "defense", names, METRICS, eps=eps, price=False)
    said += [bar(name, dataset=dataset) for name in ("own", "own_long")]
    return Box(
        said, f"worst of seven attacks: {report.origin(kind='worst', dataset=dataset, defense='none', eps=EPS[1])}"
    )


def bar(defense: str, *, dataset: str = DATA) -> str:
    """Which parts of the bar for a defence of ours are met by one, and by how much the others are missed."""
    where: Spec = {"kind": "worst", "dataset": dataset}
    missed, met = [], 0
    for (metric, eps), wanted in BAR.items():
        pair = [{**where, "defense": name, "eps": eps} for name in ("none", defense)]
        closed = verdicts.gap_closed(f"two {metric}", *pair)
        if closed is None:
            return f"{TREATED[defense].label}: not run."
        met += closed.mean >= wanted
        if closed.mean < wanted:
            missed.append(f"{report.label(metric)} at eps {eps:g} by {wanted - closed.mean:.3f}")
    lost = verdicts.difference("accuracy", *({**where, "defense": name, "eps": EPS[0]} for name in ("none", defense)))
    misses = f"; it misses {' and '.join(missed)}" if missed else ""
    seeds = report.seeds([{**where, "defense": defense, "eps": EPS[0]}])
    price = f" {words.price(lost).capitalize()}." if lost is not None else ""
    return (
        f"{TREATED[defense].label}{seeds}: {met} of {len(BAR)} parts of the bar are met, by the means{misses}.{price}"
    )


def smoother(*, datasets: Sequence[str] = PAPER_DATA) -> Box:
    """Chapter 8: the two verdicts, and for each data set ATEX against none and against as much plain training."""
    said = [_verdict(name) for name in ("T7", "T8")]
    measures = {"ssim max": "SSIM to SmoothGrad", "variation": "total variation", "mass": "mass on the object"}
    measures |= {"deletion": "area of deletion"}
    for dataset in datasets:
        after = maps(dataset, "atex", MOST)
        rivals = {"no ATEX": maps(dataset, "atex", 0), "as much plain training": maps(dataset, "plain", MOST)}
        for metric, title in measures.items():
            for name, rival in rivals.items():
                gap = verdicts.difference(metric, after, rival)
                said.append(compared(f"{dataset}, {title}", f"ATEX, {MOST} iterations,", name, gap))
    return Box(said, _origins(maps(name, "atex", MOST) for name in datasets))


def predictions(*, datasets: Sequence[str] = PAPER_DATA) -> Box:
    """Chapter 9: the verdicts, and for each data set what ATEX adds to adversarial training."""
    said = [_verdict(name) for name in ("T9", "T10", "T11", "T12", "T14")]
    titles = {"before": "accuracy under FGSM before adversarial training"}
    titles |= {"fgsm": "accuracy under a new round of FGSM after it", "pgd": "accuracy under PGD after it"}
    for dataset in datasets:
        after, none = efficacy(dataset, "atex", MOST), efficacy(dataset, "atex", 0)
        for metric, title in titles.items():
            gap = verdicts.difference(metric, after, none)
            said.append(compared(f"{dataset}, {title}", f"ATEX, {MOST} iterations,", "no ATEX", gap))
        gap = verdicts.difference("fgsm", after, efficacy(dataset, "plain", MOST))
        said.append(
            compared(f"{dataset}, {titles['fgsm']}", f"ATEX, {MOST} iterations,", "as much plain training", gap)
        )
    return Box(said, _origins(efficacy(name, "atex", MOST) for name in datasets))


def passive() -> Box:
    """Chapter 10: the verdicts, and the cells of the grid in which most images are fooled."""
    losses = [loss for loss in LOSSES if loss != "active"]
    return Box([_verdict(name) for name in ("F1", "F2", "F3")] + _rates(losses), _grid_origin(losses))


def active() -> Box:
    """Chapter 11: the verdict, and the success of each cell of the grid, net by net."""
    said = [_verdict("F5")]
    for label, spec in claims_fooling.grid(("active",)):
        rates = [f"{values.nanmean():.2f}" for values in verdicts.per_image("success", **spec).values()]
        said += [f"{label.removesuffix(', active')}: success {' and '.join(rates)}, by seed."] if rates else []
    return Box(said, _grid_origin(("active",)))


def transfer(*, dataset: str = DATA) -> Box:
    """Chapter 12: the verdict on transfer, how far defended nets resist, and what each treatment repairs."""
    said = [_verdict("F4")]
    where: Spec = {"kind": "repair", "dataset": dataset, "treatment": "none"}
    for explainer in ("gradient", "grad_cam"):
        for defense in ("naive", "atex"):
            names = {defense: report.label(defense), "none": "no defence"}
            said += _against(
                where | {"explainer": explainer}, "defense", names, ["success"], title=explainer, price=False
            )
        dead = ["dead"] if explainer == "grad_cam" else []  # a gradient never dies
        treated: Spec = {"kind": "repair", "dataset": dataset, "explainer": explainer, "defense": "none"}
        for treatment in ("naive", "atex"):
            names = {treatment: f"treatment by {treatment}", "fine-tuning": "plain fine-tuning"}
            said += _against(treated, "treatment", names, ["spearman", *dead], title=explainer, price=False)
    return Box(said, report.origin(**where, explainer="gradient", defense="none"))


def detecting(*, dataset: str = DATA, eps: float = 0.1, defenses: Sequence[str] = ("none", "own")) -> Box:
    """Chapter 15: which detector catches what, what it takes for merely unusual, and what knowing it takes."""
    said, notes = [], []
    for defense in defenses:
        where: Spec = {"kind": "detection", "dataset": dataset, "defense": defense, "eps": eps}
        notes.append(report.origin(**where))
        title = report.label(defense)
        for group, called in {"distance": "Distance", "noise": "noise", "adversarial": "adversarial"}.items():
            best = {name: verdicts.mean(f"{name}, {group}, flagged", **where) for name in DETECTORS}
            said.append(words.ends(f"{title}, {called}: the share that is flagged", _labelled(best), decimals=2))
        for name in ("ties", "learnt", "loudest"):
            spec = {**where, "kind": "evasion", "detector": name}
            left = [verdicts.mean(f"{who} spearman", **spec) for who in ("blind", "knowing")]
            if None not in left:
                said.append(
                    f"{title}, {DETECTORS[name].label}: Spearman that is left {left[0]} by who does not know the "
                    f"detector, {left[1]} by who does."
                )
    return Box(said, "; ".join(dict.fromkeys(notes)))


def _labelled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {DETECTORS[name].label: value for name, value in values.items()}


TITLES = {"spearman": "Spearman", "topk": "top-50", "success": "fooled images", "dead": "dead maps"}


def _against(
    where: Spec,
    key: str,
    names: Mapping[str, str],
    metrics: Sequence[str],
    *,
    eps: float | None = None,
    title: str = "",
    price: bool = True,
) -> list[str]:
    """A sentence for each metric: the first of two values of a key against the second."""
    (first, one), (second, other) = names.items()
    pair = [{**where, key: first}, {**where, key: second}]
    lost = verdicts.difference("accuracy", *pair[::-1]) if price else None
    sentences = []
    for metric in metrics:
        measure = TITLES.get(metric, TITLES.get(metric.split()[0], metric))
        measure = f"{title}, {measure}" if title else measure
        measure += "" if eps is None else f", eps {eps:g}"
        sentences.append(compared(measure, one, other, verdicts.difference(metric, *pair), lost=lost))
    return sentences


def _verdict(name: str, defense: str = "atex") -> str:
    claim = CLAIMS[name]
    cells = claim.cells(defense)
    return f"{name}. “{claim.text}” {verdicts.verdict(cells.values())}: {report.sentence(cells)}"


def _rates(losses: Sequence[str]) -> list[str]:
    """For each explainer: how many cells of the grid fool most test images, beside the control."""
    said = []
    for explainer in FOOLED:
        specs = [spec for _, spec in claims_fooling.grid(losses, (explainer,)) if verdicts.found(**spec)]
        rates = [verdicts.mean("success", **spec) for spec in specs]
        control = [verdicts.mean(f"control success by {explainer}", **spec) for spec in specs]
        most = [sum(rate is not None and rate.mean > 0.5 for rate in part) for part in (rates, control)]
        if specs:
            said.append(f"{explainer}: most test images are fooled in {most[0]} of {len(specs)} cells, "
                        f"by the same training without a lie in {most[1]}.")  # fmt: skip
    return said


def _grid_origin(losses: Sequence[str]) -> str:
    return _origins((spec for _, spec in claims_fooling.grid(losses)), metric="success")


def _origins(specs: Any, *, metric: str | None = None) -> str:
    return "; ".join(dict.fromkeys(report.origin(metric=metric, **spec) for spec in specs if verdicts.found(**spec)))


def court(*, dataset: str = DATA) -> Box:
    """Chapter 17: who leads before the judge, each later defence against none, and the nets that none beats in both."""
    found = leaderboard(dataset=dataset)
    said = [*found.said.sentences, *against_none(dataset=dataset).sentences, *front_in_words(dataset=dataset).sentences]
    return Box(said, found.note)
