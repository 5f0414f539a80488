"""The canaries sing as recorded, and fall silent when the code that makes numbers is changed."""

import ast
import importlib
import inspect
import json
import pkgutil
import types
from dataclasses import dataclass, replace

import pytest

import atexlib
from atexlib import __main__ as command_line
from atexlib.experiments import KINDS
from atexlib.experiments.engine import canary


@pytest.mark.parametrize("kind", KINDS)
def test_a_canary_sings_as_recorded(kind):
    assert canary.faults(kind) == []


def test_a_moved_number_asks_for_a_version_and_names_the_kind(monkeypatch):
    record = canary.read()
    cell = next(iter(record["table"]["cells"].values()))
    cell["numbers"]["accuracy"] = [cell["numbers"]["accuracy"][0] + 2e-6]
    monkeypatch.setattr(canary, "read", lambda: record)
    (fault,) = canary.faults("table")
    assert "accuracy" in fault
    assert "bump `table` to 2" in fault
    with pytest.raises(ValueError, match="bump `table` to 2"):
        command_line.main(["canary", "table"])


def test_rounding_moves_nothing():
    assert canary._alike([1.0, None, 0.0], [1.0 + 1e-7, None, 1e-12])
    assert not canary._alike([1.0], [1.0 + 3e-6])
    assert not canary._alike([1.0, None], [1.0, 0.0])


def test_a_new_version_waits_for_its_canary(monkeypatch, tmp_path):
    newer = replace(KINDS["theorem1"], history=("first", "another"))
    monkeypatch.setitem(KINDS, "theorem1", newer)
    assert "version 2 has no canary yet" in canary.faults("theorem1")[0]
    monkeypatch.setattr(canary, "RECORD", tmp_path / "canaries.json")
    canary.write(["theorem1"])
    assert canary.faults("theorem1") == []
    assert json.loads((tmp_path / "canaries.json").read_text())["theorem1"]["version"] == 2


@dataclass(frozen=True)
class Mutant:
    """A change of one line that moves numbers, and a kind whose canary should fall silent."""

    place: str
    """Module and function (or `Class.method`, or a constant) of the library."""
    old: str
    new: str
    kind: str
    late: bool = False
    """Whether only the last parts of that canary walk the line: then they go first, and a mutant is seen at once."""

    def __str__(self):
        return f"{self.place}: {self.old} -> {self.new}"


