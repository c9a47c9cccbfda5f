"""`kill -9` all over preprocessing, training and prediction: whether running the command again ends as if nothing had happened.

    python tests/benchmarks/kills.py FOLDER --json kills.json

On small phantoms each command is run to its end twice. Then it is begun afresh, killed at a random moment, and run again (a
training with `--continue --iterations N`). What the second run left, and what those left that were killed and run again, is
compared with the first: files byte by byte, weights tensor by tensor, preprocessed images voxel by voxel (nnU-Net packs them with
four threads, and which of them is done first shows in the bytes), and of the files that tell times all but these.

Moments are drawn from each tenth of the undisturbed run, so that they lie in the middle of the work, too; where a run was done
before its moment, it is begun once more and killed earlier. To kill that often in minutes, each command runs in a child forked
from a process that has imported everything and computed nothing; checkpoints are written twice a second, and how fast this
machine is, is not measured but given, because a plan depends on it. POSIX.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weak_strokes import machine

from lnauto.files import write_json
from lnauto.locks import LOCK
from lnauto.paths import VARIABLES

NAME = "Dataset501_Phantom"
SECONDS_PER_STEP = 7.0  # a machine so slow that the smallest network is planned
SAVE_EVERY_SECONDS = 0.5
EARLIER = 0.8  # no two runs take the same time
TELLS_TIMES = "seconds"  # the key, wherever it stands
WITH_TIMES = ("run.json", "history.json", "report.json")
IN_WORDS = re.compile(r"\b[\d.]+ (?:s|min|minutes|hours)\b")


@dataclass(frozen=True)
class Stage:
    """A command, what it needs to find, and where its results are."""

    name: str
    needs: tuple[str, ...]  # folders of the undisturbed run
    makes: str
    first: tuple[str, ...]
    again: tuple[str, ...]


def stages(iterations: int) -> list[Stage]:
    plan = ("plan_and_preprocess", "-d", "501", "--device", "cpu")
    train = ("train", "501", "0", "--iterations", str(iterations), "--device", "cpu", "--precision", "fp32", "--workers", "0")
    predict = ("predict", "-i", "raw/Dataset501_Phantom/imagesTs", "-o", "out", "--device", "cpu", "--engine", "torch")
    predict = (*predict, "--precision", "fp32")
    return [
        Stage("preprocessing", ("raw",), "preprocessed", plan, plan),
        Stage("training", ("raw", "preprocessed"), "results", train, (*train, "--continue")),
        Stage("prediction", ("raw", "results"), "out", predict, predict),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="everything is written there; what is there from an earlier run goes")
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    repeat = argparse.BooleanOptionalAction
    parser.add_argument("--repeat", action=repeat, default=True, help="compare a second undisturbed run with the first, too")
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--test-cases", type=int, default=4)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, default=Path("benchmark_kills.json"))
    options = parser.parse_args()
    root, started = options.folder.resolve(), time.monotonic()
    shutil.rmtree(root, ignore_errors=True)
    import_everything()
    shape = ("--cases", options.cases, "--test-cases", options.test_cases, "--size", options.size)
    run(root / "whole", ("make_phantom", f"raw/{NAME}", *map(str, shape), "--declare", "--quiet"))
    (root / "whole/raw" / NAME / "patients.csv").unlink()  # a patient head is another command's work
    figures: dict[str, Any] = {"machine": machine(), "command": " ".join(sys.argv), "stages": {}}
    print(f"{'':>14}{'seconds':>9}{'kills':>7}{'lock left':>11}{'taken over':>12}{'identical':>11}{'left behind':>13}")
    for stage in stages(options.iterations):
        rows = killed_and_run_again(stage, root, options)
        figures["stages"][stage.name] = rows
        kills, total = rows["kills"], {key: sum(bool(kill[key]) for kill in rows["kills"]) for key in rows["kills"][0]}
        counts = f"{len(kills):7}{total['lock_left']:11}{total['taken_over']:12}"
        print(f"{stage.name:>14}{rows['seconds']:9.1f}{counts}{total['identical']:11}{total['left_behind']:13}", flush=True)
    figures["minutes"] = round((time.monotonic() - started) / 60, 1)
    write_json(options.json, figures)
    wrong = [kill for rows in figures["stages"].values() for kill in rows["kills"] if kill["different"] or kill["left_behind"]]
    wrong += [rows for rows in figures["stages"].values() if rows["second run differs in"]]
    print(json.dumps(figures["machine"]), f"{figures['minutes']} minutes")
    for kill in wrong:
        print(json.dumps(kill))
    return 1 if wrong else 0


def killed_and_run_again(stage: Stage, root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Two undisturbed runs, and what came of each kill."""
    whole, rng, kills = root / "whole", random.Random(f"{options.seed} {stage.name}"), []
    seconds, repeats = run(begin(stage, root), stage.first), list[str]()
    (root / "work" / stage.makes).rename(whole / stage.makes)
    if options.repeat:
        own = begin(stage, root)
        seconds = run(own, stage.first)
        repeats = sorted(differences(whole / stage.makes, own / stage.makes))
    for number in range(options.kills):
        moment = seconds * (number + rng.random()) / options.kills
        own = begin(stage, root)
        while run(own, stage.first, kill_after=moment):
            own, moment = begin(stage, root), EARLIER * moment
        lock_left = any(own.glob(f"{stage.makes}/**/{LOCK}"))
        run(own, stage.again)
        said = (own / "log.txt").read_text()
        different = sorted(differences(whole / stage.makes, own / stage.makes))
        left = sorted(str(path.relative_to(own)) for path in (own / stage.makes).rglob(".*"))
        kills.append(
            {
                "moment": round(moment, 2),
                "lock_left": lock_left,
                "taken_over": "this one takes over" in said,
                "identical": not different,
                "different": different,
                "left_behind": left,
            }
        )
        if different or left:
            own.rename(root / f"{stage.name}_{number}")  # to look at
    return {"seconds": round(seconds, 2), "second run differs in": repeats, "kills": kills}


