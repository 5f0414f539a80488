"""Write an audit down: a page in HTML that prints well, Markdown with its pictures beside it, or a card in JSON."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from . import pages, pictures, plan, verdict
from .card import MEASURES, NOISE, PLACE, WORST, Audit, Example, mean, save_card
from .pages import Figure, Heading, Part, Said, Table
from .signs import SIGNS

ROWS = 50  # images in a table; a card holds them all


def save(audit: Audit, path: str | Path) -> Path:
    """Write the report to `NAME.html`, `NAME.md` (pictures in `NAME-pictures/`) or `NAME.json`, all or nothing.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path).expanduser()
    if path.suffix == ".json":
        said = verdict.verdicts(audit)
        told = {
            "verdict": verdict.headline(said, audit.labels, audit.settings["eps"]),
            "verdicts": [one._asdict() for one in said],
        }
        return save_card(audit, path, **told, may=verdict.may_conclude(audit), may_not=verdict.may_not_conclude(audit))
    if path.suffix not in pages.WRITERS:
        raise ValueError(f"the report's name is {path.name!r}; let it end in .html, .md or .json.")
    made = audit.provenance
    line = f"{made['date'].partition('T')[0]}, atexlib {made['versions'].get('atexlib', '')}"
    return pages.write(path, f"Audit of explanations: {audit.settings['net']}", [line, *_parts(audit)])


def summary(audit: Audit) -> list[str]:
    """The findings in sentences: the verdict on each explainer and why, the accuracy, the notes."""
    return [*_found(audit), *verdict.suspicions(audit), *audit.notes]


def _found(audit: Audit) -> list[str]:
    eps = verdict.in_255(audit.settings["eps"])
    lines = [
        f"At eps {eps}, {audit.labels[one.explainer]} {one.words}. {' '.join(one.reasons)}"
        for one in verdict.verdicts(audit)
    ]
    return lines + ([] if audit.accuracy is None else [f"Accuracy on these images: {audit.accuracy}."])


def _parts(audit: Audit) -> Iterator[Part]:
    """The report, part by part."""
    yield Heading(2, "Verdict")
    yield Said(verdict.headline(verdict.verdicts(audit), audit.labels, audit.settings["eps"]))
    yield _found(audit)
    yield Heading(3, "What a reader of the maps may conclude")
    yield verdict.may_conclude(audit)
    yield Heading(3, "What a reader of the maps may not conclude")
    yield verdict.may_not_conclude(audit)
    yield Heading(3, "What the words mean")
    yield verdict.rule()
    yield Heading(2, "What was audited")
    yield _facts(audit)
    yield Heading(2, "Image by image")
    yield from (_images(audit, name) for name in audit.labels)
    yield Heading(2, "The most fragile maps")
    if not audit.examples:
        yield "There are no pictures: every map is constant, or the audit was read from a card, which holds none."
    else:
        yield pictures.how_drawn(audit.examples[0])
    yield from (_figure(audit, example) for example in audit.examples)
    yield Heading(2, "How far the maps moved")
    yield _moved(audit)
    if PLACE in audit.settings["attacks"]:
        yield _brought(audit)
    yield Heading(2, "Signs of manipulation")
    yield from _signs(audit)
    yield Heading(2, "How it was attacked")
    yield _checked(audit)
    yield _tried(audit)
    yield Heading(3, "What could not be attacked, and other notes")
    yield audit.notes or ["Nothing was left out."]
    yield Heading(2, "What this audit cannot show")
    yield verdict.not_shown(audit)
    yield Heading(2, "How to read the numbers")
    yield [
        "Spearman, top-k and SSIM compare the absolute values of two raw maps; 1 is the same map. A map that is cut "
        "off at zero before it is shown is another map.",
        f"“{NOISE}” is a control: a change of the same size that nobody chose. “{WORST}” takes each image at its "
        "lowest, measure by measure, whichever attack that was.",
        "Whether the class was kept, the size of the changes and where the maps went were measured after the attacks, "
        "by other code.",
        "Square brackets hold 95 % intervals of a mean over images, by the bootstrap; those of shares are Wilson's. "
        "Both speak of images like these.",
    ]


