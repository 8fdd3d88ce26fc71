"""The configs of a plan as texts: what a person would write over the project's own."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from mmwood.fileio.decoding import PICTURE, Decoding
from mmwood.fileio.labels import VOID, voc_palette
from mmwood.own_images.backbones import Backbone
from mmwood.own_images.command import Untagged
from mmwood.own_images.prepare import copy_suffix
from mmwood.own_images.settings import Facts, Settings
from mmwood.own_images.source import OwnImages

_WIDTH = 88
#: Threshold of seeds: the small network's maps are wide (configs/irn/README.md).
_SEEDS = dict(small=0.4, large=0.15)
#: Where the segmentation network's masks are.
_MASKS = "train_dataloader.dataset.data_prefix.seg_map_path"
#: Pixels' mean and standard deviation in the base configs.
_LITE0 = dict(mean=[127.5] * 3, std=[127.5] * 3)
_IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
_MASK = dict(type="mmwood.LoadSemanticMask", optional=True)
_WITHOUT, _WITH = "without OoD images", "with OoD images"


class Code(str):
    """A Python expression."""


@dataclass(frozen=True)
class Places:
    """Absolute paths that the configs name.

    Attributes:
        configs: Folder of the project's configs.
        work_dir: Of the pipeline.
        data: The person's folder.
        tags, candidates, masks: What comes with it, or None.
        untagged: Which images without a tag are used.
        corrected: As ``masks``.
    """

    configs: Path
    work_dir: Path
    data: Path
    tags: Path | None
    candidates: Path | None
    masks: Path | None
    untagged: Untagged
    corrected: Path | None = None

    @property
    def copy(self) -> Path:
        """The working copy of the images."""
        return self.work_dir / "data"

    @property
    def own(self) -> Path:
        """Folder of the configs that are written."""
        return self.work_dir / "configs"


def write_configs(
    own: OwnImages, facts: Facts, settings: Settings, places: Places
) -> dict[str, str]:
    """The configs by their file names: the same texts for the same arguments."""
    files = dict(
        classifier=_classifier(own, settings, places),
        irn=_irn(own, settings, places),
        network=_network(own, settings, places),
        pipeline=_pipeline(own, settings, places),
    )
    if settings.wood:
        files["wood"] = _wood(own, settings, places)
    return {f"{name}.py": files[name] for name in sorted(files)}


def _classifier(own: OwnImages, settings: Settings, places: Places) -> str:
    backbone = settings.backbone
    base = "efficientnet-lite0" if backbone.small else "resnet50"
    data = _data(own, places)
    # The data set of the classes' images alone: W-OoD's in-distribution one.
    tagged = dict(
        type="mmwood.ImageLevelDataset",
        label_source="csv",
        ann_file="tags.csv",
        **data,
        pipeline=Code("train_pipeline"),
    )
    train: Any = Code("tagged")
    if len(own.classes) == 1:
        others = dict(
            type="mmwood.ImageLevelDataset",
            label_source="csv",
            ann_file="untagged.csv",
            **{**data, "data_prefix": dict(img_path="ood")},
            pipeline=Code("train_pipeline"),
        )
        train = dict(
            _delete_=True, type="ConcatDataset", datasets=[Code("tagged"), others]
        )
    seeds = _SEEDS["small" if backbone.small else "large"]
    test: dict[str, Any] = dict(data)
    views: dict[str, Any] = {}
    if settings.decoding.channels != 3:
        views = _test_pipelines(_copies(settings))
        test["pipeline"] = Code("test_pipeline")
    names = dict(
        train_pipeline=_train_steps(settings),
        **views,
        tagged=tagged,
        train_dataloader=dict(
            batch_size=settings.batch,
            num_workers=_workers(backbone),
            dataset=train,
        ),
        test_dataloader=dict(num_workers=_workers(backbone), dataset=test),
        model=_model(backbone, settings, places, num_classes=len(own.classes)),
        train_cfg=dict(max_epochs=settings.epochs),
        optim_wrapper=dict(optimizer=dict(lr=0.01 * settings.rate)),
        default_hooks=dict(pseudo_label=dict(threshold=seeds)),
        # Of images with masks; the pipeline's tests name these.
        test_evaluator=dict(metrics=dict(seeds=_seed_metric(seeds))),
    )
    reasons = ["bands", "backbone", "long side", "crop", "batch", "learning rates"]
    reasons.append("epochs")
    about = "The classifier: it learns from the tags alone."
    if len(own.classes) == 1:
        about += (
            " There is one class: images without a tag show it what is none, here too."
        )
    return _file(
        about,
        _reasons(settings, reasons),
        str(places.configs / f"classification/{base}_own-images.py"),
        names,
    )


def _train_steps(settings: Settings) -> list[dict]:
    """The training pipeline of classifiers."""
    side = settings.long_side
    return [
        _load(_copies(settings)),
        dict(
            type="RandomResize",
            scale=(side, side),
            ratio_range=(0.9, 1.4),
            keep_ratio=True,
        ),
        dict(type="RandomFlip", prob=0.5),
        dict(
            type="RandomCrop",
            crop_size=settings.crop,
            pad_if_needed=True,
            pad_val=_padding(settings),
        ),
        dict(type="PackInputs"),
    ]


def _load(decoding: Decoding, stock: str = "mmwood.LoadImage") -> dict[str, Any]:
    """What loads an image; where it is a picture as any other, the stock loader."""
    if decoding == PICTURE:
        return dict(type=stock)
    stated = {name: value for name, value in vars(decoding).items() if value}
    return dict(type="mmwood.LoadImage", **stated)


def _copies(settings: Settings) -> Decoding:
    """How copies are read, which have 8 bits and, of three bands, are pictures."""
    decoding = settings.decoding
    return PICTURE if decoding.channels == 3 else Decoding(bands=decoding.bands)


def _padding(settings: Settings) -> Any:
    """What is around an image: the mean of the preprocessor."""
    if settings.backbone.small or settings.decoding.channels != 3:
        return 128
    # In the order blue, green, red.
    return 104, 116, 124


def _test_pipelines(decoding: Decoding) -> dict[str, Any]:
    """The base config's for images of bands, which Pillow cannot resize."""
    load, resize = _load(decoding), dict(type="Resize", keep_ratio=True)
    scales = [dict(resize, scale_factor=scale) for scale in (0.5, 1.0, 1.5, 2.0)]
    flips = [dict(type="mmwood.RandomFlip", prob=prob) for prob in (0.0, 1.0)]
    pack = Code("{{_base_.pack}}")
    views = dict(type="TestTimeAug", transforms=[scales, flips, [pack]])
    return dict(test_pipeline=[load, _MASK, pack], tta_pipeline=[load, _MASK, views])