MUTANTS = [
    # Maps: how alike, what shape.
    Mutant("maps.alike:spearman", "first * second", "first * first", "table"),
    Mutant("maps.alike:ranks_by_numpy", "(counts + 1) / 2", "1", "repair"),
    Mutant("maps.alike:kendall", "2 * discordant", "discordant", "table"),
    Mutant("maps.alike:topk_intersection", "/ k", "/ (k + 1)", "table"),
    Mutant("maps.alike:lens_topk", "2 * window + 1", "2 * window + 3", "table"),
    Mutant("maps.alike:ssim", "WINDOW**2 - 1", "WINDOW**2", "table"),
    Mutant("maps.alike:ssim", "0.03", "0.02", "table"),
    Mutant("maps.shape:normalize", "amax((1, 2, 3), keepdim=True)", "amax((1, 2, 3), keepdim=True) * 2", "smoothness"),
    Mutant("maps.shape:center_of_mass", "mass.sum(2) @ rows", "mass.sum(2) @ rows.sqrt()", "attacks"),
    Mutant("maps.shape:total_variation", ".abs()", ".square()", "smoothness"),
    Mutant("maps.intervals:_percentiles", "(1 - level) / 2", "1 - level", "table"),
    # Explanations.
    Mutant("explain.gradients:_derivative", "score.sum()", "2 * score.sum()", "smoothness"),
    Mutant("explain.gradients:gradient_x_input", "x * gradient(", "(x + 1) * gradient(", "explainers"),
    Mutant("explain.gradients:integrated_gradients", "(x - x0) * mean", "(x + 1) * mean", "explainers"),
    Mutant("explain.gradients:smoothgrad", "noise = sigma *", "noise = 2 * sigma *", "explainers"),
    Mutant("explain.gradients:grad_cam", "mean((2, 3), keepdim=True)", "amax((2, 3), keepdim=True)", "explainers"),
    Mutant("explain.lrp:z_plus", "weight.clamp(min=0)", "weight.abs()", "repair"),
    Mutant("explain.lrp:epsilon", "_stable(z)", "_stable(2 * z)", "repair"),
    Mutant("explain.lrp:winner", "(pool, x, out)", "(pool, -x, out)", "repair"),
    Mutant("explain.heatmaps:one_channel", "maps.abs()", "maps", "repair"),
    Mutant("explain.heatmaps:scaled", "0.0 if", "1.0 if", "repair"),
    # Attacks.
    Mutant("attack.ball:Ball.steepest", "slope.sign()", "slope.sign() / 2", "table"),
    Mutant("attack.ball:Ball.corner", "self.eps *", "0.5 * self.eps *", "attacks"),
    Mutant("attack.ascent:MOMENTUM", "0.5", "0.9", "budget"),
    Mutant("attack.ascent:ascend", "(1 + math.cos(math.pi * step / steps)) / 2", "1", "table"),
    Mutant("attack.ascent:PROBES", "8", "2", "table"),
    Mutant("attack.ascent:FLAT", "8", "-1", "attacks"),
    Mutant("attack.ascent:holds", "violation < -SLACK", "violation < 1 - SLACK", "attacks"),
    Mutant("detect.evading:press_on", "HEAVIER, LIGHTER", "LIGHTER, HEAVIER", "evasion"),
    Mutant("attack.objectives:Untargeted.__call__", "-_mass", "_mass", "table"),
    Mutant("attack.objectives:_correlation", "a - a.mean(1, keepdim=True)", "a", "attacks"),
    Mutant("attack.inputs:prediction_violation", "shift - tolerance", "shift - 2 * tolerance", "attacks"),
    Mutant("attack.ascent:ascend", "0) + slope", "0) - slope", "table"),
    Mutant("attack.predictions:fgsm", "x + eps", "x - eps", "adversarial_efficacy"),
    Mutant("attack.predictions:margin", "amax(1)", "amin(1)", "adversarial_efficacy"),
    Mutant("attack.fooling_losses:frame", "mask[rows", "mask[0 * rows", "fooling_point"),
    Mutant("attack.fooling_losses:active", "/ 2", "/ 3", "fooling", late=True),
    Mutant("attack.models:fool", "weight * fooling", "weight * 1.5 * fooling", "fooling_point"),
    # Nets and their training.
    Mutant("nets.convnet:ConvNet.forward", "self.act3(self.fc1(x.flatten(1)))", "self.fc1(x.flatten(1))", "undefended"),
    Mutant("nets.convnet:_reset", "math.sqrt(5)", "math.sqrt(4)", "undefended"),
    Mutant("nets.training:optimize", "model.parameters(), lr=lr", "model.parameters(), lr=2 * lr", "undefended"),
    Mutant("nets.convolution:_Transpose.backward", "y, *ctx", "2 * y, *ctx", "table"),
    Mutant("nets.families:vgg19", "3, padding=1", "3, padding=1, bias=False", "family"),
    Mutant("nets.pooling:SmoothMaxPool2d.forward", "- math.log(size**2)", "", "variants"),
    # Defences.
    Mutant("defend.naive:naive", "a2 * classify", "0 * classify", "defended"),
    Mutant("defend.atex:atex", "fidelity * distillation", "2 * fidelity * distillation", "defended"),
    Mutant("defend.distill:distillation", "temperature**2", "temperature", "defended"),
    Mutant("defend.neighbors:along", "delta * _unit", "2 * delta * _unit", "defended"),
    Mutant("defend.neighbors:remove_component", "u - (u", "u + (u", "defended"),
    Mutant("defend.adversarial:adversarial_training", "y.repeat(2)", "y.repeat(2).flip(0)", "adversarial_efficacy"),
    # Judging, and the experiments themselves.
    Mutant("judge.faithfulness:area", "dx=1 /", "dx=2 /", "smoothness"),
    Mutant("judge.faithfulness:_curve", "descending=True", "descending=False", "smoothness"),
    Mutant("experiments.subjects.measure:_compare", "shape.normalize(changed)\n", "shape.normalize(clean)\n", "table"),
    Mutant("experiments.subjects.measure:stability", "where(kept", "where(~kept", "attacks"),
    Mutant("experiments.subjects.attacks:objective", "REGION", "REGION + 1", "table"),
    Mutant("experiments.subjects.attacks:lowest", "amin(0)", "amax(0)", "worst"),
    Mutant("experiments.subjects.nets:defend", "place.size.defense_epochs", "2", "defended"),
    Mutant("experiments.subjects.nets:MAP_SAMPLES", "4", "3", "defended"),
    Mutant("experiments.kinds.variants:rival", '0.0) * noise', '0.0) * 2 * noise', "variants", late=True),
    Mutant("experiments.kinds.fooling:FOOLED_ON", "512", "256", "fooling_point"),
    Mutant("experiments.kinds.repair:WEIGHT", "0.2", "0.1", "repair"),
    Mutant("experiments.kinds.smoothness:COPIES", "100", "50", "smoothness"),
    Mutant("experiments.engine.numbers:summary", "bootstrap(known)", "bootstrap(known * 2)", "table"),
]  # fmt: skip
SEEN = 0.9  # the share of the mutants that the canaries must see