def _facts(audit: Audit) -> Table:
    settings, made = audit.settings, audit.provenance
    size = " x ".join(map(str, settings["size"]))
    rows = {
        "Net": f"{settings['net']}; fingerprint {made['net']}",
        "Explainers": ", ".join(audit.labels.values()),
        "Images": f"{settings['images']} of {size}; fingerprint {made['images']}",
        "Accuracy on them": "not known" if audit.accuracy is None else str(audit.accuracy),
        "Allowed change": f"eps {verdict.in_255(settings['eps'])} a pixel and channel; "
        "the predicted class must stay, its probability may change",
        "Attacks": ", ".join(name.replace("_", " ") for name in settings["attacks"]),
        "Effort": f"{settings['steps']} steps x {settings['starts']} starts for each attack, explainer and image",
        "Place": f"{settings['place']}, {verdict.percent(settings['part of the image'])} of the image",
        "Top-k": settings["top-k"],
        "Date": made["date"].replace("T", " ").replace("+00:00", " UTC"),
        "Time": f"{plan.spelt(made['seconds'])} spent, {plan.spelt(made['seconds estimated'])} estimated beforehand",
        "Seed": str(made["seed"]),
        "Device": f"{made['device']}, {made['threads']} thread(s)",
        "Versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
    }
    return Table("Settings and origin", ("What", "Value"), list(rows.items()))


def _images(audit: Audit, name: str) -> Table:
    """Each image with what the net says of it before and after, and what became of its map at the worst attack."""
    attacks, eps = audit.attacks(name), audit.settings["eps"]
    lowest = {
        i: min(attacks, key=lambda attack: attacks[attack]["spearman"].nan_to_num(nan=2.0)[i].item())
        for i in range(len(audit.subjects))
    }
    order = sorted(lowest, key=lambda i: attacks[lowest[i]]["spearman"].nan_to_num(nan=2.0)[i].item())
    hits = {attack: verdict.forged(found, eps) for attack, found in attacks.items()}
    labelled, place = any(subject.label for subject in audit.subjects), audit.settings["place"]
    rows = []
    for i in order[:ROWS]:
        subject, found = audit.subjects[i], attacks[lowest[i]]
        row = [subject.name, *([subject.label or "-"] * labelled), subject.predicted]
        row.append(
            f"{subject.probability:.3f} → {found['probability'][i]:.3f}" + ("" if found["kept"][i] else ", lost")
        )
        row.append(f"{found['spearman'][i]:.2f} by {lowest[i].replace('_', ' ')}")
        row += [_from_to(attacks[PLACE], i)] if PLACE in attacks else []
        rows.append([*row, "yes" if any(hit[i] for hit in hits.values()) else "no"])
    head = ["Image", *(["Labelled"] * labelled), "Predicted", "Its probability", "Lowest Spearman"]
    head += [f"Map in the place ({place})"] * (PLACE in attacks)
    rest = f"; {ROWS} of {len(order)}, all are in the card" if len(order) > ROWS else ""
    return Table(f"{audit.labels[name]}: before → after, the most fragile first{rest}", [*head, "Forged"], rows)


def _from_to(found: Mapping[str, Tensor], i: int) -> str:
    return f"{found['in place before'][i]:.2f} → {found['in place'][i]:.2f}"


def _moved(audit: Audit) -> Table:
    rows = [
        [audit.labels[name], attack.replace("_", " "), *(str(audit.table.loc[(name, attack), key]) for key in MEASURES)]
        for name, attack in audit.values
    ]
    caption = "Likeness of the maps before and after, means over images [95 % intervals]"
    return Table(caption, ("Explainer", "Attack", "Spearman", "Top-k", "SSIM"), rows)