def _wood(own: OwnImages, settings: Settings, places: Places) -> str:
    backbone = settings.backbone
    untagged = dict(
        type="mmwood.OoDDataset",
        data_root=str(places.copy),
        data_prefix=dict(img_path="ood"),
    )
    mined: dict[str, Any] = dict(
        type="mmwood.OoDDataset", ann_file=str(places.work_dir / "mine.csv")
    )
    parts = [
        part
        for part, there in ((untagged, own.untagged), (mined, own.candidates))
        if there
    ]
    ood: dict[str, Any] = parts[0]
    if len(parts) == 2:
        # None may be kept: there are others.
        mined["may_be_empty"] = True
        ood = dict(type="ConcatDataset", datasets=parts)
    pipeline: Any = Code("{{_base_.train_pipeline}}")
    if settings.soften:
        soften = dict(type="mmwood.RandomSoften", scale=settings.soften, prob=0.5)
        load, *others = _train_steps(settings)
        pipeline = [load, soften, *others]
    batch = settings.batch
    small = backbone.small
    names = dict(
        train_dataloader=dict(
            batch_size=2 * batch,
            sampler=dict(
                _delete_=True,
                type="mmwood.OoDRatioSampler",
                in_per_batch=batch,
                ood_per_batch=batch,
            ),
            dataset=dict(
                _delete_=True,
                type="mmwood.OoDMixDataset",
                in_distribution=Code("{{_base_.tagged}}"),
                ood=ood,
                pipeline=pipeline,
            ),
        ),
        # For the small network L_d brought nothing (docs/results.md).
        model=dict(
            head=dict(type="mmwood.WOoDHead", distance_weight=0.0 if small else 0.007)
        ),
        default_hooks=dict(
            ood_clusters=dict(type="mmwood.OoDClusterHook", clusters=settings.clusters)
        ),
        train_cfg=dict(max_epochs=settings.wood_epochs),
        optim_wrapper=dict(
            optimizer=dict(lr=(0.003 if small else 0.01) * settings.rate)
        ),
        load_from=str(places.work_dir / f"classifier/epoch_{settings.epochs}.pth"),
    )
    reasons = ["W-OoD", "clusters of OoD images", "softening", "learning rates"]
    reasons.append("epochs of W-OoD")
    return _file(
        "W-OoD: the classifier, fine-tuned with images that show no class.",
        _reasons(settings, reasons),
        "./classifier.py",
        names,
    )


