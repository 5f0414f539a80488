"""Faults under load: a small sweep is killed, starved of disk, damaged and lied to; is a finished result ever lost?

Run: `python benchmarks/faults.py`, a few minutes on one core. It writes `benchmarks/faults.json`, which the page
"Status" shows, and exits with an error where a result was lost.

The sweep makes a net and six cards on scikit-learn's digits, at a fraction of the smallest preset, in processes
that are forked from this one: so a random moment of it is a moment of work, not of an import. A result is *lost* if it
had its name before the fault and is gone, damaged or another one after it, or if the same command does not make it
afterwards as an undisturbed sweep would. It is *found broken* if the fault damaged it and the library said so.
"""

import contextlib
import dataclasses
import errno
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from atexlib import experiments, files
from atexlib.experiments.engine import presets, provenance, results, store

CARD = Path(__file__).with_suffix(".json")
SPECS = experiments.grid(
    kind="table",
    dataset="digits",
    attack=["untargeted", "targeted"],
    defense="none",
    eps=[0.02, 0.06, 0.1],
    seed=0,
    preset="smoke",
)
FEW = {"train_images": 100, "epochs": 1, "batch_size": 20, "images": 4, "steps": 2}
NET = "undefended/digits-seed0-smoke.safetensors"
TIMES = 20
FORK = multiprocessing.get_context("fork")
Row = dict[str, Any]


def sweep(folder: Path, meddle: Callable[[], None] = lambda: None, *, recompute: Any = False) -> None:
    """Make what is missing in a folder; `meddle` is called first, to spoil the process."""
    os.environ["ATEXLIB_RESULTS"] = str(folder)
    store.COMMITTED = folder
    provenance._git = lambda *_: None  # it would take most of the time, and is asked for each result
    meddle()
    experiments.run_all(SPECS, recompute=recompute)


