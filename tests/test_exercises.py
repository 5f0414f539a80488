"""The self-checks of exercises tell usual mistakes apart, each with its own hint, and never crash."""

import ast
import copy
import json
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import seeded

from atexlib import chapters, data, explain, nets

ROOT = Path(__file__).parents[1]


def functions(chapter, *ids, **page):
    """What the cells of these ids define, and those of the second code exercise, which use `page`."""
    cells = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    space = {"torch": torch, "F": F, "chapters": chapters, **page}
    for cell in cells:
        if cell["id"] in ids or cell["id"].startswith(f"{chapter[:2]}-code2-"):
            exec("".join(cell["source"]), space)
    return space


def apart(a, b):
    return (a - b).square().sum((1, 2, 3))


def alike(a, b):
    return F.cosine_similarity(a.flatten(1), b.flatten(1))


def penalty(a, b):
    return 0.01 * apart(a, b) + (1 - alike(a, b)) / 2


def top(maps, k):
    size = maps.abs().flatten(1)
    return torch.zeros_like(size).scatter(1, size.topk(k).indices, 1.0).view(maps.shape)


def inner(a, b):
    return (a * b).sum(1, keepdim=True)


def rest(u, phi):
    return u - inner(u, phi) / inner(phi, phi) * phi


def each(u, phi):
    return torch.stack([F.normalize(rest(a[None], b[None]))[0] for a, b in zip(u, phi, strict=True)])


# Answers to exercise 2 of chapter 6, and a word of the hint that each must get.
ORTHOGONAL = {
    "in one line": (lambda u, phi: F.normalize(rest(u, phi)), "right"),
    "row by row": (each, "right"),
    "in double precision": (lambda u, phi: F.normalize(rest(u.double(), phi.double())), "right"),
    "not begun": (lambda u, phi: None, "not attempted"),
    "not scaled": (rest, "not of length one"),
    "scaled before": (lambda u, phi: rest(F.normalize(u), phi), "not of length one"),
    "nothing removed": (lambda u, phi: F.normalize(u), "nothing was removed"),
    "u": (lambda u, phi: u, "nothing was done"),
    "the part along phi": (lambda u, phi: F.normalize(u - rest(u, phi)), "the part along phi"),
    "divided by the length": (
        lambda u, phi: F.normalize(u - inner(u, phi) / phi.norm(dim=1, keepdim=True) * phi),
        "square of phi's length",
    ),
    "not divided": (lambda u, phi: F.normalize(u - inner(u, phi) * phi), "square"),
    "the wrong way round": (lambda u, phi: -F.normalize(rest(u, phi)), "the wrong way round"),
    "one sum for the batch": (
        lambda u, phi: F.normalize(u - (u * phi).sum() / phi.square().sum() * phi),
        "sum over dim 1",
    ),
    "one length for the batch": (lambda u, phi: rest(u, phi) / rest(u, phi).norm(), "lengths over dim 1"),
    "divided by the largest": (
        lambda u, phi: rest(u, phi) / rest(u, phi).abs().amax(1, keepdim=True),
        "not by the largest",
    ),
    "divided by the sum": (lambda u, phi: rest(u, phi) / rest(u, phi).abs().sum(1, keepdim=True), "L2 length"),
    "the first row for all": (lambda u, phi: F.normalize(rest(u, phi))[:1], "one vector for each pair"),
    "u[:1] for all": (lambda u, phi: F.normalize(u[:1]).expand_as(u), "a part along phi is left"),
    "the first row repeated": (lambda u, phi: F.normalize(rest(u, phi))[:1].expand_as(u), "a part along phi is left"),
    "another vector": (lambda u, phi: F.normalize(rest(torch.ones_like(u), phi)), "not made from u"),
    "no keepdim": (lambda u, phi: u - (u * phi).sum(1) / phi.square().sum(1) * phi, "it stops"),
    "a matrix product": (lambda u, phi: u - (u @ phi) * phi, "it stops"),
    "a number": (lambda u, phi: 1.0, "one vector for each pair"),
    "a list": (lambda u, phi: F.normalize(rest(u, phi)).tolist(), "one vector for each pair"),
    "divided by 0": (lambda u, phi: rest(u, phi) / 0, "nan or infinite"),
    "a wrong name": (lambda u, phi: rest(u, psi), "it stops"),  # noqa: F821
}


@pytest.mark.parametrize(("answer", "hint"), ORTHOGONAL.values(), ids=ORTHOGONAL)
def test_each_answer_about_the_orthogonal_part_gets_its_hint(answer, hint):
    check = functions("06_atex", "06-slips", "06-atex-32-a")["check_orthogonal_unit"]
    found = check(answer)
    assert hint in found
    assert (found == "right") == (hint == "right")


# The second code exercise of the other chapters: what its answers may use of the page, and answers with their hints.


def maps_and_logits(net, x, y, **keep):
    x = x.detach().requires_grad_()
    logits = net(x)
    score = logits.gather(1, y[:, None]).sum()
    return torch.autograd.grad(score, x, **(keep or {"create_graph": True}))[0], logits


def whole(term=lambda a, b: (b - a).square().sum((1, 2, 3)).mean(), ce=F.cross_entropy, first=1, second=1, **keep):
    def loss(net, x, y, near, weight):
        clean, logits = maps_and_logits(net, x, y, **keep)
        moved, noisy = maps_and_logits(net, near, y, **keep)
        return first * ce(logits, y) + second * ce(noisy, y) + weight * term(clean, moved)

    return loss


def in_one_pass(net, x, y, near, weight):
    maps, logits = maps_and_logits(net, torch.cat([x, near]), torch.cat([y, y]))
    clean, moved = maps.tensor_split(2)
    return 2 * F.cross_entropy(logits, torch.cat([y, y])) + weight * (clean - moved).flatten(1).square().sum(1).mean()


def of_logits(net, x, y, near, weight):
    a, b = net(x), net(near)
    return F.cross_entropy(a, y) + F.cross_entropy(b, y) + weight * (a - b).square().sum(1).mean()


def of_classes(here, there):
    def loss(net, x, y, near, weight):
        clean, logits = maps_and_logits(net, x, here(net, x, y))
        moved, noisy = maps_and_logits(net, near, there(net, near, y))
        labels = F.cross_entropy(logits, y) + F.cross_entropy(noisy, y)
        return labels + weight * (moved - clean).square().sum((1, 2, 3)).mean()

    return loss


def the_true(net, x, y):
    return y


def the_predicted(net, x, y):
    return net(x).argmax(1)


def of_the_class_at_x(net, x, y, near, weight):
    at_x = net(x).argmax(1)
    return of_classes(lambda *_: at_x, lambda *_: at_x)(net, x, y, near, weight)


WHOLE_LOSS = {
    "in two passes": (whole(), "right"),
    "in one pass": (in_one_pass, "right"),
    "not begun": (lambda *_: None, "not attempted"),
    "no graph of the maps": (whole(retain_graph=True), "create_graph=True"),
    "the graph is freed": (whole(retain_graph=False), "create_graph=True"),
    "a number": (lambda *case: whole()(*case).item(), "one number that has a graph"),
    "no graph": (lambda *case: whole()(*case).detach(), "what cut it off"),
    "a fixed target": (whole(lambda a, b: (b - a.detach()).square().sum((1, 2, 3)).mean()), "at x was cut off"),
    "a fixed neighbour": (whole(lambda a, b: (b.detach() - a).square().sum((1, 2, 3)).mean()), "at near was cut off"),
    "a sum": (whole(lambda a, b: (b - a).square().sum()), "not a sum"),
    "a mean over the pixels": (whole(F.mse_loss), "sum over the pixels"),
    "a root": (whole(lambda a, b: (b - a).flatten(1).norm(dim=1).mean()), "no root"),
    "a loss for each image": (whole(lambda a, b: (b - a).square().sum((1, 2, 3))), "one number"),
    "the wrong sign": (whole(lambda a, b: -(b - a).square().sum((1, 2, 3)).mean()), "the sign"),
    "logits": (of_logits, "logits, not maps"),
    "no weight": (lambda n, x, y, near, w: whole()(n, x, y, near, 1), "the weight is missing"),
    "one cross entropy": (whole(second=0), "at near is missing"),
    "the other": (whole(first=0), "at x is missing"),
    "their mean": (whole(first=0.5, second=0.5), "add them"),
    "their sum": (whole(ce=lambda z, y: F.cross_entropy(z, y, reduction="sum")), "are means"),
    "no maps": (whole(lambda a, b: 0), "maps are missing"),
    "of the true class": (of_classes(the_true, the_true), "right"),
    "of the predicted class": (of_classes(the_predicted, the_predicted), "not the predicted class"),
    "of the class at x": (of_the_class_at_x, "predicted at x"),
    "of the predicted class at x alone": (of_classes(the_predicted, the_true), "y at x, too"),
    "of the predicted class at near alone": (of_classes(the_true, the_predicted), "y at near, too"),
    "half of all": (lambda *case: whole()(*case) / 2, "neither the number nor its slope"),
    "a wrong name": (lambda *case: whole()(net), "it stops"),  # noqa: F821
}


