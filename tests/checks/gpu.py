#!/usr/bin/env python
"""Try on a GPU what is built without one: tests, trainings, tests of networks, speed.

- The tests that are marked ``cuda``.
- A short training and a test of every family, with mixed precision and a few built-in
  images, as a user starts them; by two processes too, where there are two GPUs.
- The random walk, PAMR, the dense CRF and the maps of images, on the GPU against the
  CPU: how far the results are apart, and the time as a ratio.

All is written to one JSON file, check by check. A check that fails does not end the
others; the program then fails at the end.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Largest differences of a GPU's results; maps are of half precision.
TOLERANCES = {"random walk": 1e-5, "PAMR": 1e-4, "dense CRF": 2e-4, "maps": 1e-2}
CLASSIFIER_CONFIG = "configs/classification/resnet50_voc12aug.py"
DEMO = "configs/demo/classifier.py"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu: the same without mixed precision, at small sizes, to see this "
        "program run",
    )
    parser.add_argument(
        "--only",
        metavar="WORD",
        help="the checks whose names have this word, and what they need",
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/gpu.json"))
    return parser.parse_args()


# -- trainings and tests of networks -----------------------------------------


def stages() -> dict:
    """The stages of two_processes.py that use a network, and two more families."""
    import two_processes as known

    def seam():
        cfg = known.classifier()
        network = known.image_level("seam", {})
        cfg.model, cfg.test_dataloader = network.model, network.test_dataloader
        return cfg

    def adv_cam():
        return known.image_level("advcam", {})

    train = ("train.py", "configs/seam.py", "--work-dir", "{out}")
    weights = ("epoch_1.pth", "epoch_2.pth")
    more = {
        "seam": known.Stage(
            "SEAM, training", train, config=seam, weights=weights, halved=(known.HALF,)
        ),
        "seam_maps": known.Stage(
            "SEAM, maps and seeds",
            ("test.py", "configs/seam.py", "seam/1/epoch_2.pth", *known.TEST),
            needs=("seam",),
        ),
        "adv_cam": known.Stage(
            "AdvCAM, maps and seeds",
            (
                *("test.py", "configs/adv_cam.py", known.CLASSIFIER, "--tta"),
                *known.TEST,
            ),
            needs=("classifier",),
            config=adv_cam,
        ),
    }
    left_out = ("mining", "labels")
    shared = {n: s for n, s in known.STAGES.items() if n not in left_out}
    return {**shared, **more}


def run_stage(work: Path, name: str, stage: object, processes: int, amp: bool) -> str:
    """Train or test; gives what is to be said of it."""
    import torch
    import two_processes as known

    more = ("--amp",) if amp else ()
    known.run(work, name, processes, stage, more)
    folder = work / name / str(processes)
    if stage.weights is None:
        metrics = json.loads((folder / "metrics.json").read_text())
        first = islice(known.numbers(metrics), 3)
        return ", ".join(f"{place[1:]} {value:.4g}" for place, value in first)
    first, last = (
        torch.load(folder / path, map_location="cpu", weights_only=False)["state_dict"]
        for path in stage.weights
    )
    wrong = [n for n, value in last.items() if not value.isfinite().all()]
    if wrong:
        raise ValueError(f"after training, {wrong[0]} is not finite")
    changed = sum(not torch.equal(first[n], value) for n, value in last.items())
    if not changed:
        raise ValueError("training changed no weight")
    return f"{changed} of {len(last)} tensors changed"


# -- benchmarks ----------------------------------------------------------------


def benchmarks(work: Path, device: str) -> Iterator[tuple[str, Callable]]:
    """Names, and functions that give a Result and a difference."""
    small = device == "cpu"
    yield "benchmark: random walk", partial(random_walk_times, device, small)
    yield "benchmark: PAMR", partial(pamr_times, device, small)
    yield "benchmark: dense CRF", partial(crf_times, device, small)
    yield "benchmark: maps", partial(map_times, work, device, small)


def measure(
    what: str, device: str, function: Callable, repeats: int
) -> tuple[object, float]:
    """Time ``function(device)``, which gives an array, on both devices in turn."""
    import numpy as np
    import torch
    from common import compare

    seconds: dict[str, list[float]] = {device: [], "CPU": []}
    found = {}
    # The first round is not counted.
    for number in range(1 + repeats):
        for name in seconds:
            start = time.perf_counter()
            # An array is on the CPU: what made it has ended.
            found[name] = function("cpu" if name == "CPU" else name)
            if number:
                seconds[name].append(time.perf_counter() - start)
    one, other = (np.asarray(value, dtype=float) for value in found.values())
    threads = torch.get_num_threads()
    result = compare(what, f"CPU, {threads} threads", seconds[device], seconds["CPU"])
    return result, float(np.abs(one - other).max())


def random_walk_times(device: str, small: bool) -> tuple[object, float]:
    from random_walk import make_inputs

    from mmwood.functional.affinity import random_walk

    size = (24, 32) if small else (94, 125)
    inputs = make_inputs(*size, classes=2)
    return measure(
        f"random walk on {size[0]} x {size[1]} pixels",
        device,
        lambda where: random_walk(*(t.to(where) for t in inputs)).cpu().numpy(),
        3,
    )


def pamr_times(device: str, small: bool) -> tuple[object, float]:
    import torch
    from dense_crf import make_image, make_probs

    from mmwood.functional.pamr import pamr

    size = (40, 60) if small else (375, 500)
    image = torch.from_numpy(make_image(*size)).permute(2, 0, 1)[None].float() / 255
    masks = torch.from_numpy(make_probs(*size, 3))[None]
    return measure(
        f"PAMR of 3 masks, {size[0]} x {size[1]} pixels",
        device,
        lambda where: pamr(image.to(where), masks.to(where)).cpu().numpy(),
        3,
    )


def crf_times(device: str, small: bool) -> tuple[object, float]:
    from dense_crf import make_image, make_probs

    from mmwood.functional.crf import dense_crf

    size = (40, 60) if small else (375, 500)
    image, probs = make_image(*size), make_probs(*size, 3)
    return measure(
        f"dense CRF of 3 labels, {size[0]} x {size[1]} pixels",
        device,
        lambda where: dense_crf(image, probs, device=where),
        3,
    )


def map_times(work: Path, device: str, small: bool) -> tuple[object, float]:
    """Extraction as ``tools/test.py --tta`` does it, files included."""
    import numpy as np
    import torch
    from cam_extraction import make_runner

    from mmwood.fileio.label_folder import load_score_maps

    images, size = (2, (48, 64)) if small else (4, (375, 500))
    config = str(ROOT / (DEMO if small else CLASSIFIER_CONFIG))
    options = argparse.Namespace(config=config, images=images, size=size)
    folder = work / "images"
    folder.mkdir()
    rounds = iter(range(100))

    def extract(where: str) -> np.ndarray:
        out = work / f"maps_{next(rounds)}"
        torch.manual_seed(0)
        runner = make_runner(options, folder, out)
        runner.model.to(where)
        runner.test()
        paths = sorted((out / "pseudo_labels/scores").glob("*.npz"))
        maps = [load_score_maps(path, needs=["strided"]).strided for path in paths]
        return np.concatenate([m.astype(float).ravel() for m in maps])

    what = f"maps of {images} images, {size[1]} x {size[0]} pixels, {Path(config).stem}"
    return measure(what, device, extract, 1)


# -- the whole -------------------------------------------------------------------


def run_tests() -> str:
    """The marked tests; gives pytest's last line."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = result.stdout.strip().splitlines()
    if result.returncode:
        raise ValueError("\n".join(lines[-40:]))
    return lines[-1]