def _irn(own: OwnImages, settings: Settings, places: Places) -> str:
    backbone, side, crop = settings.backbone, settings.long_side, settings.crop
    base = "efficientnet-lite0" if backbone.small else "resnet50"
    branch, last = _branch(settings)
    classifier = str(places.work_dir / f"{last[0]}/epoch_{last[1]}.pth")
    scores = dict(
        **_data(own, places),
        score_dir=str(places.work_dir / f"seeds_{branch}/pseudo_labels"),
        score_checkpoint=classifier,
    )
    # W-OoD's program has the background 0.15; with IRN's, 0.05, many images have no
    # sure background at all.
    label = {} if backbone.small else dict(label=dict(background=0.15))
    steps: dict[str, Any] = dict(
        **label,
        resize=dict(scale=(side, side)),
        crop=dict(crop_size=(crop, crop)),
        pad=dict(size=(crop, crop)),
    )
    test: dict[str, Any] = dict(scores)
    if settings.decoding.channels != 3:
        load, maps = _load(_copies(settings)), dict(type="mmwood.LoadScoreMaps")
        steps["load"] = load
        steps["pad"]["pad_val"] = dict(img=_padding(settings), seg=VOID)
        test["pipeline"] = [load, maps, _MASK, Code("{{_base_.irn_pack}}")]
    model = _model(backbone, settings, places)
    if backbone.model is not None:
        model["levels"] = list(backbone.levels)
        model["in_channels"] = list(backbone.level_channels)
    model.setdefault("backbone", {})["init_cfg"] = dict(
        type="Pretrained", checkpoint=classifier, prefix="backbone."
    )
    model["test_cfg"] = dict(pad_to=-(-side // 32) * 32, steps=settings.walk_steps)
    workers = _workers(backbone)
    names = dict(
        train_dataloader=dict(
            batch_size=settings.batch,
            num_workers=workers,
            dataset=dict(**scores, pipeline=steps),
        ),
        test_dataloader=dict(num_workers=workers, dataset=test),
        model=model,
        train_cfg=dict(max_epochs=settings.irn_epochs),
        test_evaluator=dict(metrics=dict(seeds=_seed_metric(0.25))),
    )
    return _file(
        "IRN: it learns from the classifier's maps where objects end, and makes pseudo "
        "masks of them.",
        _reasons(settings, ["epochs of IRN", "steps of IRN's walk"]),
        str(places.configs / f"irn/{base}_irn_own-images.py"),
        names,
    )


def _network(own: OwnImages, settings: Settings, places: Places) -> str:
    backbone, side, crop = settings.network, settings.long_side, settings.crop
    base = "efficientnet-lite0" if backbone.small else "r101"
    branch, _ = _branch(settings)
    masks = "corrected" if own.corrected else f"masks_{branch}/pseudo_labels"
    data = dict(
        metainfo=dict(
            classes=["background", *own.classes],
            palette=voc_palette(len(own.classes) + 1).tolist(),
        ),
        ann_file=str(places.copy / "images.txt"),
        img_suffix=copy_suffix(settings.decoding),
        data_prefix=dict(
            img_path=str(places.copy / "images"),
            seg_map_path=str(places.work_dir / masks / "labels"),
        ),
    )
    train_pipeline = [
        _load(_copies(settings), "LoadImageFromFile"),
        dict(type="LoadAnnotations"),
        dict(
            type="RandomResize",
            scale=(side, side),
            ratio_range=(0.5, 1.5),
            keep_ratio=True,
        ),
        dict(type="RandomCrop", crop_size=(crop, crop)),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackSegInputs"),
    ]
    test_pipeline = [
        # Copies have 8 bits; what the network meets later need not.
        _load(settings.decoding, "LoadImageFromFile"),
        dict(type="Resize", scale=(side, side), keep_ratio=True),
        dict(type="LoadAnnotations"),
        dict(type="PackSegInputs"),
    ]
    model = _model(backbone, settings, places, network=True)
    model["data_preprocessor"]["size"] = (crop, crop)
    head: dict[str, Any] = dict(num_classes=len(own.classes) + 1)
    if backbone.network is not None:
        levels = 4 if backbone.name.startswith("resnet") else 1
        head |= dict(in_channels=backbone.channels, in_index=levels - 1)
        # The published rates are for output stride 8.
        head["dilations"] = (6, 12, 18, 24) if backbone.stride == 8 else (3, 6, 9, 12)
    model["decode_head"] = head
    workers = _workers(backbone)
    # Of the training images: there are no others. The pipeline's test names the masks.
    images = dict(img_path=str(places.copy / "images"))
    test = dict(data, data_prefix=images, pipeline=test_pipeline)
    rate = 0.002 if backbone.small else 2.5e-4
    names = dict(
        train_dataloader=dict(
            batch_size=settings.network_batch,
            num_workers=workers,
            drop_last=False,
            dataset=dict(data, pipeline=train_pipeline),
        ),
        test_dataloader=dict(num_workers=workers, dataset=test),
        model=model,
        train_cfg=dict(max_iters=settings.iterations),
        optim_wrapper=dict(optimizer=dict(lr=rate)),
    )
    return _file(
        "The segmentation network, trained on the pseudo masks.",
        _reasons(
            settings, ["network", "batch of the network", "iterations of the network"]
        ),
        str(places.configs / f"segmentation/deeplabv2_{base}_own-images.py"),
        names,
    )


def _pipeline(own: OwnImages, settings: Settings, places: Places) -> str:
    branch, last = _branch(settings)
    other = "plain" if branch == "wood" else "wood"
    inputs = dict(
        source=str(places.data),
        plan=str(places.own / "plan.json"),
        classifier_config=str(places.own / "classifier.py"),
        irn_config=str(places.own / "irn.py"),
        segmentor_a_config=str(places.own / "network.py"),
        network_checkpoint=f"{{segmentor_a_{branch}.checkpoint}}",
    )
    inputs[f"{branch}_config"] = str(places.own / f"{last[0]}.py")
    inputs[f"{branch}_checkpoint"] = f"{{{last[0]}.checkpoint}}"
    args = ["{source}", "--out", "{work_dir}/data"]
    args += ["--long-side", str(settings.long_side), "--untagged", places.untagged]
    levels, bands = settings.decoding.levels, settings.decoding.bands
    if levels is not None:
        # argparse takes -1e-05 for an option.
        values = np.ravel(levels).tolist()
        args += ["--levels", *(np.format_float_positional(v, trim="-") for v in values)]
    if bands is not None:
        args += ["--bands", *map(str, bands)]
    for name in ("tags", "candidates", "masks", "corrected"):
        path = getattr(places, name)
        if path is not None:
            inputs[f"own_{name}"] = str(path)
            args += [f"--{name}", f"{{own_{name}}}"]
    stages: dict[str, Any] = {}
    # The stage whose pseudo masks the network learns from.
    source = f"masks_{branch}"
    stages["weights"] = _weights_stage(settings)
    copy = ["{data}/images", "{data}/tags.csv"]
    none = ["{data}/ood", "{data}/untagged.csv"] if own.untagged else []
    weights = ["{weights.folder}"] if stages["weights"] else []
    one = none if len(own.classes) == 1 else []
    stages["classifier"] = dict(reads=[*copy, *one, *weights])
    stages["prepare"] = dict(args=args)
    mined = settings.wood and bool(own.candidates)
    for stage in ("mine", "review"):
        if not mined:
            stages[stage] = None
    if settings.wood:
        kept = ["{review.manifest}", "{candidates}"] if mined else []
        stages["wood"] = dict(reads=[*copy, *none, *kept])
    else:
        stages["wood"] = stages["clusters"] = None
    for stage in ("seeds", "affinity", "irn", "masks", "segmentor_a", "test_a"):
        stages[f"{stage}_{other}"] = None
    if settings.label_filter:
        modules = settings.backbone.filter_levels or settings.backbone.levels[-2:]
        stages["filter"] = dict(
            args=[
                *("{classifier_config}", f"{{{source}.scores}}"),
                *("--out", "{dir}/filtered", "--modules", *modules),
                *("--show-dir", "{dir}/pictures", "--interval", "20"),
            ],
            reads=[*copy, *weights],
        )
        source = "filter"
    else:
        stages["filter"] = None
    stages["filter_scores"] = None
    if own.corrected:
        stages["corrected"] = dict(
            title="put corrected masks in the places of pseudo masks",
            run="dataset_converters/corrected_masks.py",
            args=[
                f"{{{source}.scores}}",
                *("--corrected", "{data}/corrected", "--out", "{dir}"),
            ],
            outputs=dict(labels="{dir}/labels"),
            reads=["{data}/corrected"],
        )
        source = "corrected"
    stages[f"segmentor_a_{branch}"] = dict(options={_MASKS: f"{{{source}.labels}}"})
    stems = [Path(item.image).stem for item in own.tagged]
    test = f"test_a_{branch}"
    predictions = None
    if own.masks:
        # Here alone, so that no training knows of them.
        masks = {"test_dataloader.dataset.data_prefix.seg_map_path": "{data}/masks"}
        measured = [*copy, "{data}/masks"]
        for stage in (f"seeds_{branch}", f"masks_{branch}"):
            stages[stage] = dict(options=masks, reads=measured)
        stages[test] = dict(options=dict(masks), reads=measured)
        if settings.label_filter:
            stages["filter_scores"] = dict(
                args=[
                    *("filtered={filter.labels}", "--masks", "{data}/masks"),
                    *("--out", "{dir}/scores.json"),
                ],
                reads=["{data}/masks"],
            )
        if len(set(stems)) == len(stems):
            predictions = f"{{{test}.dir}}/predictions"
        else:
            # They would share a file: predictions are named after images alone.
            stages[test]["options"]["test_evaluator.metrics.iou.output_dir"] = None
    else:
        stages[test] = None
    labels = [
        _label("seeds", f"seeds_{branch}", own),
        _label("pseudo masks", f"masks_{branch}", own),
    ]
    if settings.label_filter:
        scores = dict(scores="{filter_scores.scores}") if own.masks else {}
        name = "filtered pseudo masks"
        labels.append(dict(name=name, folder="{filter.scores}", **scores))
    networks = [
        dict(
            name="segmentation network",
            images="training",
            folder=f"{{{test}.dir}}",
            predictions=predictions,
        )
    ]
    report: dict[str, Any] = dict(
        title=places.data.name,
        data=dict(
            masks="{data}/masks" if own.masks else None, classes=list(own.classes)
        ),
        branches=[
            dict(
                name=_WITH if settings.wood else _WITHOUT,
                labels=labels,
                networks=networks if own.masks else [],
            )
        ],
    )
    if own.corrected:
        report["text"] = (
            f"From image tags to masks; {len(own.corrected)} masks of {len(stems)} "
            "were corrected by hand, and the network learned from them."
        )
    if not mined:
        report |= dict(mining=None, review=None)
    if not settings.wood:
        report["figures"] = []
    stages["report"] = dict(report=report)
    names = dict(
        work_dir=str(places.work_dir),
        label_filter=settings.label_filter,
        inputs=inputs,
        stages=stages,
    )
    return _file(
        "The pipeline of these images. Start it, and continue it, by:\n"
        f"python tools/run_pipeline.py {places.own / 'pipeline.py'}",
        _reasons(
            settings, ["data", "W-OoD", "label filter", "masks", "corrected masks"]
        ),
        str(places.configs / "pipelines/own_images.py"),
        names,
    )


def _label(name: str, stage: str, own: OwnImages) -> dict:
    curve = dict(curve=f"{{{stage}.curve}}") if own.masks else {}
    return dict(name=name, folder=f"{{{stage}.scores}}", **curve)


def _weights_stage(settings: Settings) -> dict | None:
    both = {item.name: item for item in (settings.backbone, settings.network)}
    found = [item.weights for item in both.values() if item.weights]
    if not found:
        return None
    channels = []
    if settings.decoding.channels != 3:
        channels = ["--in-channels", str(settings.decoding.channels)]
    if not found[0].name:
        return dict(
            run="model_converters/efficientnet_lite.py",
            args=[f"{{dir}}/{found[0].file}", *channels],
        )
    names = [item.name for item in found]
    args = ["--out", "{dir}", *names, *channels]
    return dict(run="model_converters/pretrained.py", args=args)


def _branch(settings: Settings) -> tuple[str, tuple[str, int]]:
    """The branch that runs, and the stage of its classifier with its epochs."""
    if settings.wood:
        return "wood", ("wood", settings.wood_epochs)
    return "plain", ("classifier", settings.epochs)


def _data(own: OwnImages, places: Places) -> dict[str, Any]:
    return dict(
        data_root=str(places.copy),
        classes=list(own.classes),
        data_prefix=dict(img_path="images"),
        # They were decoded when they were copied.
        check="header",
    )


def _model(
    backbone: Backbone,
    settings: Settings,
    places: Places,
    num_classes: int | None = None,
    network: bool = False,
) -> dict[str, Any]:
    """What differs from the base config's model, for classifier, IRN or network."""
    model: dict[str, Any] = {}
    if network or backbone.preprocessor:
        model["data_preprocessor"] = dict(backbone.preprocessor)
    channels = settings.decoding.channels
    if channels != 3:
        pixels = backbone.preprocessor or (_LITE0 if backbone.small else _IMAGENET)
        # One value for all: mmseg's takes one or three.
        model["data_preprocessor"] = {
            key: [round(sum(values) / 3, 3)] for key, values in pixels.items()
        }
    own = backbone.network if network else backbone.model
    if own is not None:
        model["backbone"] = dict(own)
        if "timm" in str(own.get("type")).lower() and num_classes is not None:
            model["norm_eval"] = True
    if backbone.weights is not None:
        path = places.work_dir / "weights" / backbone.weights.file
        weights = dict(type="Pretrained", checkpoint=str(path))
        model.setdefault("backbone", {})["init_cfg"] = weights
    if channels != 3:
        model.setdefault("backbone", {})["in_channels"] = channels
        if "frozen_stages" in model["backbone"]:
            # Its first convolution is a new one.
            model["backbone"]["frozen_stages"] = -1
    if num_classes is not None:
        model["head"] = dict(num_classes=num_classes)
        if own is not None:
            model["head"]["in_channels"] = backbone.channels
    return model


def _seed_metric(threshold: float) -> dict[str, Any]:
    # The base config has none.
    return dict(_delete_=True, type="mmwood.SeedMetric", threshold=threshold)


def _workers(backbone: Backbone) -> int:
    return 2 if backbone.small else 4


def _reasons(settings: Settings, names: Sequence[str]) -> Iterator[str]:
    for row in settings.rows:
        if row.name in names:
            yield f"{row.name}: {row.value} ({row.reason})"


def _file(about: str, reasons: Iterator[str], base: str, names: dict[str, Any]) -> str:
    """A config's text."""
    lines = []
    for text in (*about.split("\n"), *reasons):
        lines.append(
            fill(
                text,
                _WIDTH,
                initial_indent="# ",
                subsequent_indent="# ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    lines += [f"_base_ = {_code(base)}", ""]
    lines += [f"{name} = {_code(value)}" for name, value in names.items()]
    return "\n".join(lines) + "\n"


def _code(value: Any, indent: int = 0) -> str:
    """A value as Python, wrapped where a line would be too long."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        # With the quotation marks of the project's configs.
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list, tuple)):
        return repr(value)
    if isinstance(value, dict):
        named = all(str(key).isidentifier() for key in value)
        start, end = ("dict(", ")") if named else ("{", "}")
        items = [
            (f"{key}=" if named else f"{key!r}: ") + _code(item, indent + 4)
            for key, item in value.items()
        ]
    else:
        start, end = "[]" if isinstance(value, list) else "()"
        items = [_code(item, indent + 4) for item in value]
    comma = "," if isinstance(value, tuple) and len(items) == 1 else ""
    flat = f"{start}{', '.join(items)}{comma}{end}"
    if "\n" not in flat and len(flat) + indent < _WIDTH - 12:
        return flat
    inside = "".join(f"{' ' * (indent + 4)}{item},\n" for item in items)
    return f"{start}\n{inside}{' ' * indent}{end}"