def _brought(audit: Audit) -> Table:
    """The attack that puts the map where the auditor says, beside noise."""
    rows = []
    for name, called in audit.labels.items():
        found, noise = audit.values[name, PLACE], audit.values[name, NOISE]
        worked = verdict.placed(found, audit.settings["eps"])
        shares = [mean(part) for part in (found["in place before"], noise["in place"], found["in place"])]
        rows.append([called, *shares, verdict.share(int(worked.sum()), len(worked))])
    caption = (
        f"Maps brought to the place ({audit.settings['place']}): the share of a map that lies there. It worked where "
        "at least half does after, less than half did before, and the class was kept"
    )
    return Table(caption, ("Explainer", "Before", "Under noise", "After", "Worked on"), rows)


def _signs(audit: Audit) -> Iterator[Part]:
    """The signs that the net was made to show false maps, beside what honest nets show."""
    if not audit.signs:
        yield "This audit did not look for signs of manipulation."
        return
    rows = []
    for reading in audit.signs:
        of = "the net" if reading.of == "net" else audit.labels.get(reading.of, reading.of)
        known = reading.limit is not None
        limit = f"{reading.limit:.2f}" if known else "-"
        honest = f"{reading.alarms} of {reading.honest}" if known else "-"
        said = ("ALARM" if reading.alarm else "no") if known else "not known"
        rows.append([SIGNS[reading.sign].label, of, f"{reading.value:.2f}", limit, honest, said])
    head = ("Sign", "Of", "Value", "Threshold", "Honest nets above it", "Alarm")
    yield Table("Larger is more suspicious", head, rows)
    yield [
        "Thresholds and false alarms are those of small honest nets on MNIST and Fashion-MNIST. For nets of another "
        "kind look at honest ones of that kind: `judge.suspicion` gives their numbers.",
        "An alarm is a reason to ask how the net was made. No alarm is no proof that it is honest.",
    ]


def _checked(audit: Audit) -> Table:
    """What was measured of the changed images, and how hard each attack tried."""
    rows = []
    for (name, attack), found in audit.values.items():
        line, count = audit.table.loc[(name, attack)], len(found["kept"])
        tried = ["-", "-"] if attack == NOISE else [verdict.percent(line[key]) for key in ("could step", "slopes see")]
        kept, change = f"{int(found['kept'].sum())} of {count}", verdict.in_255(line["largest change"])
        rows.append([audit.labels[name], attack.replace("_", " "), kept, change, str(line["constant maps"]), *tried])
    head = ("Explainer", "Attack", "Class kept", "Largest change", "Constant maps", "Could step", "Slopes see")
    return Table("What was checked after the attacks, and how hard they tried", head, rows)


def _tried(audit: Audit) -> list[str]:
    """The effort of the attacks, those that tried alike in one line."""
    lines: dict[str, list[str]] = {}
    for (_, attack), effort in audit.efforts.items():
        allowed = f"{verdict.in_255(audit.settings['eps'])} a pixel, label kept"
        text = str(dataclasses.replace(effort, constraint=allowed))
        lines.setdefault(text, []).append(attack.replace("_", " "))
    return [f"{', '.join(attacks)}: {text}." for text, attacks in lines.items()]


def _figure(audit: Audit, example: Example) -> Figure:
    subject, called = audit.subjects[example.number], audit.labels[example.explainer]
    found, i = audit.values[example.explainer, example.attack], example.number
    kept = "" if found["kept"][i] else " before; the class was lost"
    caption = (
        f"{subject.name}, {called}, attack {example.attack.replace('_', ' ')}. Predicted {subject.predicted}{kept}, "
        f"probability {subject.probability:.3f} → {found['probability'][i]:.3f}. Spearman {example.spearman:.2f}, in "
        f"the place {_from_to(found, i)}, largest change {verdict.in_255(found['distance'][i].item())}."
    )
    return Figure(caption, pictures.panels(example, name=subject.name, explainer=called, eps=audit.settings["eps"]))
