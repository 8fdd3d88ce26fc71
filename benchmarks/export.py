#!/usr/bin/env python
"""Labels by the ONNX file of tools/export.py in onnxruntime against torch.

Both are of the same network and get the same images in memory, one thread, an image in
turn. The weights are random unless --network names a folder with trained ones: then a
class wins by less, so more labels may differ. torch is mmwood's Predictor, which counts
labels and confidences as well; what it is without that is measured too.
"""

import argparse
import logging
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from common import add_json_argument, compare, write_results
from predict import CONFIG, drawn_images, write_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--network", type=Path, help="folder of a trained network")
    parser.add_argument("--folder", type=Path, help="images (default: built-in ones)")
    parser.add_argument("--images", type=int, default=50)
    add_json_argument(parser)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")

    import torch

    from mmwood.engine.export import WholeImage, export_network, load_export
    from mmwood.engine.network import load_network
    from mmwood.engine.predictor import Predictor
    from mmwood.fileio.images import list_folder, read_picture

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder = args.folder or drawn_images(root / "drawn", args.images)
        found = list_folder(folder, "--folder")
        found = found[:: max(1, len(found) // args.images)][: args.images]
        images = [read_picture(item.source) for item in found]
        network = load_network(args.network or write_network(args.config, root))
        export_network(network, root / "network.onnx")
        predictor = Predictor(network)
        whole = WholeImage(predictor).eval()

        @torch.inference_mode()
        def labels(image: np.ndarray) -> np.ndarray:
            return whole(torch.from_numpy(image)).numpy()

        programs = (
            load_export(root / "network.onnx", "onnx"),
            labels,
            lambda image: predictor(image).label,
        )
        seconds, differ, pixels = ([], [], []), 0, 0
        classes = set()
        # The first image makes buffers.
        for image in (images[0], *images):
            results = []
            for times, program in zip(seconds, programs, strict=True):
                start = time.process_time()
                results.append(program(image))
                times.append(time.process_time() - start)
            label, _, expected = results
            if len(seconds[0]) > 1:
                differ += int((label != expected).sum())
                pixels += label.size
                classes |= {*np.unique(expected).tolist()}
    ours, module, theirs = (times[1:] for times in seconds)
    rows = [
        compare("labels of an image, onnxruntime", reference, ours, times)
        for reference, times in (
            ("torch, the network alone", module),
            ("torch, mmwood's Predictor", theirs),
        )
    ]
    print(
        f"{args.network or args.config}, {len(images)} images of {folder.name}: "
        f"{differ} of {pixels:,} labels differ, of {len(classes)} classes"
    )
    for row in rows:
        print(
            f"{row.ours_median:.3f} s of the processor an image against "
            f"{row.reference_median:.3f} s of {row.reference}, ratio {row.ratio:.3f}"
        )
    write_results(args.json, rows)


if __name__ == "__main__":
    main()