# Chapter 7: the end of an attack. Each answer is what the attacker may take, and what stands in for the rest.


def best(ok=lambda same, near: same & near, rest=2.0, end=lambda s: s.amin(0), within=torch.le, rows=slice(None)):
    def left(similarity, labels, moved, eps):
        allowed = ok(labels == labels[0], within(moved, eps))
        return end(similarity.where(allowed, torch.tensor(rest))[rows])

    return left


def in_a_loop(similarity, labels, moved, eps):
    left = []
    for n in range(similarity.shape[1]):
        allowed = [
            s.item()
            for s, label, d in zip(similarity[:, n], labels[:, n], moved[:, n], strict=True)
            if label == labels[0, n] and d <= eps
        ]
        left.append(min(allowed))
    return left


def row_before(similarity, labels, moved, eps):
    same = torch.cat([labels[:1] == labels[:1], labels[1:] == labels[:-1]])
    return similarity.where(same & (moved <= eps), 2.0).amin(0)


def last_allowed(similarity, labels, moved, eps):
    left = similarity[0].clone()
    for s, label, d in zip(similarity, labels, moved, strict=True):
        ok = (label == labels[0]) & (d <= eps)
        left[ok] = s[ok]
    return left


def never_lost(similarity, labels, moved, eps):
    ok = (labels == labels[0]) & (moved <= eps)
    return best()(similarity, labels, moved, eps).where(ok.all(0), 1.0)


def by_boolean(similarity, labels, moved, eps):
    return similarity[(labels == labels[0]) & (moved <= eps)].min(0)


LEFT_BY = {
    "in one line": (best(), "right"),
    "in a loop": (in_a_loop, "right"),
    "not begun": (lambda *_: None, "not attempted"),
    "as it was": (lambda s, *_: s[-1], "nothing was repaired"),
    "lowest of all": (lambda s, *_: s.amin(0), "no constraint"),
    "labels alone": (best(lambda same, near: same), "ball was not checked"),
    "ball alone": (best(lambda same, near: near), "labels were not checked"),
    "either": (best(lambda same, near: same | near), "both must hold"),
    "highest": (best(rest=0.0, end=lambda s: s.amax(0)), "wants it low"),
    "highest without the clean": (best(rest=-1.0, rows=slice(1, None), end=lambda s: s.amax(0)), "not the highest"),
    "zero for the forbidden": (best(rest=0.0), "leave it out"),
    "inside alone": (best(within=torch.lt), "border"),
    "its number": (best(end=lambda s: s.argmin(0)), "give its similarity"),
    "label of the row before": (row_before, "of row 0"),
    "last allowed": (last_allowed, "not the last"),
    "lost once": (never_lost, "is not lost"),
    "infinite": (best(rest=float("inf"), rows=slice(1, None)), "row 0, is allowed too"),
    "mean over images": (lambda *case: best()(*case).mean(), "one number for each image"),
    "boolean index": (by_boolean, "one number for each image"),
    "both of min": (lambda *case: best(end=lambda s: s.min(0))(*case), "one number for each image"),
    "a mean": (best(rest=float("nan"), end=lambda s: s.nanmean(0)), "not a mean"),
    "half": (lambda *case: best()(*case) / 2, "not what each image's best allowed iterate leaves"),
    "and": (best(lambda same, near: same and near), "it stops"),
}


# Chapter 8: the deletion area against random orders.


def delete(net, image, importance, c, share):
    count = round(share * image.numel())
    order = importance.flatten().argsort(descending=True)
    changed = image.flatten().clone()
    changed[order[:count]] = 0
    return net(changed.view(1, *image.shape)).softmax(1)[0, c].item()


def area_of(net, image, importance, c, shares=None):
    n = image.numel()
    shares = [k / n for k in range(n + 1)] if shares is None else shares
    return torch.tensor([delete(net, image, importance, c, share) for share in shares])


def chanced(
    area=lambda v: torch.trapezoid(v) / (len(v) - 1), size=torch.abs, many=torch.mean, end=torch.sub, curve=area_of
):
    def answer(net, image, phi, c, chance):
        mine = area(curve(net, image, size(phi), c))
        return end(many(torch.stack([area(curve(net, image, one, c)) for one in chance])), mine)

    return answer


def in_steps(count):
    return lambda *case: area_of(*case, [k / count for k in range(count + 1)])


def back_again(net, image, importance, c):
    order, values = importance.flatten().argsort(descending=True), [net(image[None])]
    for place in order:
        changed = image.flatten().clone()
        changed[place] = 0
        values.append(net(changed.view(1, *image.shape)))
    return torch.cat(values).softmax(1)[:, c].detach()


def inserted(net, image, importance, c):
    full = area_of(net, image, -importance, c)
    return full.flip(0)


ABOVE_CHANCE = {
    "with curves": (chanced(), "right"),
    "as a number": (lambda *case: float(chanced()(*case)), "right"),
    "not begun": (lambda *_: None, "not attempted"),
    "the wrong way round": (chanced(end=lambda a, b: b - a), "above 0 is better"),
    "no chance": (chanced(end=lambda a, b: b), "random orders are missing"),
    "chance alone": (chanced(end=lambda a, b: a), "chance alone"),
    "one order": (chanced(many=lambda a: a[0]), "one random order"),
    "sum of orders": (chanced(many=torch.sum), "not the sum"),
    "best order": (chanced(many=torch.min), "not the best"),
    "ratio": (chanced(end=lambda a, b: b / a), "not a ratio"),
    "signed": (chanced(size=lambda a: a), "absolute values"),
    "smallest first": (chanced(size=lambda a: -a.abs()), "largest go first"),
    "insertion": (chanced(curve=inserted), "insertion"),
    "mean of values": (chanced(area=torch.mean), "ends of a curve"),
    "long steps": (chanced(area=torch.trapezoid), "add up to 1"),
    "predicted class": (lambda n, x, phi, c, r: chanced()(n, x, phi, n(x[None]).argmax().item(), r), "predicted one"),
    "for each order": (chanced(many=lambda a: a), "one number"),
    "a curve": (chanced(area=lambda v: v, many=lambda a: a.mean(0)), "one number"),
    "twice": (lambda *case: 2 * chanced()(*case), "not the mean area"),
    "a batch": (lambda n, x, phi, c, r: chanced()(n, x[None], phi[None], c, r), "right"),
    "argmax": (lambda n, x, phi, c, r: n(x).argmax(1)[1], "it stops"),
    "in 28 steps": (chanced(curve=in_steps(28)), "not in 28 steps"),
    "in 10 steps": (chanced(curve=in_steps(10)), "not in 10 steps"),
    "no end": (chanced(curve=lambda *case: area_of(*case)[:-1]), "all is missing"),
    "no start": (chanced(curve=lambda *case: area_of(*case)[1:]), "none is missing"),
    "one away at a time": (chanced(curve=back_again), "stay away"),
    "median": (chanced(many=torch.median), "not the median"),
    "worst order": (chanced(many=torch.max), "not the worst"),
    "last order": (chanced(many=lambda a: a[-1]), "that is the last"),
    "logarithms": (chanced(curve=lambda *case: area_of(*case).log()), "not logarithms"),
    "share of chance": (chanced(end=lambda a, b: (a - b) / a), "not a share of chance"),
    "percent": (chanced(end=lambda a, b: 100 * (a - b)), "not a percentage"),
    "ratio, upside down": (chanced(end=torch.div), "upside down"),
    "without its sign": (chanced(end=lambda a, b: (a - b).abs()), "without sign"),
    "clamp": (chanced(end=lambda a, b: (a - b).clamp(min=0)), "leave it so"),
    "how many it beats": (
        chanced(many=lambda a: a, end=lambda a, b: (a > b).float().mean()),
        "not how many",
    ),
    "times the image": (lambda n, x, phi, c, r: chanced()(n, x, phi * x, c, r), "not times the image"),
}