def mutate(monkeypatch, mutant):
    """Put the changed code into the functions that are there, or the changed constant wherever it was imported."""
    module_name, _, name = mutant.place.partition(":")
    module = importlib.import_module(f"atexlib.{module_name}")
    source = inspect.getsource(module)
    tree = ast.parse(source)
    top = name.partition(".")[0]
    node = next(n for n in tree.body if top in (getattr(n, "name", None), *targets(n)))
    if "." in name:
        node = next(n for n in node.body if getattr(n, "name", None) == name.partition(".")[2])
    lines = source.splitlines(keepends=True)
    body = "".join(lines[node.lineno - 1 : node.end_lineno])
    changed = body.replace(mutant.old, mutant.new)
    assert changed != body, f"{mutant}: the code does not hold what the mutant changes"
    text = "".join(lines[: node.lineno - 1]) + changed + "".join(lines[node.end_lineno :])
    code = compile(text, module.__file__, "exec")
    if isinstance(node, ast.FunctionDef):
        function = module
        for part in name.split("."):
            function = inspect.getattr_static(function, part)
        function = getattr(function, "__func__", function)
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        monkeypatch.setattr(function, "__code__", code_of(code, name, function.__code__))
        return
    scope = {}
    exec(compile(changed.lstrip(), "mutant", "exec"), scope)  # a constant: one line without names
    was = getattr(module, name)
    for other in modules():
        if getattr(other, name, None) is was and (other is module or inspect.getsource(other).count(name)):
            monkeypatch.setattr(other, name, scope[name])
        for key, value in vars(other).items():  # what was made of it at import
            if isinstance(value, dict) and key == "SETTINGS" and other is module:
                for setting, held in value.items():
                    if held is was or held == was:
                        monkeypatch.setitem(value, setting, scope[name])


def targets(node):
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def code_of(code, name, was):
    """The code object of a function in compiled source, with the closure of the one that it replaces."""
    for part in name.split("."):
        code = next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == part)
    assert code.co_freevars == was.co_freevars
    return code


def modules():
    for info in pkgutil.walk_packages(atexlib.__path__, "atexlib."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


SURVIVORS = set()


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_noticed_or_noted(monkeypatch, mutant):
    """Whether the canary of one kind falls silent, by moved numbers or an error; survivors are counted below."""
    mutate(monkeypatch, mutant)
    kind = KINDS[mutant.kind]
    if mutant.late:
        monkeypatch.setitem(KINDS, mutant.kind, replace(kind, canary=kind.canary[::-1]))
    try:
        silent = bool(canary.faults(mutant.kind))
    except (RuntimeError, ValueError, TypeError, IndexError):
        silent = True
    if not silent:
        SURVIVORS.add(str(mutant))


def test_the_canaries_see_the_mutants():
    assert len(MUTANTS) >= 40
    assert len(SURVIVORS) <= (1 - SEEN) * len(MUTANTS), "\n".join(["survived:", *sorted(SURVIVORS)])