def _silent(*given: Any, **options: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sweep(*given, **options)


def started(folder: Path, *meddle: Callable[[], None], recompute: Any = False) -> Any:
    """A sweep in a process of its own."""
    process = FORK.Process(target=_silent, args=(folder, *meddle), kwargs={"recompute": recompute})
    process.start()
    return process


def finish(folder: Path, *meddle: Callable[[], None], recompute: Any = False) -> int:
    """Run a sweep to its end; its exit code."""
    process = started(folder, *meddle, recompute=recompute)
    process.join()
    return int(process.exitcode)


def names(folder: Path) -> list[str]:
    """The results that have their names."""
    found = [
        path.relative_to(folder).as_posix() for end in (".json", ".safetensors") for path in folder.glob(f"*/*{end}")
    ]
    return sorted(name for name in found if not name.startswith(".locks") and "/." not in name)


def numbers(folder: Path) -> dict[str, tuple[str, str]]:
    """What those results of a folder say that can be read, by name: spec and metrics, and a net's weights."""
    found = {}
    for name in names(folder):
        with contextlib.suppress(ValueError):
            card = results.read(folder / name)
            weights = provenance.fingerprint(folder / name) if name == NET else ""
            found[name] = json.dumps([card["spec"], card["metrics"]]), weights
    return found


def lost(folder: Path, before: dict[str, Any], whole: dict[str, Any], *, but: str = "") -> int:
    """How many results are lost: of those before the fault, all `but` one, now; of all, after the same command."""
    now = numbers(folder)
    gone = {name for name in before.keys() - {but} if now.get(name) != before[name]}
    finish(folder, recompute="stale")
    after = numbers(folder)
    return len(gone | {name for name in whole if after.get(name) != whole[name]})


def row(fault: str, times: int, finished: int, broken: int, gone: int) -> Row:
    """A line of the table."""
    print(f"{fault}: {times} times, {finished} finished before, {broken} found broken, {gone} lost", flush=True)
    return {"fault": fault, "times": times, "finished before": finished, "found broken": broken, "lost": gone}


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A new folder of results."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(place) / "results"


def killed(whole: dict[str, Any], seconds: float, rng: random.Random, times: int = TIMES) -> Row:
    """SIGKILL at random moments of the sweep, each in a new folder."""
    finished = broken = gone = 0
    for _ in range(times):
        with folder() as place:
            process = started(place)
            time.sleep(rng.uniform(0, seconds))
            process.kill()
            process.join()
            before = numbers(place)
            finished += len(before)
            broken += len(names(place)) - len(before)
            gone += lost(place, before, whole) + len(names(place)) - len(before.keys() | whole.keys())
            gone += len(list(place.rglob("*.part")))
    return row("killed at a random moment", times, finished, broken, gone)


def killed_writing(whole: dict[str, Any], *, after: bool) -> Row:
    """SIGKILL at each write: when half of the file is there, or when it has its name."""
    finished = broken = gone = 0
    for turn in range(len(whole)):

        def meddle(turn: int = turn) -> None:
            written, replace, sync = [], os.replace, os.fsync

            def end(number: int) -> None:
                if len(written) == turn and not after:
                    os.truncate(number, os.fstat(number).st_size // 2)
                    os.kill(os.getpid(), signal.SIGKILL)
                sync(number)

            def name(source: str, target: str) -> None:
                replace(source, target)
                if len(written) == turn and after:
                    os.kill(os.getpid(), signal.SIGKILL)
                written.append(target)

            os.fsync, os.replace = end, name

        with folder() as place:
            assert finish(place, meddle) == -signal.SIGKILL
            before = numbers(place)
            finished += len(before)
            broken += len(names(place)) - len(before)
            gone += abs(len(before) - turn - after) + lost(place, before, whole)
            gone += len(list(place.rglob("*.part")))
    return row(f"killed {'after' if after else 'within'} each write", len(whole), finished, broken, gone)


def full_disk(whole: dict[str, Any]) -> Row:
    """A disk that is full after some results: a tmpfs of a megabyte, else a limit on the size of files."""
    with folder() as place:
        place.mkdir()
        mounted = not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False
        ).returncode
        try:
            ballast = place / "ballast"

            def meddle() -> None:
                if not mounted:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

            ballast.write_bytes(bytes(400_000) if mounted else b"")
            finish(place, _thin)  # a few cards, so that there is something to lose
            before = numbers(place)
            if mounted:
                with contextlib.suppress(OSError), ballast.open("ab") as file:
                    while True:
                        file.write(bytes(4096))
                        file.flush()
            assert finish(place, meddle) != 0
            broken = len(names(place)) - len(numbers(place))
            still = numbers(place)
            gone = sum(still.get(name) != before[name] for name in before)
            ballast.unlink()
            gone += lost(place, before, whole)
        finally:
            if mounted:
                subprocess.run(["umount", place], check=True)
    where = "a tmpfs of 1 MB" if mounted else "a limit of 100 kB a file"
    return row(f"full disk ({where})", 1, len(before), broken, gone)


def _thin() -> None:
    """Stop a sweep after its net and four cards."""
    written, write = [], files.write

    def few(path: Path, save: Callable[[str], object]) -> None:
        if len(written) == 5:
            os._exit(0)
        write(path, save)
        written.append(path)

    files.write = few


def no_space(whole: dict[str, Any]) -> Row:
    """Every second write ends with "no space left" half-way, five sweeps long; the sixth sweep has space."""

    def meddle() -> None:
        turn, sync = [0], os.fsync

        def fail(number: int) -> None:
            turn[0] += 1
            if turn[0] % 2 == 0:
                os.truncate(number, os.fstat(number).st_size // 2)
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(number)

        os.fsync = fail

    with folder() as place:
        seen: dict[str, Any] = {}
        finished = gone = broken = 0
        for _ in range(5):
            assert finish(place, meddle) != 0
            now = numbers(place)
            gone += sum(now.get(name) != seen[name] for name in seen)
            broken += len(names(place)) - len(now)
            finished, seen = len(now), now
        gone += lost(place, seen, whole)
    return row("no space at every second write", 5, finished, broken, gone)


def damaged(whole: dict[str, Any], how: str, spoil: Callable[[bytes, int], bytes], only: str = "") -> Row:
    """Each result of a finished sweep spoiled once: told, and made anew with `--recompute stale`."""
    broken = gone = 0
    chosen = [name for name in whole if name.endswith(only)]
    with folder() as place:
        finish(place)
        before = numbers(place)
        kept = {name: (place / name).read_bytes() for name in before}
        for number, name in enumerate(chosen):
            (place / name).write_bytes(spoil(kept[name], number))
            told = name not in numbers(place)
            broken += told
            gone += (not told) + lost(place, before, whole, but=name)
    return row(how, len(chosen), len(before), broken, gone)


def two_sweeps(whole: dict[str, Any], *, times: int = 3, locks: bool = True) -> Row:
    """Two sweeps at once in one folder, renames that take up to 20 ms, and a reader who looks all the time."""

    def meddle() -> None:
        replace, rng, make = os.replace, random.Random(os.getpid()), results._make

        def slow(source: str, target: str) -> None:
            time.sleep(rng.uniform(0, 0.02))
            replace(source, target)

        def counted(kind: Any, spec: Any, *rest: Any) -> None:
            with (store.place("").parent / "made").open("a") as file:
                file.write(f"{kind.file(spec)}\n")
            make(kind, spec, *rest)

        os.replace, results._make = slow, counted
        if not locks:
            store.locked = lambda name: contextlib.nullcontext()

    finished = broken = gone = 0
    for _ in range(times):
        with folder() as place:
            both = [started(place, meddle) for _ in range(2)]
            seen: dict[str, Any] = {}
            while any(process.is_alive() for process in both):
                now = numbers(place)
                broken += sum(name not in now for name in seen)
                gone += sum(now.get(name) != seen[name] for name in seen)
                seen = now
                time.sleep(0.005)
            gone += sum(process.exitcode != 0 for process in both)
            made = (place.parent / "made").read_text().split()
            if locks:
                gone += len(made) - len(set(made))
            before = numbers(place)
            finished += len(before)
            gone += lost(place, before, whole)
    return row(
        f"two sweeps at once, slow renames, {'locks' if locks else 'locks that do nothing'}",
        times,
        finished,
        broken,
        gone,
    )


def power_cut(whole: dict[str, Any], rng: random.Random, *, honest: bool, times: int = TIMES // 2) -> Row:
    """The power goes at a random write: what was not told to go to the disk before it got its name is empty.

    A disk that lies says that it wrote and did not, for every third file.
    """
    finished = broken = gone = 0
    for _ in range(times):
        turn = rng.randrange(1, len(whole))

        def meddle(turn: int = turn) -> None:
            safe, named, sync, replace = set(), [], os.fsync, os.replace

            def put(number: int) -> None:
                if honest or len(named) % 3:
                    sync(number)
                    safe.add(os.fstat(number).st_ino)

            def name(source: str, target: str) -> None:
                replace(source, target)
                named.append(target)
                if len(named) > turn:
                    for path in named:
                        if os.stat(path).st_ino not in safe:
                            os.truncate(path, 0)
                    os.kill(os.getpid(), signal.SIGKILL)

            os.fsync, os.replace = put, name

        with folder() as place:
            assert finish(place, meddle) == -signal.SIGKILL
            before = numbers(place)
            finished += turn + 1
            empty = len(names(place)) - len(before)
            broken += empty
            gone += (turn + 1 - empty) - len(before) + (empty if honest else 0)
            gone += lost(place, before, whole)
    what = "power cut" if honest else "power cut, and every third file was not on the disk as told"
    return row(what, times, finished, broken, gone)


def renames_lost(whole: dict[str, Any]) -> Row:
    """A file system that says it renamed a file, and lost it, every third time; sweeps until one ends well."""

    def meddle() -> None:
        turn, replace = [int(time.monotonic() * 1e6)], os.replace

        def lose(source: str, target: str) -> None:
            turn[0] += 1
            (os.unlink if turn[0] % 3 == 0 else lambda path: replace(path, target))(source)

        os.replace = lose

    with folder() as place:
        sweeps, told = 0, 0
        while sweeps < 50 and (finish(place, meddle) != 0):
            sweeps, told = sweeps + 1, told + 1
        before = numbers(place)
        gone = lost(place, before, whole)
    return row("renames that lose the file", sweeps, len(before), told, gone)


def undisturbed() -> tuple[dict[str, Any], float]:
    """What a sweep gives that nobody disturbs, and how long it takes."""
    presets.SIZES["smoke"] = dataclasses.replace(presets.SIZES["smoke"], **FEW)
    torch.set_num_threads(1)
    with folder() as place:
        sweep(place)  # in this process, so that all that a sweep imports is there in each fork of it
    with folder() as place:
        start = time.perf_counter()
        assert finish(place) == 0
        seconds = time.perf_counter() - start
        whole = numbers(place)
    assert len(whole) == len(SPECS) + 1
    return whole, seconds


def main() -> None:
    """Try every fault, print and write the table."""
    rng, start = random.Random(0), time.perf_counter()
    whole, seconds = undisturbed()
    rows = [
        killed(whole, seconds, rng),
        killed_writing(whole, after=False),
        killed_writing(whole, after=True),
        full_disk(whole),
        no_space(whole),
        damaged(whole, "cut off in the middle", lambda content, _: content[: len(content) // 2]),
        damaged(whole, "emptied", lambda _content, _: b""),
        damaged(whole, "one digit of a card changed", another_digit, only=".json"),
        damaged(whole, "one bit of a net changed", another_bit, only=".safetensors"),
        two_sweeps(whole),
        two_sweeps(whole, locks=False),
        power_cut(whole, rng, honest=True),
        power_cut(whole, rng, honest=False),
        renames_lost(whole),
    ]
    facts = provenance.facts(device="cpu", seconds=time.perf_counter() - start)
    text = json.dumps({"rows": rows, "results of a sweep": len(whole), "provenance": facts}, indent=1) + "\n"
    files.write(CARD, lambda temporary: Path(temporary).write_text(text))
    sys.exit("a result was lost" if any(line["lost"] for line in rows) else 0)


def another_digit(content: bytes, number: int) -> bytes:
    """A card with another digit in one of its numbers."""
    places = [i for i, byte in enumerate(content) if chr(byte).isdigit() and content[i - 1 : i] == b"."]
    at = places[number % len(places)]
    return content[:at] + bytes([48 + (content[at] - 47) % 10]) + content[at + 1 :]


def another_bit(content: bytes, number: int) -> bytes:
    """A net with another bit in one of its weights."""
    at = len(content) - 1 - 1000 * (number + 1)
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


if __name__ == "__main__":
    main()
