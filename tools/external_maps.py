#!/usr/bin/env python
r"""Pseudo labels from maps of a model of your own, such as a foundation model's.

CONFIG names the images and their tags (test_dataloader.dataset). MODULE:NAME is a
function of an image (H, W, 3), uint8 RGB, and of the names of the classes that it is
tagged with; it returns a map for each, (n, h, w), larger where it is surer and 0 where
nothing is. Or it is a class whose objects are such functions, as
mmwood.engine.clip_maps:CLIPMaps. Files that are there and whole are kept, so a run that
was ended continues where it was.

Examples:
    PYTHONPATH=. python tools/external_maps.py my_config.py --maps my_maps:maps \
        --supervision "no other images" --out work_dirs/maps
    python tools/external_maps.py configs/classification/resnet50_voc12aug.py \
        --maps mmwood.engine.clip_maps:CLIPMaps \
        --maps-options checkpoint=weights/clip.pt --out work_dirs/clip
"""

import argparse
from typing import get_args

from mmwood.utils.command import add_cfg_options, load_config, run, script_parser


def parse_args() -> argparse.Namespace:
    from mmengine.config import DictAction

    from mmwood.fileio.label_folder import MapKind

    parser = script_parser(__doc__)
    parser.add_argument("config", help="config of images and tags")
    parser.add_argument(
        "--maps",
        required=True,
        metavar="MODULE:NAME",
        help="function, or class, that makes the maps",
    )
    parser.add_argument(
        "--maps-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="arguments of the class, or further arguments of the function",
    )
    parser.add_argument(
        "--supervision",
        metavar="TEXT",
        help="what its model was trained with, for the manifest and the report "
        "(default: what the function says of itself)",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write to"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.15,
        help="score of the background, of maps whose maximum is 1 (default: 0.15)",
    )
    parser.add_argument(
        "--ignore-band",
        type=float,
        default=0.0,
        metavar="WIDTH",
        help="pixels whose score is nearer to the background's become 255 (default: 0)",
    )
    parser.add_argument(
        "--save-scores",
        nargs="*",
        choices=get_args(MapKind),
        default=["strided"],
        help="maps to keep: on the stride-4 grid, which IRN reads, or at the image's "
        "size (default: strided)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove the labels in --out, whatever made them, and make all anew",
    )
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmengine.registry import init_default_scope

    from mmwood.engine.dense_features import whole_images
    from mmwood.engine.external_maps import ExternalMaps, load_maps
    from mmwood.fileio.label_folder import LabelFolder
    from mmwood.registry import import_locations

    source = load_maps(args.maps, args.maps_options, args.supervision)
    cfg = load_config(args)
    if "dataset" not in (cfg.get("test_dataloader") or {}):
        raise ValueError(f"{args.config} has no test_dataloader.dataset")
    import_locations()
    init_default_scope(cfg.get("default_scope", "mmengine"))
    maps = ExternalMaps(
        whole_images(cfg.test_dataloader.dataset),
        LabelFolder(args.out, "--out"),
        source,
        args.threshold,
        args.ignore_band,
        args.save_scores,
        args.overwrite,
    )
    made, were_there = maps.run()
    print(
        f"{args.out}: {made} label maps made, {were_there} were there; supervision of "
        f"the maps: {source.supervision}"
    )


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv"))