# Chapter 9: one pass of adversarial training.


def fast_gradient_sign(net, x, y, eps, step=torch.sign, clip=(0, 1)):
    z = x.clone().requires_grad_()
    loss = F.cross_entropy(net(z), y, reduction="sum")
    return (x + eps * step(torch.autograd.grad(loss, z)[0])).clamp(*clip)


def mean_of_both(net, x, z, y):
    return (F.cross_entropy(net(x), y) + F.cross_entropy(net(z), y)) / 2


def pass_over(
    loss=mean_of_both, make=fast_gradient_sign, *, stale=False, zero=True, step=True, part=slice(None), returned=True
):
    def train(net, batches, eps, lr):
        optimiser = torch.optim.SGD(net.parameters(), lr=lr)
        once = [make(net, x, y, eps) for x, y in batches]
        for (x, y), old in list(zip(batches, once, strict=True))[part]:
            z = old if stale else make(net, x, y, eps)
            if zero:
                optimiser.zero_grad()
            loss(net, x, z.detach(), y).backward()
            if step:
                optimiser.step()
        return net if returned is True else returned

    return train


def by_hand(net, batches, eps, lr):
    for x, y in batches:
        z = fast_gradient_sign(net, x, y, eps)
        net.zero_grad()
        mean_of_both(net, x, z, y).backward()
        with torch.no_grad():
            for w in net.parameters():
                w -= lr * w.grad
    return net


def of_a_copy(net, batches, eps, lr):
    return pass_over()(copy.deepcopy(net), batches, eps, lr)


def attacked_by_backward(net, x, y, eps):
    """Leaves its slopes at the weights, which zero_grad takes away."""
    z = x.clone().requires_grad_()
    F.cross_entropy(net(z), y).backward()
    return (x + eps * z.grad.sign()).clamp(0, 1).detach()


TRAIN_FRESH = {
    "in a loop": (pass_over(), "right"),
    "by hand": (by_hand, "right"),
    "a copy": (of_a_copy, "right"),
    "by backward": (pass_over(make=attacked_by_backward), "right"),
    "in place": (pass_over(returned=None), "right"),
    "the loss is returned": (pass_over(returned=0.5), "right"),
    "not begun": (lambda *_: None, "not attempted"),
    "net as it is": (lambda net, *_: net, "is there a step"),
    "no step": (pass_over(step=False), "is there a step"),
    "made once": (pass_over(stale=True), "make them anew"),
    "no zero_grad": (pass_over(zero=False), "zero_grad"),
    "attacked alone": (pass_over(lambda n, x, z, y: F.cross_entropy(n(z), y)), "clean images are missing"),
    "clean alone": (pass_over(lambda n, x, z, y: F.cross_entropy(n(x), y)), "no attacked image"),
    "sum of two": (pass_over(lambda *c: 2 * mean_of_both(*c)), "not the sum of two"),
    "sum of all": (pass_over(lambda n, x, z, y: 2 * len(x) * mean_of_both(n, x, z, y)), "not a sum"),
    "no clip": (pass_over(make=lambda *c: fast_gradient_sign(*c, clip=(None, 9))), "range of pixels"),
    "down the loss": (pass_over(make=lambda n, x, y, e: fast_gradient_sign(n, x, y, -e)), "up the loss, not down"),
    "no sign": (pass_over(make=lambda *c: fast_gradient_sign(*c, step=lambda g: g)), "the sign is missing"),
    "predicted class": (
        pass_over(make=lambda n, x, y, e: fast_gradient_sign(n, x, n(x).argmax(1), e)),
        "attack the true class",
    ),
    "predicted labels": (
        pass_over(lambda n, x, z, y: (F.cross_entropy(n(x), y) + F.cross_entropy(n(z), n(z).argmax(1))) / 2),
        "teach the true class",
    ),
    "up": (pass_over(lambda *c: -mean_of_both(*c)), "training goes up"),
    "first": (pass_over(part=slice(1)), "only the first batch"),
    "last": (pass_over(part=slice(2, None)), "only the last batch"),
    "a wrong rate": (lambda n, b, eps, lr: pass_over()(n, b, eps, lr / 10), "look at images, loss and step"),
    "labels forgotten": (pass_over(lambda n, x, z, y: F.cross_entropy(n(torch.cat([x, z])), y)), "it stops"),
}


# Chapter 10: the success of the location loss.


def shares(high=0.2, goal=lambda m: m, loss=lambda h, m: (h - m).square().mean((1, 2, 3)), **how):
    def answer(values, m):
        dims = how.get("dims", (1, 2, 3))
        low, top = values.amin(dims, keepdim=True), values.amax(dims, keepdim=True)
        span = values.amax((1, 2, 3)) - values.amin((1, 2, 3))
        dead = how.get("dead", lambda span, values: span < 1e-6)(span, values)
        low = low * how.get("base", 1)
        h = (values - low) / (top - low).clamp_min(1e-9) if how.get("stretch", True) else values
        fooled = loss(h, goal(m)) <= high
        if how.get("apart", True):
            fooled = fooled & ~dead
        if how.get("living"):
            fooled = fooled[~dead]
        return fooled, dead

    return answer


def one_by_one(values, m):
    fooled, dead = [], []
    for v in values:
        span = v.max() - v.min()
        dead.append(bool(span < 1e-6))
        fooled.append(not dead[-1] and bool((((v - v.min()) / span - m) ** 2).mean() <= 0.2))
    return fooled, dead


def zeroed(values, m):
    span = (values.amax((1, 2, 3), True) - values.amin((1, 2, 3), True)).clamp_min(1e-30)
    h = ((values - values.amin((1, 2, 3), True)) / span).where(span >= 1e-6, 0.0)
    return ((h - m).square().mean((1, 2, 3)) <= 0.2), (span < 1e-6).flatten()


FOOLED_AND_DEAD = {
    "in a batch": (shares(), "right"),
    "one by one": (one_by_one, "right"),
    "as a tensor": (lambda *case: torch.stack(shares()(*case)), "right"),
    "not begun": (lambda *_: None, "not attempted"),
    "dead first": (lambda *case: shares()(*case)[::-1], "fooled comes first"),
    "dead counted": (shares(apart=False), "counted as fooled"),
    "dead zeroed": (zeroed, "set to zero, were counted"),
    "of the living": (shares(living=True), "it stops"),
    "none dead": (lambda *case: (shares()(*case)[0], [False] * 18), "dead maps were not counted"),
    "none fooled": (lambda *case: ([False] * 18, shares()(*case)[1]), "no map was counted"),
    "not stretched": (shares(stretch=False), "not stretched"),
    "by the largest": (shares(base=0), "take the smallest"),
    "for the batch": (shares(dims=(0, 1, 2, 3)), "by itself"),
    "a sum": (shares(loss=lambda h, m: (h - m).square().sum((1, 2, 3))), "not a sum"),
    "an inverted frame": (shares(goal=lambda m: 1 - m), "not inside"),
    "no square": (shares(loss=lambda h, m: (h - m).abs().mean((1, 2, 3))), "square"),
    "on the frame alone": (shares(loss=lambda h, m: 1 - (h * m).sum((1, 2, 3)) / m.sum()), "not the frame"),
    "large": (shares(-0.2, loss=lambda h, m: -(h - m).square().mean((1, 2, 3))), "loss is large"),
    "dead by the largest": (shares(dead=lambda span, v: v.amax((1, 2, 3)) < 1e-6), "not the largest"),
    "dead if equal": (shares(dead=lambda span, v: span == 0), "less than 1e-6"),
    "fooled alone": (lambda *case: shares()(*case)[0], "two tensors"),
    "shares": (lambda *case: [part.float().mean() for part in shares()(*case)], "two tensors"),
    "not": (lambda *case: [~part for part in shares()(*case)], "neither fooled nor dead"),
    "alive": (lambda *case: (shares()(*case)[0], ~shares()(*case)[1]), "alive, not dead"),
    "all dead": (lambda *case: (shares()(*case)[0], [True] * 18), "look at dead: fooled is right"),
    "a root": (shares(loss=lambda h, m: (h - m).square().mean((1, 2, 3)).sqrt()), "without a root"),
    "a small bound": (shares(0.1), "yours is smaller"),
    "a large bound": (shares(0.3), "yours is larger"),
    "inside alone": (
        shares(loss=lambda h, m: ((h - m).square() * (1 - m)).sum((1, 2, 3)) / (1 - m).sum()),
        "not the inside",
    ),
    "dead by the mean": (shares(dead=lambda span, v: v.mean((1, 2, 3)) < 1e-6), "not the mean"),
    "dead by the spread": (shares(dead=lambda span, v: v.flatten(1).std(1) < 1e-6), "standard deviation"),
    "dead by 1e-4": (shares(dead=lambda span, v: span < 1e-4), "1e-6, yours is larger"),
    "fooled wrong": (lambda *case: (~shares()(*case)[0], shares()(*case)[1]), "look at fooled: dead is right"),
    "a loss for all": (lambda v, m: (v - m).square().mean() <= 0.2, "two tensors"),
    "none": (lambda v, m: (None, None), "it stops"),
    "no keepdim": (lambda v, m: (v / v.amax((1, 2, 3)) - m).mean(), "it stops"),
}