def begin(stage: Stage, root: Path) -> Path:
    """An empty place to work in, always of the same name, because results name their sources in full; what it needs is a copy."""
    work = root / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "raw").symlink_to(root / "whole/raw")  # its files' times are part of what is remembered of them
    for needed in stage.needs[1:]:
        shutil.copytree(root / "whole" / needed, work / needed)
    return work


# ---- a command in a child


def import_everything() -> None:
    """All that a command may import, so that a child begins with its work."""
    import lnauto

    for module in pkgutil.walk_packages(lnauto.__path__, "lnauto."):
        if "ext_trainer" not in module.name:
            importlib.import_module(module.name)
    for name in ("matplotlib.backends.backend_agg", "matplotlib.figure", "pandas", "sklearn.linear_model"):
        importlib.import_module(name)


def run(folder: Path, command: Sequence[str], kill_after: float | None = None) -> float:
    """Run a command in `folder` to its end, and return its seconds; or kill it, and return 0 if it was at work still."""
    folder.mkdir(exist_ok=True, parents=True)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(in_child(folder, command))
    if kill_after is not None:
        while (
            time.monotonic() - started < kill_after and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        ):
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if kill_after is not None and code == -signal.SIGKILL:
        return 0.0
    if code:
        raise SystemExit(f"lnauto_{' '.join(command)} ended with {code} in {folder}; see log.txt there")
    return time.monotonic() - started


def in_child(folder: Path, command: Sequence[str]) -> int:
    """What a child does: the command, as from a console in `folder`."""
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    for name, variable in VARIABLES.items():
        os.environ[variable] = str(folder / name)
    try:
        as_on_another_machine(folder.parent / "cache")
        print("$ lnauto_" + " ".join(command))
        code = int(importlib.import_module(f"lnauto.commands.{command[0]}").main(list(command[1:])))
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    return code


def as_on_another_machine(cache: Path) -> None:
    """One that is always as fast; and checkpoints are written often enough for a training of seconds."""
    from lnauto.networks import machine_cache, probe
    from lnauto.trainers import options

    machine_cache.FOLDER = cache
    probe.seconds_per_step = lambda *_: SECONDS_PER_STEP  # type: ignore[assignment]
    options.Options = functools.partial(options.Options, save_every_seconds=SAVE_EVERY_SECONDS)  # type: ignore[misc, assignment]


# ---- what is different


def differences(expected: Path, found: Path) -> Iterator[str]:
    """The files that are not the same, or only on one side."""
    names = {path.relative_to(root).as_posix() for root in (expected, found) for path in root.rglob("*") if path.is_file()}
    for name in names:
        if "training_log" in name or name.endswith("report.html"):  # a log for each run; the page shows what report.json holds
            continue
        first, second = expected / name, found / name
        if not (first.is_file() and second.is_file()):
            yield f"{name}: only in {'the undisturbed run' if first.is_file() else 'this'}"
        elif not same(first, second):
            yield name


def same(first: Path, second: Path) -> bool:
    if first.read_bytes() == second.read_bytes():
        return True
    if first.name in WITH_TIMES:
        return same_json(first, second)
    compare: dict[str, Callable[[Path, Path], bool]] = {".pth": same_weights, ".b2nd": same_voxels, ".md": same_text}
    return first.suffix in compare and compare[first.suffix](first, second)


def same_voxels(first: Path, second: Path) -> bool:
    import blosc2

    one, other = (blosc2.open(str(path), mode="r") for path in (first, second))
    alike = [(each.shape, each.chunks, each.blocks, each.dtype) for each in (one, other)]
    return alike[0] == alike[1] and bool((one[:] == other[:]).all())


def same_weights(first: Path, second: Path) -> bool:
    """Of network and optimiser, and all that a checkpoint tells but times."""
    import torch

    def equal(one: Any, other: Any) -> bool:
        if isinstance(one, torch.Tensor):
            return torch.equal(one, other)
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one if key != TELLS_TIMES)
        if isinstance(one, list | tuple):
            return len(one) == len(other) and all(map(equal, one, other))
        return bool(one == other)

    contents = [torch.load(path, map_location="cpu", weights_only=True) for path in (first, second)]
    parts = [{key: content[key] for key in ("network_weights", "optimizer_state")} for content in contents]
    told = [{**content["lnauto"], "history": without_times(content["lnauto"]["history"])} for content in contents]
    return equal(*parts) and equal(*told)


def same_text(first: Path, second: Path) -> bool:
    return IN_WORDS.sub("", first.read_text()) == IN_WORDS.sub("", second.read_text())


def same_json(first: Path, second: Path) -> bool:
    one, other = (without_times(json.loads(path.read_text())) for path in (first, second))
    return bool(one == other)


def without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key != TELLS_TIMES}
    if isinstance(content, str):
        return IN_WORDS.sub("", content)
    return [without_times(each) for each in content] if isinstance(content, list) else content


if __name__ == "__main__":
    raise SystemExit(main())
