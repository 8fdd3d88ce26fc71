#!/usr/bin/env python
"""Kill a pipeline at random moments, continue, and compare with one left alone.

Both run in folders of their own below --scratch. The moments (SIGKILL to the pipeline,
which takes its stages with it) are drawn over the time that the stages take when left
alone; a moment that a stage of the second run does not reach is drawn anew. At the end
every file that the stages recorded has to be the same to the byte, but for what holds
times of day or of work: logs, the report, mining's bookkeeping. Checkpoints hold times,
too: their weights are compared; and so the hashes of checkpoints in manifests differ.

Example:
    python tests/checks/kill_pipeline.py configs/pipelines/demo_short.py --kills 50
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from prettytable import PrettyTable

ROOT = Path(__file__).resolve().parents[2]
#: What a pipeline of the repository finds in its folder.
LINKED = ("configs", "weights")
#: Files that hold times, or the hash of a file that does, or an absolute path.
EXCEPT = (".log", ".sqlite", "last_checkpoint")
HASH = re.compile(r"\b[0-9a-f]{64}\b")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a pipeline, relative to the repository")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--scratch",
        type=Path,
        default=Path("work_dirs/kill_pipeline"),
        help="folder of both runs; a run that is whole is not repeated",
    )
    parser.add_argument("options", nargs="*", help="more arguments of run_pipeline.py")
    return parser.parse_args()


def prepare(folder: Path) -> None:
    """A folder in which the repository's pipelines run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        if (ROOT / name).is_dir() and not (folder / name).is_symlink():
            (folder / name).symlink_to(ROOT / name)


def start(config: str, folder: Path, options: list[str]) -> subprocess.Popen:
    """Start the pipeline; what it says goes to run.log."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with (folder / "run.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, ROOT / "tools/run_pipeline.py", config, *options],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=dict(os.environ, PYTHONPATH=path),
        )


def finish(process: subprocess.Popen, folder: Path) -> None:
    """Wait for the end of a run that should succeed."""
    if process.wait():
        tail = "\n".join((folder / "run.log").read_text().splitlines()[-25:])
        sys.exit(f"the pipeline failed in {folder}:\n{tail}")


def records(folder: Path) -> dict[str, dict]:
    """Stage -> record of the finished stages that ran as processes."""
    found = {}
    for path in folder.glob("work_dirs/*/records/*.json"):
        if "." not in path.stem and path.stem != "hashes":
            record = json.loads(path.read_text())
            if "seconds" in record:
                found[path.stem] = record
    return found


def draw_moments(
    seconds: dict[str, float], kills: int, rng: random.Random
) -> dict[str, list[float]]:
    """Stage -> seconds after its start, the later ones first."""
    names = list(seconds)
    moments = defaultdict(list)
    for name in rng.choices(names, [seconds[name] for name in names], k=kills):
        moments[name].append(rng.uniform(0, seconds[name]))
    return {name: sorted(times, reverse=True) for name, times in moments.items()}


class Killer:
    """Strikes a pipeline when one of its stages reaches a moment.

    Args:
        moments: Stage -> seconds after its start, the later ones first.
        rng: Draws anew where a stage was faster than its moment.
    """

    def __init__(self, moments: dict[str, list[float]], rng: random.Random) -> None:
        self.moments, self.rng = moments, rng
        self.hits = Counter()
        #: Seconds after the start of the pipeline, for moments that were missed.
        self.late: list[float] = []

    @property
    def left(self) -> int:
        return len(self.late) + sum(map(len, self.moments.values()))

    def hit(self, folder: Path, began: float) -> str | None:
        """The stage that has reached a moment, of a run that began at that time."""
        running = {
            path.name.removesuffix(".started.json"): path
            for path in folder.glob("work_dirs/*/records/*.started.json")
        }
        for name in records(folder):
            if name not in running and name in self.moments:
                missed = self.moments.pop(name)
                self.late += [self.rng.uniform(1, 10) for _ in missed]
        for name, path in running.items():
            times = self.moments.get(name)
            try:
                started = path.stat().st_mtime
            except FileNotFoundError:
                continue
            if started > began and times and time.time() - started > times[-1]:
                times.pop()
                return name
        if self.late and time.time() - began > self.late[-1]:
            self.late.pop()
            return next(iter(running), "between stages")
        return None


def run_killed(config: str, folder: Path, options: list[str], killer: Killer) -> None:
    """Run to the end, killed on the way."""
    while killer.left:
        began = time.time()
        process = start(config, folder, options)
        while process.poll() is None:
            name = killer.hit(folder, began) if killer.left else None
            if name is not None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killer.hits[name] += 1
                print(f"{killer.hits.total()} kills: {name}", flush=True)
            time.sleep(0.05)
        if process.returncode == 0:
            break
        if process.returncode != -signal.SIGKILL:
            finish(process, folder)
    finish(start(config, folder, options), folder)


def weights(path: Path) -> dict:
    """The tensors of a checkpoint, without its times and paths."""
    import torch

    # Checkpoints of mmengine hold more than tensors; these are our own.
    return torch.load(path, map_location="cpu", weights_only=False)["state_dict"]


def same(one: Path, other: Path) -> bool:
    """Whether two files are equal, checkpoints by their weights."""
    if one.suffix == ".pth" and one.parent.name != "weights":
        import torch

        a, b = weights(one), weights(other)
        return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    if one.suffix == ".json":
        return HASH.sub("", one.read_text()) == HASH.sub("", other.read_text())
    return one.read_bytes() == other.read_bytes()


def compare(one: Path, other: Path) -> tuple[PrettyTable, int]:
    """Files by stage; gives the table and how many differ."""
    table = PrettyTable(["stage", "files", "compared", "different"])
    table.align = "r"
    table.align["stage"] = "l"
    total = 0
    for name in records(one):
        first, second = (
            json.loads(
                next(f.glob(f"work_dirs/*/records/{name}.files.json")).read_text()
            )
            for f in (one, other)
        )
        different = sorted(first.keys() ^ second.keys())
        compared = [
            path
            for path in sorted(first.keys() & second.keys())
            if not path.endswith(EXCEPT) and name != "report"
        ]
        different += [p for p in compared if not same(one / p, other / p)]
        table.add_row([name, len(first), len(compared), len(different)])
        for path in different[:5]:
            print(f"different: {path}")
        total += len(different)
    return table, total


def main() -> None:
    args = parse_args()
    alone, killed = args.scratch / "alone", args.scratch / "killed"
    options = args.options
    prepare(alone)
    clock = time.monotonic()
    finish(start(args.config, alone, options), alone)
    seconds = {name: record["seconds"] for name, record in records(alone).items()}
    print(
        f"left alone: {len(seconds)} stages, {sum(seconds.values()):.0f} s of work in "
        f"{time.monotonic() - clock:.0f} s"
    )
    shutil.rmtree(killed, ignore_errors=True)
    prepare(killed)
    rng = random.Random(args.seed)
    killer = Killer(draw_moments(seconds, args.kills, rng), rng)
    clock = time.monotonic()
    run_killed(args.config, killed, options, killer)
    hits = ", ".join(f"{name} {count}" for name, count in killer.hits.items())
    took = time.monotonic() - clock
    print(f"killed {killer.hits.total()} times in {took:.0f} s: {hits}")
    table, different = compare(alone, killed)
    print(table)
    if different or killer.left:
        sys.exit(f"{different} files differ, {killer.left} kills were not reached")
    print("the same to the byte")


if __name__ == "__main__":
    main()