# Chapter 11: a swap for pairs alone.


def sly(
    swap=lambda o: o.flip(1), hold=lambda o: o, mark=lambda p: p, off=torch.square, end=lambda d: d.mean((1, 2, 3))
):
    def answer(h, original, pair):
        goal = torch.where(mark(pair).view(-1, 1, 1, 1), swap(original), hold(original))
        return end(off(h - goal))

    return answer


def by_picture(h, original, pair):
    found = []
    for a, o, p in zip(h, original, pair, strict=True):
        goals = (o[1], o[0]) if p else (o[0], o[1])
        found.append(sum(((x - g) ** 2).mean() for x, g in zip(a, goals, strict=True)) / 2)
    return found


def swap_of(h, original):
    return (h - original.flip(1)).square().mean((1, 2, 3))


SLY_LOSS = {
    "in a batch": (sly(), "right"),
    "by picture": (by_picture, "right"),
    "not begun": (lambda *_: None, "not attempted"),
    "pair inverted": (sly(mark=lambda p: ~p), "wrong way round"),
    "all swapped": (sly(mark=torch.ones_like), "all pictures"),
    "none swapped": (sly(mark=torch.zeros_like), "no picture"),
    "no half": (sly(end=lambda d: d.mean((2, 3)).sum(1)), "half is missing"),
    "a sum": (sly(end=lambda d: d.sum((2, 3)).mean(1)), "not a sum"),
    "no square": (sly(off=torch.abs), "square"),
    "nothing for the rest": (lambda h, o, p: swap_of(h, o) * p, "they shall stay"),
    "nothing for pairs": (lambda h, o, p: sly()(h, o, p) * ~p, "a swap needs a loss"),
    "added": (lambda h, o, p: swap_of(h, o) + swap_of(h, o.flip(1)), "not added"),
    "with each other": (
        lambda h, o, p: swap_of(h, h).where(p, swap_of(h, o.flip(1))),
        "not with each other",
    ),
    "first map": (sly(end=lambda d: d[:, 0].mean((1, 2)) / 2), "only the first"),
    "second map": (sly(end=lambda d: d[:, 1].mean((1, 2)) / 2), "only the second"),
    "one old map": (sly(swap=lambda o: o[:, 1:].expand_as(o)), "one old map"),
    "the sign": (lambda *case: -sly()(*case), "the sign"),
    "mean over pictures": (lambda *case: sly()(*case).mean(), "one loss for each picture"),
    "pictures left out": (lambda h, o, p: swap_of(h[p], o[p]), "one loss for each picture"),
    "pairs wrong": (lambda h, o, p: sly()(h, o, p) + p, "look at the pairs"),
    "others wrong": (lambda h, o, p: sly()(h, o, p) + ~p, "look at the other pictures"),
    "all wrong": (lambda *case: sly()(*case) + 1, "neither the pairs"),
    "if pair": (lambda h, o, p: swap_of(h, o) if p else swap_of(h, o.flip(1)), "it stops"),
}


# Chapter 12: transfer, by the right control.


def matrix(of=lambda f, c, a: (f * a).sum(-1) / a.sum(-1), row=lambda c: c, end=torch.sub):
    def answer(fooled, control, alive):
        return end(of(fooled, None, alive), of(row(control), None, alive))

    return answer


def cell_by_cell(fooled, control, alive):
    found = torch.zeros(fooled.shape[:2])
    for e in range(len(fooled)):
        for r in range(len(control)):
            there = alive[e, r].bool()
            found[e, r] = fooled[e, r][there].mean() - control[r][there].mean()
    return found


TRANSFER_MATRIX = {
    "in one line": (matrix(), "right"),
    "cell by cell": (cell_by_cell, "right"),
    "as lists": (lambda *case: cell_by_cell(*case).tolist(), "right"),
    "not begun": (lambda *_: None, "not attempted"),
    "no control": (matrix(end=lambda a, b: a), "the control is missing"),
    "control alone": (matrix(end=lambda a, b: b), "control alone"),
    "the wrong way round": (matrix(end=lambda a, b: b - a), "the other way round"),
    "abs": (lambda *case: matrix()(*case).abs(), "absolute value"),
    "clamp": (lambda *case: matrix()(*case).clamp(min=0), "no clamp"),
    "ratio": (matrix(end=torch.div), "not a ratio"),
    "transposed": (lambda *case: matrix()(*case).T, "are the rows"),
    "numbers": (matrix(lambda f, c, a: (f * a).sum(-1)), "not numbers of images"),
    "dead kept": (lambda f, c, a: (f - c).mean(-1), "dead images were not left out"),
    "divided by B": (lambda f, c, a: ((f - c) * a).mean(-1), "not by B"),
    "control over all": (lambda f, c, a: (f * a).sum(-1) / a.sum(-1) - c.mean(-1), "over the living alone"),
    "the attacked row": (matrix(row=lambda c: c[:, None]), "explainer that is read"),
    "mean control": (matrix(row=lambda c: c.mean(0)), "not of their mean"),
    "one control": (lambda f, c, a: (f * a).sum(-1) / a.sum(-1) - c.mean(), "one number for each cell"),
    "dead alone": (
        lambda f, c, a: ((f - c) * (1 - a)).sum(-1) / (1 - a).sum(-1).clamp(min=1),
        "not the dead",
    ),
    "no diagonal": (lambda *case: matrix()(*case).fill_diagonal_(0), "diagonal belongs"),
    "not a mean": (lambda f, c, a: (f - c) * a, "one number for each cell"),
    "a mean of all": (lambda *case: matrix()(*case).mean(), "one number for each cell"),
    "half": (lambda *case: matrix()(*case) / 2, "not the difference"),
    "boolean": (lambda f, c, a: f[a.bool()].mean(-1) - c[a.bool()].mean(-1), "it stops"),
}


SECOND = {
    ("05_naive_defence", "check_whole_loss"): WHOLE_LOSS,
    ("07_honest_evaluation", "check_left_by"): LEFT_BY,
    ("08_smoother_maps", "check_above_chance"): ABOVE_CHANCE,
    ("09_adversarial_training", "check_train_fresh"): TRAIN_FRESH,
    ("10_passive_fooling", "check_fooled_and_dead"): FOOLED_AND_DEAD,
    ("11_active_fooling", "check_sly_loss"): SLY_LOSS,
    ("12_transfer_and_repair", "check_transfer_matrix"): TRANSFER_MATRIX,
}
# What the checks themselves call of the page.
OF_THE_PAGE = {
    "05_naive_defence": {"maps_and_logits": maps_and_logits},
    "09_adversarial_training": {"fast_gradient_sign": fast_gradient_sign, "copy": copy},
}
ANSWERS = [(*place, answer, *pair) for place, answers in SECOND.items() for answer, pair in answers.items()]


