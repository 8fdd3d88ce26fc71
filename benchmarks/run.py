#!/usr/bin/env python
"""All benchmarks of this folder, each in a process of its own, in one table.

It goes to benchmarks.md and benchmarks.json in the output folder, with what each
benchmark printed beside it. A benchmark whose packages are absent is named and skipped.
One that fails is named with its error, and this program then fails at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
DEMO = "configs/demo/classifier.py"
R50 = "configs/classification/resnet50_voc12aug.py"


@dataclass
class Benchmark:
    """A program of this folder with its sizes.

    ``needs`` maps modules to what pip installs: extras of mmwood, or other packages.
    """

    program: str
    needs: dict[str, str]
    sizes: str = ""
    quick: str = ""


OPENMMLAB = {"mmpretrain": "onedl", "mmseg": "onedl"}
BENCHMARKS = {
    "adv_cam": Benchmark(
        "adv_cam.py",
        {**OPENMMLAB, "timm": "demo"},
        "--steps 9",
        f"--config {DEMO} --size 64 96 --steps 3 --repeats 1",
    ),
    "adv_cam_r50": Benchmark(
        "adv_cam.py",
        OPENMMLAB,
        f"--config {R50} --size 375 500 --classes 1 --steps 4 --repeats 2",
        f"--config {R50} --size 32 48 --classes 1 --steps 2 --repeats 1",
    ),
    "cam_extraction": Benchmark(
        "cam_extraction.py",
        {**OPENMMLAB, "timm": "demo"},
        quick=f"--config {DEMO} --size 64 96 --images 8 --repeats 2",
    ),
    "cam_extraction_r50": Benchmark(
        "cam_extraction.py",
        OPENMMLAB,
        f"--config {R50} --size 375 500 --images 2 --repeats 2",
        f"--config {R50} --size 64 96 --images 1 --repeats 2",
    ),
    "channels_last": Benchmark(
        "channels_last.py",
        {**OPENMMLAB, "timm": "demo"},
        quick=f"--config {DEMO} --images 4 --crop 64 --steps 2",
    ),
    "channels_last_demo": Benchmark(
        "channels_last.py",
        OPENMMLAB,
        f"--config {DEMO} --crop 112",
        f"--config {DEMO} --images 4 --crop 64 --steps 2",
    ),
    "dense_crf": Benchmark(
        "dense_crf.py",
        {"pydensecrf": "pydensecrf2"},
        quick="--size 40 60 --labels 3 --repeats 1",
    ),
    "export": Benchmark(
        "export.py",
        {**OPENMMLAB, "timm": "demo", "onnx": "export", "onnxruntime": "export"},
        quick="--images 3",
    ),
    "freed_memory": Benchmark(
        "freed_memory.py",
        {**OPENMMLAB, "timm": "demo"},
        quick=f"--config {DEMO} --images 4 --crop 64 --steps 2 --processes 1",
    ),
    "hosts": Benchmark(
        "hosts.py",
        {**OPENMMLAB, "timm": "demo"},
        quick="--demo --images 2 --crop 64 --size 48 64 --repeats 1",
    ),
    "ia_iou": Benchmark("ia_iou.py", OPENMMLAB, quick="--images 10"),
    "openimages_ood": Benchmark(
        "openimages_ood.py", {}, "--rows 1000000", "--rows 20000 --order grouped"
    ),
    "pascal_b": Benchmark(
        "pascal_b.py",
        {"pycocotools": "coco"},
        "--images 5000 --number 280",
        "--images 500 --number 30",
    ),
    "predict": Benchmark(
        "predict.py",
        {**OPENMMLAB, "timm": "demo"},
        quick="--images 3 --large 1500 1100",
    ),
    "random_walk": Benchmark(
        "random_walk.py", {}, "--size 47 62", "--size 16 20 --repeats 2"
    ),
    "review_app": Benchmark(
        "review_app.py", {"nicegui": "review"}, quick="--rows 1000 2000"
    ),
    "sbce_step": Benchmark(
        "sbce_step.py",
        OPENMMLAB,
        "--images 1",
        "--depth 18 --images 1 --crop 97 --steps 3",
    ),
    "teacher_step": Benchmark(
        "teacher_step.py",
        OPENMMLAB,
        "--depth 18 --images 2 --crop 257 --steps 5",
        "--depth 18 --images 1 --crop 97 --steps 2",
    ),
    "vit_step": Benchmark(
        "vit_step.py",
        OPENMMLAB,
        quick="--config configs/demo/vit_ptc.py --images 2 --crop 64 --steps 2",
    ),
    "wood_step": Benchmark(
        "wood_step.py", OPENMMLAB, quick="--images 4 --crop 64 --steps 3"
    ),
}
HEAD = ("benchmark", "what", "against", "ours", "reference", "ratio", "repeats")


def run(name: str, quick: bool, log: Path) -> dict:
    """What ``benchmarks.json`` says of one benchmark."""
    benchmark = BENCHMARKS[name]
    absent = [module for module in benchmark.needs if find_spec(module) is None]
    if absent:
        reason = f"{absent[0]} is not installed ({benchmark.needs[absent[0]]!r})"
        return dict(name=name, skipped=reason)
    sizes = (benchmark.quick if quick else benchmark.sizes).split()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        found = Path(temporary, "results.json")
        command = [sys.executable, "-W", "ignore", str(FOLDER / benchmark.program)]
        with log.open("w") as output:
            code = subprocess.run(
                [*command, *sizes, "--json", str(found)],
                cwd=FOLDER.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        record = dict(
            name=name,
            command=["benchmarks/" + benchmark.program, *sizes],
            seconds=round(time.perf_counter() - start, 1),
        )
        if code or not found.is_file():
            lines = log.read_text().strip().splitlines() or ["it printed nothing"]
            return dict(record, failed=f"exit code {code}: {lines[-1]}")
        return dict(record, results=json.loads(found.read_text()))


def markdown(records: Sequence[dict], facts: dict) -> str:
    """The table, what is not in it, and the machine."""
    rows = [HEAD, ("---",) * 3 + ("---:",) * 4]
    for record in records:
        for result in record.get("results", ()):
            numbers = [
                f"{result[key]:.3g} {result['unit']}"
                for key in ("ours_median", "reference_median")
            ]
            numbers += [f"{result['ratio']:.3g}", str(result["repeats"])]
            rows.append((record["name"], result["what"], result["reference"], *numbers))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    for state in ("skipped", "failed"):
        for record in records:
            if state in record:
                lines += ["", f"{record['name']} {state}: {record[state]}"]
    described = "; ".join(f"{key} {value}" for key, value in facts.items())
    return "\n".join([*lines, "", f"Machine: {described}", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", help=f"which (default: all of {', '.join(BENCHMARKS)})"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the smallest sizes: whether they run, not what things cost",
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/benchmarks"))
    args = parser.parse_args()
    unknown = set(args.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmarks {sorted(unknown)}; there are {list(BENCHMARKS)}")

    from common import machine

    args.out.mkdir(parents=True, exist_ok=True)
    records = []
    for name in args.names or BENCHMARKS:
        print(f"{name} ...", flush=True)
        record = run(name, args.quick, (args.out / f"{name}.log").resolve())
        records.append(record)
        for state in ("skipped", "failed"):
            if state in record:
                print(f"{name} {state}: {record[state]}", flush=True)
    facts = machine()
    text = markdown(records, facts)
    (args.out / "benchmarks.md").write_text(text)
    content = dict(machine=facts, quick=args.quick, benchmarks=records)
    (args.out / "benchmarks.json").write_text(json.dumps(content, indent=2) + "\n")
    print(f"\n{text}")
    if any("failed" in record for record in records):
        sys.exit(1)


if __name__ == "__main__":
    main()
