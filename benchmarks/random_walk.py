#!/usr/bin/env python
"""IRN's random walk: time and memory against squaring the dense matrix.

The released programs of IRN and its followers square the dense transition matrix eight
times (2^8 = 256 steps). A plain loop of 256 sparse products is timed too. Each runs in
a process of its own on the same image; memory is what the peak of its first run adds to
that of the process with torch and the inputs in it.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
from common import add_json_argument, compare, write_results
from prettytable import PrettyTable
from torch import Tensor

from mmwood.functional.affinity import (
    edge_to_affinity,
    edge_to_transition,
    pixel_pairs,
    random_walk,
)

#: 2^8 steps.
SQUARINGS = 8
#: A unit of ru_maxrss in megabytes: bytes on macOS, kibibytes elsewhere.
UNIT = 2**20 if sys.platform == "darwin" else 2**10


def make_inputs(height: int, width: int, classes: int) -> tuple[Tensor, Tensor]:
    """Maps of some discs, and edges around them over weak noise."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cams, edge = [], 0.1 * torch.rand(height, width, generator=generator)
    for _ in range(classes):
        cy, cx, r = torch.rand(3, generator=generator).tolist()
        distance = torch.hypot(y - cy * height, x - cx * width)
        radius = (0.1 + 0.2 * r) * height
        cams.append(torch.exp(-((distance / radius) ** 2)))
        edge = torch.maximum(edge, torch.exp(-((distance - radius) ** 2)))
    return torch.stack(cams), edge


def ours(cam: Tensor, edge: Tensor, radius: int) -> Tensor:
    return random_walk(cam, edge, radius=radius)


def plain_loop(cam: Tensor, edge: Tensor, radius: int) -> Tensor:
    """256 products with the sparse matrix."""
    transition = edge_to_transition(edge, radius=radius)
    transposed = transition.to_sparse_coo().t().to_sparse_csr()
    x = (cam * (1 - edge)).flatten(1).T.contiguous()
    for _ in range(2**SQUARINGS):
        x = transposed @ x
    return x.T.reshape(cam.shape)


def dense_squaring(cam: Tensor, edge: Tensor, radius: int) -> Tensor:
    """The dense matrix, squared eight times."""
    pairs = pixel_pairs(*edge.shape, radius)
    matrix = torch.eye(edge.numel())
    affinity = edge_to_affinity(edge[None], radius)[0]
    matrix[pairs.source, pairs.target] = affinity
    matrix[pairs.target, pairs.source] = affinity
    matrix = matrix.pow_(10)
    matrix = matrix / matrix.sum(dim=0, keepdim=True)
    for _ in range(SQUARINGS):
        matrix = matrix @ matrix
    return ((cam * (1 - edge)).flatten(1) @ matrix).view(cam.shape)


METHODS: dict[str, Callable] = {
    "mmwood": ours,
    "256 sparse products": plain_loop,
    "dense squaring": dense_squaring,
}


def measure(
    name: str, size: tuple[int, int], classes: int, radius: int, repeats: int
) -> tuple[list[float], float, Tensor]:
    """Seconds of each run, peak memory of the first in MB, and the result."""
    cam, edge = make_inputs(*size, classes)
    # Torch's first product allocates what later ones use again.
    small = make_inputs(8, 8, 1)
    METHODS[name](*small, radius)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, peaks = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        result = METHODS[name](cam, edge, radius)
        seconds.append(time.perf_counter() - start)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return seconds, peaks[0] * UNIT / 1e6, result


def in_process(*arguments: object) -> tuple[list[float], float, Tensor]:
    """:func:`measure` in a process of its own, so that each has its own peak."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(94, 125),
        metavar=("H", "W"),
        help="of the grid (default: 94 125, a VOC image of 375 by 500)",
    )
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="of the sparse methods")
    parser.add_argument(
        "--no-dense", action="store_true", help="leave the minutes of squaring out"
    )
    add_json_argument(parser)
    args = parser.parse_args()
    size = tuple(args.size)
    names = [name for name in METHODS if not (args.no_dense and "dense" in name)]
    results = {}
    for name in names:
        repeats = 1 if "dense" in name else args.repeats
        results[name] = in_process(name, size, args.classes, 5, repeats)
    own = statistics.median(results["mmwood"][0])
    table = PrettyTable(
        ["method", "median time", "times mmwood's", "memory", "largest difference"]
    )
    table.align = "r"
    table.align["method"] = "l"
    for name, (seconds, peak, result) in results.items():
        median = statistics.median(seconds)
        difference = (result - results["mmwood"][2]).abs().max()
        table.add_row(
            [
                name,
                f"{median:.3f} s",
                f"{median / own:.1f}",
                f"{peak:.0f} MB",
                f"{difference:.1e}",
            ]
        )
    print(
        f"{size[0]} x {size[1]} pixels, {args.classes} classes, radius 5, "
        f"{torch.get_num_threads()} threads"
    )
    print(table)
    what = f"random walk on {size[0]} x {size[1]} pixels"
    rows = [
        compare(what, name, results["mmwood"][0], seconds)
        for name, (seconds, _, _) in results.items()
        if name != "mmwood"
    ]
    write_results(args.json, rows)
    print("\nHow mmwood's time grows; each against the first of its kind")
    table = PrettyTable(["pixels", "radius", "classes", "median time", "ratio"])
    table.align = "r"
    half = (size[0] // 2, size[1] // 2)
    twice = (size[0] * 2, size[1] * 2)
    kinds = (
        [(half, 5, 2), (size, 5, 2), (twice, 5, 2)],
        [(size, 3, 2), (size, 5, 2), (size, 10, 2)],
        [(size, 5, 1), (size, 5, 4), (size, 5, 16), (size, 5, 64)],
    )
    for kind in kinds:
        first = None
        for grid, radius, classes in kind:
            seconds, _, _ = measure("mmwood", grid, classes, radius, args.repeats)
            median = statistics.median(seconds)
            first = first or median
            row = [grid[0] * grid[1], radius, classes, f"{median:.3f} s"]
            table.add_row(
                [*row, f"{median / first:.1f}"],
                divider=(grid, radius, classes) == kind[-1],
            )
    print(table)


if __name__ == "__main__":
    main()