def judge(chapter, name):
    return functions(chapter, **OF_THE_PAGE.get(chapter, {}))[name]


@pytest.mark.parametrize(
    ("chapter", "name", "answer", "hint"),
    [(chapter, name, answer, hint) for chapter, name, _, answer, hint in ANSWERS],
    ids=[f"{chapter[:2]} {answer}" for chapter, _, answer, *_ in ANSWERS],
)
def test_each_answer_gets_its_hint(chapter, name, answer, hint):
    found = judge(chapter, name)(answer)
    assert hint in found
    assert (found == "right") == (hint == "right")


@pytest.mark.parametrize(("chapter", "name"), SECOND)
def test_no_two_hints_are_for_the_same_value(chapter, name, monkeypatch):
    seen = {}
    monkeypatch.setattr(chapters, "hint", lambda answer, given, known, **_: seen.update(known) or "")
    judge(chapter, name)(None)
    values = [torch.as_tensor(value).double() for value in seen.values()]
    assert len(values) >= 10
    for i, value in enumerate(values):
        assert not any(torch.allclose(value, other, atol=2e-3, rtol=2e-3) for other in values[:i]), list(seen)[i]


@pytest.mark.parametrize(("chapter", "name"), SECOND)
def test_the_solutions_judge_as_the_chapter_does(chapter, name):
    both = []
    for path in (ROOT / "notebooks", ROOT / "notebooks" / "solutions"):
        cells = json.loads((path / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
        both.append([cell["source"] for cell in cells if "-code2-slips" in cell["id"]])
    assert both[0] == both[1] != []


# The code exercises that were there before.


def of_logit(net, x, target, score=lambda z: z, many=torch.sum):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(many(score(net(x)).gather(1, target[:, None])), x)[0]


def hessian_times(net, x, target, v):
    z = x.clone().requires_grad_()
    slope = torch.autograd.grad(net(z).gather(1, target[:, None]).sum(), z, create_graph=True)[0]
    return torch.autograd.grad((slope * v).sum(), z)[0]


def finite(net, x, target, v, t=1e-4, *, twice=False):
    low = of_logit(net, x - t * v if twice else x, target)
    return (of_logit(net, x + t * v, target) - low) / (2 * t if twice else t)


def ranked(rule):
    return lambda values: [rule(values, v) for v in values]


def halved(clean_map):
    return lambda maps: maps.abs()[..., : maps.shape[-1] // 2].sum((1, 2, 3)) / maps.abs().sum((1, 2, 3))


def after(change):
    """The same objective, and something done to its values."""
    return lambda clean_map: lambda maps: change(halved(clean_map)(maps))


def centre(maps, axis):
    mass = maps.sum((1, 2 if axis == 3 else 3))
    return (mass * torch.arange(mass.shape[1])).sum(1) / mass.sum(1)


def moved(join=lambda a, b: a.abs() + b.abs(), centre=centre):
    return lambda h, o: join(centre(h, 2) - centre(o, 2), centre(h, 3) - centre(o, 3))


def undivided(maps, axis):
    mass = maps.sum((1, 2 if axis == 3 else 3))
    return (mass * torch.arange(mass.shape[1])).sum(1)


def own_and_best(z, y):
    own = z.gather(1, y[:, None])[:, 0]
    return own, z.scatter(1, y[:, None], -torch.inf).amax(1)


def halves(maps, half):
    w = maps.shape[-1] // 2
    part = maps[..., :w] if half == "left" else maps[..., w:]
    return part.sum((1, 2, 3)) / maps.sum((1, 2, 3))


def paired(fooled, control, z=1.96, correction=1, root=0.5):
    d = fooled - control
    half = z * d.std(correction=correction) / len(d) ** root
    return d.mean(), d.mean() - half, d.mean() + half


def hit_share(net, test, size=100):
    with torch.no_grad():
        batches = zip(test.images.split(size), test.labels.split(size), strict=True)
        return sum((net(x).argmax(1) == y).sum().item() for x, y in batches) / len(test.labels)


SMALL = data.ImageSet(torch.rand(37, 1, 28, 28, generator=seeded()), torch.arange(37) % 10, "s", tuple("abcdefghij"))
SMALL_NET = nets.ConvNet(generator=seeded()).eval()


def filed(step=lambda x, z: (z - x).round(), most=int):
    def answer(clean, changed, eps):
        room = most(255 * eps + (0 if most is round else 1e-4))
        return (255 * clean + step(255 * clean, 255 * changed).clamp(-room, room)) / 255

    return answer


FIRST = {
    ("00_start", "check_test_accuracy"): {
        "in batches": (hit_share, "right"),
        "a percentage": (lambda *c: 100 * hit_share(*c), "not a percentage"),
        "a number": (lambda *c: hit_share(*c) * 37, "not a number"),
        "errors": (lambda *c: 1 - hit_share(*c), "share of errors"),
        "of images": (lambda net, test: len(test.labels), "number of images"),
        "each": (lambda net, test: net(test.images).argmax(1) == test.labels, "return one number"),
        "not begun": (lambda *_: None, "not attempted"),
        "no batch": (lambda net, test: net(test), "it stops"),
        "two": (lambda *c: 2.0, "compare argmax"),
        "nan": (lambda *c: float("nan"), "nan"),
        "a word": (lambda *c: "all", "return one number"),
        "nearly": (lambda *c: hit_share(*c) + 0.005, "near: are all images in"),
    },
    ("01_explanations", "check_gradient_x_input"): {
        "right": (lambda net, x, t: x * of_logit(net, x, t), "right"),
        "gradient": (of_logit, "this is the gradient"),
        "image": (lambda net, x, t: x, "this is the image"),
        "size": (lambda net, x, t: (x * of_logit(net, x, t)).abs(), "keep the sign"),
        "sign": (lambda net, x, t: -x * of_logit(net, x, t), "wrong way round"),
        "predicted": (lambda net, x, t: x * of_logit(net, x, net(x).argmax(1)), "the predicted class"),
        "mean": (lambda net, x, t: x * of_logit(net, x, t, many=torch.mean), "no mean over the images"),
        "twice": (lambda net, x, t: x * x * of_logit(net, x, t), "twice"),
        "a sum": (lambda net, x, t: x + of_logit(net, x, t), "a product"),
        "probability": (lambda net, x, t: x * of_logit(net, x, t, lambda z: z.softmax(1)), "not the image times"),
        "one": (lambda net, x, t: x[:1] * of_logit(net, x, t)[:1], "return a tensor of the shape"),
        "scores": (lambda net, x, t: net(x), "return a tensor of the shape"),
        "not begun": (lambda *_: None, "not attempted"),
        "no leaf": (lambda net, x, t: torch.autograd.grad(net(x).sum(), x), "it stops"),
    },
    ("02_manipulating_inputs", "check_left_half"): {
        "right": (halved, "right"),
        "not begun": (lambda clean: None, "not attempted"),
        "a number": (lambda clean: 0.5, "return a function"),
        "a map": (lambda clean: clean, "return a function"),
        "the maps": (lambda clean: lambda maps: maps, "return a function"),
        "cut off": (after(torch.Tensor.detach), "differentiable"),
        "a list": (after(lambda v: v.tolist()), "differentiable"),
        "the right half": (after(lambda v: 1 - v), "right half"),
        "a sum": (lambda c: lambda m: m.abs()[..., :3].sum((1, 2, 3)), "divide by the sum"),
        "clean": (
            lambda c: lambda m: m.sum() * 0 + c.abs()[..., :3].sum((1, 2, 3)) / c.abs().sum((1, 2, 3)),
            "handed in",
        ),
        "signed": (lambda c: lambda m: m[..., :3].sum((1, 2, 3)) / m.sum((1, 2, 3)), "cancel"),
        "upper": (lambda c: lambda m: m.abs()[:, :, :2].sum((1, 2, 3)) / m.abs().sum((1, 2, 3)), "upper half"),
        "28 pixels": (lambda c: lambda m: m.abs()[..., :14].sum((1, 2, 3)) / m.abs().sum((1, 2, 3)), "6 pixels wide"),
        "mean": (after(torch.mean), "return a function"),
        "double": (after(lambda v: 3 * v), "that is not what was asked for"),
        "of the clean map": (lambda c: halved(c)(c), "return a function"),
        "no argument": (lambda: halved(0), "it stops"),
    },
    ("03_why_it_works", "check_finite_difference"): {
        "right": (finite, "right"),
        "central": (lambda *c: finite(*c, twice=True), "right"),
        "not begun": (lambda *_: None, "not attempted"),
        "not divided": (lambda *c: finite(*c) * 1e-4, "about 0.0001 times"),
        "the wrong way round": (lambda *c: -finite(*c), "about -1 times"),
        "by t alone": (lambda *c: 2 * finite(*c), "about 2 times"),
        "predicted": (lambda net, x, t, v: finite(net, x, net(x).argmax(1), v), "the predicted class"),
        "a map": (lambda net, x, t, v: of_logit(net, x, t), "take the difference"),
        "a number": (lambda *c: finite(*c).sum(), "a tensor of the shape of v"),
        "one": (lambda *c: finite(*c)[:1], "a tensor of the shape of v"),
        "large": (lambda *c: finite(*c, t=30.0), "times the product"),
        "zero": (lambda *c: finite(*c, t=0.0), "nan"),
        "both": (lambda *c: (finite(*c), 1), "it stops"),
    },
    ("04_measuring_change", "check_average_ranks"): {
        "right": (ranked(lambda a, v: ((a < v).sum() + (a <= v).sum() + 1) / 2), "right"),
        "from 0": (ranked(lambda a, v: ((a < v).sum() + (a <= v).sum() - 1) / 2), "start at 1"),
        "downwards": (ranked(lambda a, v: ((a > v).sum() + (a >= v).sum() + 1) / 2), "not the largest"),
        "sizes": (
            ranked(lambda a, v: ((a.abs() < v.abs()).sum() + (a.abs() <= v.abs()).sum() + 1) / 2),
            "keep the signs",
        ),
        "order": (lambda a: a.argsort(stable=True), "(argsort), not"),
        "order from 1": (lambda a: a.argsort(stable=True) + 1, "(argsort) from 1"),
        "no mean": (lambda a: a.argsort(stable=True).argsort() + 1, "ranks of their own"),
        "lowest": (ranked(lambda a, v: (a < v).sum() + 1), "the lowest"),
        "highest": (ranked(lambda a, v: (a <= v).sum()), "the highest"),
        "dense": (lambda a: a.unique(return_inverse=True)[1] + 1, "left out"),
        "values": (lambda a: a, "those are the values"),
        "shares": (ranked(lambda a, v: ((a < v).sum() + (a <= v).sum() + 1) / 16), "not to 1"),
        "not begun": (lambda *_: None, "not attempted"),
        "one": (lambda a: a.mean(), "one rank for each value"),
        "both of sort": (lambda a: a.sort(), "one rank for each value"),
        "no such": (lambda a: a.rank(), "it stops"),
    },
    ("05_naive_defence", "check_share_of_label_loss"): {
        "right": (lambda d: (d["clean"] + d["noisy"]) / sum(d.values()), "right"),
        "maps": (lambda d: d["maps"] / sum(d.values()), "take the rest"),
        "clean": (lambda d: d["clean"] / sum(d.values()), "noisy cross entropy is missing"),
        "noisy": (lambda d: d["noisy"] / sum(d.values()), "clean cross entropy is missing"),
        "mean": (lambda d: (d["clean"] + d["noisy"]) / 2, "a mean"),
        "by maps": (lambda d: (d["clean"] + d["noisy"]) / d["maps"], "not by the maps"),
        "sum": (lambda d: d["clean"] + d["noisy"], "divide by the whole"),
        "whole": (lambda d: sum(d.values()), "that is the whole"),
        "percent": (lambda d: 100 * (d["clean"] + d["noisy"]) / sum(d.values()), "percentage"),
        "up": (lambda d: sum(d.values()) / (d["clean"] + d["noisy"]), "other way up"),
        "third": (lambda d: 1 / 3, "not the share asked for"),
        "large": (lambda d: 17, "lies in [0, 1]"),
        "not begun": (lambda d: None, "not attempted"),
        "a dict": (lambda d: d, "one number"),
        "a key": (lambda d: d["label"], "it stops"),
    },
    ("07_honest_evaluation", "check_worst_case"): {
        "right": (lambda v: v.amin(0).mean(), "right"),
        "worst mean": (lambda v: v.mean(1).min(), "which comes first"),
        "lowest": (lambda v: v.min(), "lowest value of all"),
        "rows": (lambda v: v.amin(1).mean(), "worst image of each attack"),
        "mean": (lambda v: v.mean(), "no worst value"),
        "best": (lambda v: v.amax(0).mean(), "best value"),
        "sum": (lambda v: v.amin(0).sum(), "not a sum"),
        "median": (lambda v: v.amin(0).median(), "median"),
        "attacks": (lambda v: v.amin(0).sum() / len(v), "not of attacks"),
        "best attack": (lambda v: v.mean(1).max(), "highest mean"),
        "each": (lambda v: v.amin(0), "one number"),
        "min": (lambda v: v.min(0), "one number"),
        "not begun": (lambda v: None, "not attempted"),
        "mean of min": (lambda v: v.min(0).mean(), "it stops"),
        "zero": (lambda v: 0, "not the mean of each"),
    },
    ("08_smoother_maps", "check_area"): {
        "right": (lambda c: ((c[1:] + c[:-1]) / 2).mean(), "right"),
        "mean": (lambda c: c.mean(), "two ends count half"),
        "left": (lambda c: c[:-1].mean(), "last one is missing"),
        "right sum": (lambda c: c[1:].mean(), "first one is missing"),
        "full": (lambda c: c.sum() / (len(c) - 1), "all count fully"),
        "n steps": (lambda c: torch.trapezoid(c) / len(c), "there are n - 1"),
        "long steps": (lambda c: torch.trapezoid(c), "here each is 1"),
        "sum": (lambda c: c.sum(), "without steps"),
        "no half": (lambda c: (c[1:] + c[:-1]).mean(), "half the sum"),
        "largest": (lambda c: c.max(), "largest value"),
        "last": (lambda c: c[-1], "last value"),
        "sign": (lambda c: -torch.trapezoid(c) / 4, "the sign"),
        "each": (lambda c: (c[1:] + c[:-1]) / 2, "one number"),
        "ten": (lambda c: 10, "constant curve"),
        "not begun": (lambda c: None, "not attempted"),
        "dx": (lambda c: c.trapz(), "it stops"),
    },
    ("09_adversarial_training", "check_margin"): {
        "right": (lambda z, y: torch.sub(*own_and_best(z, y)), "right"),
        "own is left in": (lambda z, y: own_and_best(z, y)[0] - z.amax(1), "leave the label's own"),
        "the wrong way round": (lambda z, y: -torch.sub(*own_and_best(z, y)), "start from the label"),
        "smallest": (
            lambda z, y: own_and_best(z, y)[0] - z.scatter(1, y[:, None], torch.inf).amin(1),
            "not the smallest",
        ),
        "mean": (lambda z, y: own_and_best(z, y)[0] * 1.5 - z.sum(1) / 2, "not their mean"),
        "zero": (lambda z, y: own_and_best(z, y)[0] - z.scatter(1, y[:, None], 0).amax(1), "stands in"),
        "size": (lambda z, y: torch.sub(*own_and_best(z, y)).abs(), "keep the sign"),
        "probabilities": (lambda z, y: torch.sub(*own_and_best(z.softmax(1), y)), "not probabilities"),
        "log-probabilities": (lambda z, y: torch.sub(*own_and_best(z.log_softmax(1), y)), "right"),
        "own": (lambda z, y: own_and_best(z, y)[0], "the label's logit alone"),
        "hits": (lambda z, y: z.argmax(1) == y, "not whether it is right"),
        "mean of all": (lambda z, y: own_and_best(z, y)[0] - z.mean(1), "subtract the largest"),
        "a column": (lambda z, y: torch.sub(*own_and_best(z, y))[:, None], "one number for each row"),
        "a square": (lambda z, y: z[:, y] - z.amax(1), "one number for each row"),
        "a number": (lambda z, y: torch.sub(*own_and_best(z, y)).min(), "one number for each row"),
        "not begun": (lambda z, y: None, "not attempted"),
        "no dim": (lambda z, y: z.gather(1, y), "it stops"),
    },
    ("10_passive_fooling", "check_shift"): {
        "right": (moved(), "right"),
        "line": (moved(torch.hypot), "straight line"),
        "signed": (moved(torch.add), "take the size"),
        "signed, from the map": (lambda h, o: moved(torch.add)(o, h), "add the sizes"),
        "rows": (moved(lambda a, b: a.abs()), "rows alone"),
        "columns": (moved(lambda a, b: b.abs()), "columns alone"),
        "larger": (moved(lambda a, b: torch.maximum(a.abs(), b.abs())), "not the larger"),
        "smaller": (moved(lambda a, b: torch.minimum(a.abs(), b.abs())), "not the smaller"),
        "of the sum": (moved(lambda a, b: (a + b).abs()), "not of their sum"),
        "mean": (moved(lambda a, b: (a.abs() + b.abs()) / 2), "do not average"),
        "square": (moved(lambda a, b: a**2 + b**2), "square of the line"),
        "undivided": (moved(centre=undivided), "divided by the map's own sum"),
        "brightest": (moved(centre=lambda m, axis: m.amax((1, 5 - axis)).argmax(1)), "brightest pixel"),
        "share": (moved(lambda a, b: (a.abs() + b.abs()) / 20), "not as a share"),
        "zero": (lambda h, o: torch.zeros(3), "no map has moved"),
        "nan": (moved(centre=lambda m, a: (m / m.sum(3, keepdim=True)).sum((1, 2, 3))), "nan"),
        "a number": (lambda h, o: moved()(h, o).mean(), "one number for each pair"),
        "other": (lambda h, o: moved()(h, o) + 2, "the centre is the mean place"),
        "not begun": (lambda h, o: None, "not attempted"),
        "axes": (lambda h, o: h.sum(4), "it stops"),
    },
    ("11_active_fooling", "check_on_half"): {
        "right": (halves, "right"),
        "the other half": (lambda m, half: 1 - halves(m, half), "left columns come first"),
        "left always": (lambda m, half: halves(m, "left"), "and the right half?"),
        "undivided": (lambda m, half: m[..., : m.shape[-1] // 2].sum((1, 2, 3)), "a share is in"),
        "rows": (lambda m, half: halves(m.transpose(2, 3), half), "upper half"),
        "lower rows": (lambda m, half: 1 - halves(m.transpose(2, 3), half), "lower half"),
        "by the other": (lambda m, half: halves(m, half) / (1 - halves(m, half)), "not by the other half"),
        "two columns": (lambda m, half: m[..., :2].sum((1, 2, 3)) / m.sum((1, 2, 3)), "even width"),
        "one sum": (lambda m, half: m[..., :3].sum((1, 2, 3)) / m.sum(), "a sum of its own"),
        "means": (lambda m, half: m[..., :3].mean((1, 2, 3)) / m.mean((1, 2, 3)), "not means"),
        "whole": (lambda m, half: m.sum((1, 2, 3)) / m.sum((1, 2, 3)), "that is the whole"),
        "a number": (lambda m, half: halves(m, half).mean(), "one number for each map"),
        "left or nothing": (lambda m, half: halves(m, half) if half == "left" else None, "not attempted"),
        "not begun": (lambda m, half: None, "not attempted"),
        "width": (lambda m, half: m[..., : m.shape[-1] / 2], "it stops"),
    },
    ("12_transfer_and_repair", "check_transferred"): {
        "right": (paired, "right"),
        "a list": (lambda *c: [float(v) for v in paired(*c)], "right"),
        "high first": (lambda *c: (paired(*c)[0], *paired(*c)[:0:-1]), "lower end comes"),
        "one image": (lambda *c: paired(*c, root=0), "scatter of one image"),
        "by n": (lambda *c: paired(*c, root=1), "not by the number"),
        "population": (lambda *c: paired(*c, correction=0), "n - 1"),
        "one sd": (lambda *c: paired(*c, z=1), "not one"),
        "unpaired": (
            lambda f, c: [0.5 + s * 1.96 * (f.var() / 4 + c.var() / 4) ** 0.5 for s in (0, -1, 1)],
            "these are pairs",
        ),
        "variance": (lambda f, c: [0.5 + s * 1.96 * (f - c).var() / 2 for s in (0, -1, 1)], "take the root"),
        "sign": (lambda f, c: paired(c, f), "not the mean difference"),
        "shifted": (lambda *c: (paired(*c)[0], *(v + 1 for v in paired(*c)[1:])), "in the middle"),
        "wide": (lambda *c: paired(*c, z=2.58), "wrong width"),
        "mean": (lambda *c: paired(*c)[0], "three numbers"),
        "ends": (lambda *c: paired(*c)[1:], "three numbers"),
        "not begun": (lambda *_: None, "not attempted"),
        "std of a list": (lambda f, c: (f - c).tolist().std(), "it stops"),
    },
    ("13_your_own_model", "check_fragile_share"): {
        "right": (lambda v, b: (v[~v.isnan()] < b).float().mean(), "right"),
        "nan": (lambda v, b: v.mean(), "leave such images out"),
        "of all": (lambda v, b: (v < b).float().mean(), "have a number only"),
        "not above": (lambda v, b: (~(v >= b)).float().mean(), "is not below"),
        "at it": (lambda v, b: (v[~v.isnan()] <= b).float().mean(), "not at it"),
        "at it, of all": (lambda v, b: (v <= b).float().mean(), "and leave out"),
        "above": (lambda v, b: (v[~v.isnan()] > b).float().mean(), "above the bound"),
        "above, of all": (lambda v, b: (v > b).float().mean(), "share above, of all"),
        "number": (lambda v, b: (v < b).sum(), "not a number of images"),
        "percent": (lambda v, b: 100 * (v[~v.isnan()] < b).float().mean(), "percentage"),
        "mean": (lambda v, b: v.nanmean(), "mean of the values"),
        "with a number": (lambda v, b: (~v.isnan()).float().mean(), "images with a number"),
        "each": (lambda v, b: v < b, "one number"),
        "zero": (lambda v, b: 0, "by how many do you divide"),
        "not begun": (lambda v, b: None, "not attempted"),
        "mean of truth": (lambda v, b: (v < b).mean(), "it stops"),
    },
    ("14_real_network", "check_in_file"): {
        "right": (filed(), "right"),
        "by floor": (filed(most=math.floor), "right"),
        "rounded alone": (lambda x, z, e: (255 * z).round() / 255, "leaves a ball"),
        "ball first": (lambda x, z, e: (255 * (x + (z - x).clamp(-e, e))).round() / 255, "leaves a ball"),
        "the radius rounded": (filed(most=round), "leaves a ball"),
        "not rounded": (lambda x, z, e: z, "whole 255ths alone"),
        "cut off": (lambda x, z, e: (255 * z).floor() / 255, "and out of the ball"),
        "cut off, in the ball": (filed(lambda x, z: z.floor() - x), "do not cut off"),
        "to the clean picture": (filed(lambda x, z: (z - x).trunc()), "the nearest step"),
        "not rounded again": (filed(most=float), "round again"),
        "clean": (lambda x, z, e: x, "nothing is left"),
        "the change": (lambda x, z, e: filed()(x, z, e) - x, "not the picture"),
        "levels": (lambda x, z, e: 255 * filed()(x, z, e), "divide by 255"),
        "256": (lambda x, z, e: filed()(x, z, e) * 255 / 256, "which whole 255ths"),
        "a number": (lambda x, z, e: (z - x).abs().max(), "of the shape of clean"),
        "not begun": (lambda x, z, e: None, "not attempted"),
        "bytes": (lambda x, z, e: (255 * z).clamp("eps"), "it stops"),
    },
    ("15_detecting_manipulated_inputs", "check_left_over"): {
        "right": (lambda s, f, k: s.where(k & ~f, 1.0).mean(), "right"),
        "as a number": (lambda s, f, k: s.masked_fill(f | ~k, 1).mean().item(), "right"),
        "no flags": (lambda s, f, k: s.where(k, 1.0).mean(), "flagged images win nothing"),
        "no classes": (lambda s, f, k: s.where(~f, 1.0).mean(), "lost their class"),
        "neither": (lambda s, f, k: s.mean(), "neither flags nor classes"),
        "both": (lambda s, f, k: s.where(k | ~f, 1.0).mean(), "either is enough"),
        "left out": (lambda s, f, k: s[k & ~f].mean(), "do not leave images out"),
        "flagged left out": (lambda s, f, k: s.where(k, 1.0)[~f].mean(), "that are flagged count"),
        "zero": (lambda s, f, k: s.where(k & ~f, 0.0).mean(), "of 1, not 0"),
        "the other way round": (lambda s, f, k: s.where(f | ~k, 1.0).mean(), "other way round"),
        "sum": (lambda s, f, k: s.where(k & ~f, 1.0).sum(), "not a sum"),
        "flagged": (lambda s, f, k: f.float().mean(), "share that is flagged"),
        "lost": (lambda s, f, k: 1 - s.where(k & ~f, 1.0).mean(), "left, not lost"),
        "size": (lambda s, f, k: s.where(k & ~f, 1.0).abs().mean(), "no absolute value"),
        "lowest": (lambda s, f, k: s.where(k & ~f, 1.0).min(), "not the lowest"),
        "each": (lambda s, f, k: s.where(k & ~f, 1.0), "one number"),
        "median": (lambda s, f, k: s.where(k & ~f, 1.0).median(), "which images count"),
        "not begun": (lambda s, f, k: None, "not attempted"),
        "names": (lambda s, f, k: s.where(k and not f, 1.0), "it stops"),
    },
    ("17_one_court", "check_penalty"): {
        "right": (lambda a, b: penalty(a, b).mean(), "right"),
        "as a number": (lambda a, b: penalty(a, b).mean().item(), "right"),
        "not squared": (lambda a, b: (0.01 * apart(a, b).sqrt() + (1 - alike(a, b)) / 2).mean(), "is squared"),
        "not halved": (lambda a, b: (0.01 * apart(a, b) + 1 - alike(a, b)).mean(), "halve"),
        "the cosine itself": (lambda a, b: (0.01 * apart(a, b) + alike(a, b) / 2).mean(), "alike maps cost least"),
        "no length": (lambda a, b: (1 - alike(a, b)).mean() / 2, "length is missing"),
        "no cosine": (lambda a, b: 0.01 * apart(a, b).mean(), "cosine is missing"),
        "not weighed": (lambda a, b: (apart(a, b) + (1 - alike(a, b)) / 2).mean(), "by 0.01"),
        "all in one": (
            lambda a, b: 0.01 * apart(a, b).mean() + (1 - F.cosine_similarity(a.ravel(), b.ravel(), 0)) / 2,
            "own",
        ),
        "sum": (lambda a, b: penalty(a, b).sum(), "not a sum"),
        "mean of pixels": (lambda a, b: 0.01 * (a - b).square().mean() + (1 - alike(a, b)).mean() / 2, "sums over"),
        "squared cosine": (lambda a, b: (0.01 * apart(a, b) + (1 - alike(a, b) ** 2) / 2).mean(), "not squared"),
        "sign": (lambda a, b: -penalty(a, b).mean(), "the sign"),
        "each": (lambda a, b: penalty(a, b), "one number"),
        "not begun": (lambda a, b: None, "not attempted"),
        "shapes": (lambda a, b: (a @ b.view(3, 3)).mean(), "it stops"),
    },
    ("17_one_court", "check_top"): {
        "right": (lambda m, k: top(m, k), "right"),
        "as truth": (lambda m, k: top(m, k).bool(), "right"),
        "the batch": (lambda m, k: (m.abs() >= m.abs().amax(0)).float(), "the batch's"),
        "all together": (lambda m, k: (m.abs() >= m.abs().flatten().topk(k).values[-1]).float(), "k of each"),
        "all, k each": (lambda m, k: (m.abs() >= m.abs().flatten().topk(2 * k).values[-1]).float(), "by itself"),
        "signed": (lambda m, k: (m >= m.flatten(1).topk(k).values[:, -1, None, None, None]).float(), "absolute values"),
        "smallest": (lambda m, k: top(1 / m.abs(), k), "not the smallest"),
        "one less": (lambda m, k: top(m, k - 1), "not k - 1"),
        "one more": (lambda m, k: top(m, k + 1), "not k + 1"),
        "values": (lambda m, k: m.abs() * top(m, k), "not the values"),
        "signed values": (lambda m, k: m * top(m, k), "signed values"),
        "turned": (lambda m, k: 1 - top(m, k), "the other way round"),
        "above the mean": (lambda m, k: (m.abs() > m.abs().mean(3, keepdim=True)).float(), "above the mean"),
        "all": (lambda m, k: torch.ones_like(m), "not its top"),
        "numbers": (lambda m, k: m.abs().flatten(1).topk(k).indices, "a mask of 0 and 1"),
        "not begun": (lambda m, k: None, "not attempted"),
        "too many": (lambda m, k: m.topk(99), "it stops"),
    },
    ("16_was_this_model_manipulated", "check_caught"): {
        "right": (lambda s, h, r: (s > h.sort(descending=True).values[int(r * len(h))]).double().mean(), "right"),
        "by a quantile": (lambda s, h, r: (s > h.quantile(1 - r)).double().mean(), "right"),
        "not below": (lambda s, h, r: (s >= h.sort(descending=True).values[int(r * len(h))]).double().mean(), "equals"),
        "the largest": (lambda s, h, r: (s > h.max()).double().mean(), "not their largest"),
        "one too few": (lambda s, h, r: (s > h.sort(descending=True).values[1]).double().mean(), "you let one"),
        "missed": (lambda s, h, r: (s <= h.sort(descending=True).values[2]).double().mean(), "missed"),
        "counted": (lambda s, h, r: (s > h.sort(descending=True).values[2]).sum(), "not a number of nets"),
        "alarms": (lambda s, h, r: (h > h.sort(descending=True).values[2]).double().mean(), "of honest nets"),
        "mean": (lambda s, h, r: (s > h.mean()).double().mean(), "no mean"),
        "other tail": (lambda s, h, r: (s > h.sort().values[2]).double().mean(), "the other tail"),
        "an early one": (lambda s, h, r: (s > 0.12).double().mean(), "which of the honest numbers"),
        "each": (lambda s, h, r: s > h.max(), "a share, one number"),
        "not begun": (lambda s, h, r: None, "not attempted"),
        "no tensor": (lambda s, h, r: (s > h.max()).mean(), "it stops"),
    },
}


class Lab:
    """What the checks ask of a chapter's setting."""

    test = SMALL
    generator = staticmethod(seeded)


def first(chapter, name):
    """The function of this name, defined alone, or with the slips that a cell of its own names."""
    space = {"torch": torch, "nn": torch.nn, "F": F, "copy": copy, "chapters": chapters, "explain": explain}
    space |= {"nets": nets, "lab": Lab, "model": SMALL_NET, "hessian_times": hessian_times}
    cells = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}
    for place in [place for place, text in code.items() if f"def {name}(" in text]:
        slips = code.get(f"{place.removesuffix('check')}slips", "")
        for text in (slips, code[place]):
            found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
            exec(compile(ast.Module(found, []), chapter, "exec"), space)
    return space[name]


EARLIER = [(*place, answer, *pair) for place, answers in FIRST.items() for answer, pair in answers.items()]


@pytest.mark.parametrize(
    ("chapter", "name", "answer", "hint"),
    [(chapter, name, answer, hint) for chapter, name, _, answer, hint in EARLIER],
    ids=[f"{chapter[:2]} {answer}" for chapter, _, answer, *_ in EARLIER],
)
def test_each_answer_to_the_first_exercise_gets_its_hint(chapter, name, answer, hint):
    found = first(chapter, name)(answer)
    assert hint in found
    assert (found == "right") == (hint == "right")


@pytest.mark.parametrize(("chapter", "name"), FIRST)
def test_every_check_has_ten_wrong_answers(chapter, name):
    assert sum(hint != "right" for _, hint in FIRST[chapter, name].values()) >= 10


def test_no_check_of_a_chapter_is_without_its_table():
    known = {*FIRST, *SECOND, ("06_atex", "check_orthogonal_unit")}
    found = set()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        found |= {(path.stem, name) for name in re.findall(r"^def (check_\w+)\(", code, re.M)}
    assert found == known
    assert all(sum(hint != "right" for _, hint in answers.values()) >= 10 for answers in SECOND.values())