def all_checks(
    work: Path, device: str, only: str | None
) -> Iterator[tuple[str, Callable]]:
    """Names of checks, in their order, and what runs them."""
    import torch
    from two_processes import draw_data

    found: dict[str, Callable] = {"tests": run_tests}
    known = stages()
    counts = (1, 2) if device == "cpu" or torch.cuda.device_count() > 1 else (1,)
    for processes in counts:
        for name, stage in known.items():
            options = work, name, stage, processes, device == "cuda"
            found[f"{name}, {processes} process(es)"] = partial(run_stage, *options)
    found.update(benchmarks(work, device))
    chosen = {name for name in found if only is None or only in name}
    for name, stage in reversed(known.items()):
        if any(f"{name}, {n} process(es)" in chosen for n in counts):
            chosen.update(f"{need}, 1 process(es)" for need in stage.needs)
    if any("process(es)" in name for name in chosen):
        (work / "configs").mkdir()
        draw_data(work)
        for name, stage in known.items():
            if stage.config is not None:
                stage.config().dump(work / f"configs/{name}.py")
    for name, function in found.items():
        if name in chosen:
            yield name, function


def check(name: str, function: Callable) -> dict:
    """Run a check; gives what is written of it."""
    row: dict = dict(name=name, good=True)
    start = time.monotonic()
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            found = function()
        if isinstance(found, str):
            row["detail"] = found
        else:
            result, difference = found
            kind = name.removeprefix("benchmark: ")
            row.update(benchmark=asdict(result), difference=difference)
            row["good"] = difference <= TOLERANCES[kind]
            row["detail"] = f"{result.ratio:.3f} of its time, apart {difference:.1e}"
    # Whatever ends a check, stages' sys.exit included, the others are to be seen.
    except (Exception, SystemExit) as error:
        unknown = not isinstance(error, (ValueError, SystemExit))
        row["good"] = False
        row["detail"] = traceback.format_exc() if unknown else str(error)
    row["seconds"] = round(time.monotonic() - start, 1)
    return row


def environment() -> dict:
    """Versions and devices."""
    from importlib.metadata import version

    import torch
    from common import machine

    import mmwood

    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return dict(
        machine(),
        mmwood=mmwood.__version__,
        numpy=version("numpy"),
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(),
        gpus=gpus,
    )


def main() -> None:
    args = parse_args()
    if args.device == "cpu":
        # The processes that it starts see none either.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            f"gpu.py: torch {torch.__version__} sees no CUDA device; --device cpu "
            "shows that this program runs"
        )
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    from prettytable import PrettyTable

    from mmwood.fileio.files import write_json

    out = args.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    content = dict(device=args.device, environment=environment(), checks=[])
    table = PrettyTable(["check", "good", "seconds", ""], align="l")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        for name, function in all_checks(Path(temporary), args.device, args.only):
            print(f"{name} ...", file=sys.stderr, flush=True)
            row = check(name, function)
            content["checks"].append(row)
            content["seconds"] = round(time.monotonic() - start, 1)
            write_json(out, content)
            last = row["detail"].strip().splitlines()[-1:]
            table.add_row([name, "yes" if row["good"] else "NO", row["seconds"], *last])
    print(table)
    print(f"{out}, {time.monotonic() - start:.0f} s")
    failed = [row["name"] for row in content["checks"] if not row["good"]]
    if not content["checks"]:
        sys.exit(f"--only: no check's name has {args.only!r}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
