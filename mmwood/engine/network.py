"""A trained segmentation network as a folder that works anywhere.

::

    network/
      config.py      one self-contained config: the model, its test, classes, palette
      weights.pth    the weights alone, which torch.load(weights_only=True) reads
      classes.csv    label, class and colour
      README.md      its numbers, what it was trained with, licences, how to use it
      manifest.json  what made it, and the files' hashes
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import CheckpointLoader

from mmwood import __version__
from mmwood.engine.runner import initial_weights, refuse_damaged_file
from mmwood.fileio.decoding import PICTURE, Decoding, check_decoding
from mmwood.fileio.files import (
    atomic_write,
    file_sha256,
    remove_leftovers,
    text_sha256,
    write_json,
)
from mmwood.fileio.label_folder import PSEUDO_LABELS, LabelFolder
from mmwood.fileio.labels import voc_palette
from mmwood.fileio.tables import write_table
from mmwood.registry import import_locations
from mmwood.utils.config import (
    leaf_dataset,
    leaf_datasets,
    type_name,
    without_names,
)
from mmwood.utils.locations import read_config

#: What the manifest says that the folder holds.
NETWORK = "mmwood network 1"
CONFIG, WEIGHTS, CLASSES, README = (
    "config.py",
    "weights.pth",
    "classes.csv",
    "README.md",
)
MAKER = "tools/model_converters/publish_network.py"
#: Fields of a model that only name where its training started.
_STARTS = ("checkpoint_path", "pretrained")


@dataclass
class Network:
    """A network that is ready to predict.

    Attributes:
        model: On its device, in evaluation mode.
        cfg: Its config, with nothing of the training in ``model``.
        classes: Name of each label.
        palette: Colour of each label. Shape: (len(classes), 3) uint8, RGB.
        weights_sha256: Of the file of its weights.
    """

    model: BaseModel
    cfg: Config
    classes: tuple[str, ...]
    palette: np.ndarray
    weights_sha256: str

    def description(self) -> dict[str, Any]:
        """What determines its predictions, for a manifest."""
        pipelines = [self.test_pipeline(), self.cfg.get("tta_pipeline")]
        settings = dict(model=self.cfg.to_dict()["model"], pipelines=pipelines)
        return dict(
            classes=list(self.classes),
            weights_sha256=self.weights_sha256,
            config_sha256=text_sha256(
                json.dumps(settings, sort_keys=True, default=str)
            ),
        )

    def test_pipeline(self) -> list[dict]:
        """The steps of the config's test, a list, without names."""
        for loader in ("test_dataloader", "val_dataloader"):
            leaf = leaf_dataset((self.cfg.get(loader) or {}).get("dataset"))
            if leaf.get("pipeline"):
                steps = without_names(leaf["pipeline"], "pipeline")
                return [
                    step.to_dict() if hasattr(step, "to_dict") else step
                    for step in steps
                ]
        if self.cfg.get("test_pipeline"):
            return [*self.cfg.to_dict()["test_pipeline"]]
        raise ValueError(
            "test_dataloader.dataset.pipeline: the config has none, which tells how "
            "large images come to the network"
        )

    @property
    def decoding(self) -> Decoding:
        """How the test pipeline reads images."""
        for step in self.test_pipeline():
            if type_name(step) == "LoadImage":
                return check_decoding(step.get("levels"), step.get("bands"))
        return PICTURE


def load_network(
    network: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
) -> Network:
    """Load what :func:`publish_network` wrote, or a config and a checkpoint.

    Of a published network nothing but tensors is unpickled.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: The folder holds no network, or one whose weights were exchanged; a
            config has no checkpoint; the weights are of another network; it is no
            segmentation network.
    """
    path = Path(network)
    if checkpoint is None:
        _refuse_no_network(path)
        manifest = LabelFolder(path, "NETWORK").require(
            dict(format=NETWORK), MAKER, "--overwrite"
        )
        weights = path / WEIGHTS
        for name in (CONFIG, WEIGHTS):
            if not (path / name).is_file():
                raise FileNotFoundError(f"NETWORK: there is no file {path / name}")
        if file_sha256(weights) != manifest["files"][WEIGHTS]:
            raise ValueError(
                f"NETWORK: {weights} are not the weights that {path} was written with: "
                f"copy the folder again, or make it anew with {MAKER}"
            )
        config = path / CONFIG
        content = torch.load(weights, map_location="cpu", weights_only=True)
    else:
        config, weights = path, Path(checkpoint)
        content = read_checkpoint(weights, "--checkpoint")
    return _build(_read_config(config, "NETWORK"), content, config, weights, device)


def publish_network(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    supervision: str | None = None,
    metrics: Mapping[str, Mapping[str, float | None]] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a trained segmentation network as a folder; see the module.

    Nothing is replaced but a network that was made of the same, or with ``overwrite``
    any other that mmwood wrote. A reader never takes half a folder for a whole one.

    Args:
        config: The config that it was trained with.
        checkpoint: Its weights; averaged ones, if its training averaged them.
        out: The folder to write.
        supervision: What it was trained with, a sentence. None: what the training's
            data set tells.
        metrics: Numbers by name, for each test by its name.
        overwrite: Whether another network, or changed files, may be replaced.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        ValueError: As :func:`load_network`; the folder holds something else.
    """
    config, checkpoint, out = Path(config), Path(checkpoint), Path(out)
    cfg = _read_config(config, "CONFIG")
    content = read_checkpoint(checkpoint, "CHECKPOINT")
    start = [*initial_weights(cfg.get("model"), "model").values()]
    start += [cfg.load_from] if cfg.get("load_from") else []
    network = _build(cfg, content, config, checkpoint, "cpu")
    training = _training(cfg)
    description = dict(
        format=NETWORK,
        mmwood=__version__,
        config=config.name,
        checkpoint_sha256=network.weights_sha256,
        config_sha256=network.description()["config_sha256"],
        classes=list(network.classes),
        # a file by its name alone, an address as it is
        pretraining=sorted({p if "://" in p else Path(p).name for p in start}),
        supervision=supervision or training["supervision"],
        training_images=training["images"],
        metrics={name: dict(values) for name, values in (metrics or {}).items()},
    )
    _refuse_other_content(out, description, overwrite)
    remove_leftovers(out)
    write_json(out / "manifest.json", dict(description, complete=False))
    with atomic_write(out / WEIGHTS) as temporary:
        meta = dict(dataset_meta=_metainfo(network), mmwood_version=__version__)
        # To a path, torch writes its name inside: the bytes would differ every time.
        with temporary.open("wb") as file:
            torch.save(dict(state_dict=network.model.state_dict(), meta=meta), file)
    texts = {
        CONFIG: _config_text(network),
        README: _readme(description, network),
    }
    for name, text in texts.items():
        with atomic_write(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    colours = network.palette.tolist()
    rows = [(n, name, *colours[n]) for n, name in enumerate(network.classes)]
    write_table(out / CLASSES, ("label", "class", "red", "green", "blue"), rows)
    files = {name: file_sha256(out / name) for name in (*texts, WEIGHTS, CLASSES)}
    manifest = dict(description, files=files, complete=True)
    write_json(out / "manifest.json", manifest)
    return manifest


def _refuse_no_network(path: Path) -> None:
    """Say of what is no folder of a network what to give instead."""
    if path.suffix == ".py":
        raise ValueError(
            f"NETWORK: {path} is a config: name its weights too, with --checkpoint "
            f"FILE, or write a network's folder with {MAKER}"
        )
    if path.is_file():
        raise ValueError(
            f"NETWORK: {path} is no folder of a network: give the folder that {MAKER} "
            "wrote, or a config (.py) and --checkpoint FILE"
        )
    if not path.is_dir():
        raise FileNotFoundError(
            f"NETWORK: there is no folder {path}; {MAKER} writes it"
        )
    inner = path / "network"
    if inner.is_dir() and not (path / "manifest.json").is_file():
        raise ValueError(f"NETWORK: {path} holds the network: name {inner}")


def _read_config(path: Path, field: str) -> Config:
    if not path.is_file():
        raise FileNotFoundError(f"{field}: there is no config {path}")
    if path.suffix != ".py":
        raise ValueError(f"{field}: {path} is no config: expected a .py file")
    cfg = read_config(path)
    if not isinstance(cfg.get("model"), dict):
        raise ValueError(f"{field}: {path} has no model")
    return cfg


def read_checkpoint(path: Path, field: str) -> dict:
    """The content of a checkpoint, on the CPU.

    Raises:
        FileNotFoundError: There is no such file; names the field.
        ValueError: It is damaged, or none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{field}: there is no file {path}")
    refuse_damaged_file(path, field)
    return CheckpointLoader.load_checkpoint(
        str(path), map_location="cpu", logger="silent"
    )


def _build(
    cfg: Config, content: dict, config: Path, weights: Path, device: str | torch.device
) -> Network:
    """The network of a config with the content of a checkpoint."""
    # Here: classifiers do without mmseg.
    from mmseg.models import BaseSegmentor

    cfg = deepcopy(cfg)
    cfg.model = without_start(cfg.model)
    # A registry would swallow what breaks there.
    import_locations()
    init_default_scope(cfg.get("default_scope", "mmseg"))
    model = MODELS.build(cfg.model)
    if not isinstance(model, BaseSegmentor):
        raise ValueError(
            f"{config}: model is a {type(model).__name__}, which is no segmentation "
            "network of MMSegmentation"
        )
    _fill(model, content, config, weights)
    classes, palette = _classes(cfg, content, config)
    channels = int(getattr(model, "out_channels", len(classes)))
    if channels != len(classes) and (channels, len(classes)) != (1, 2):
        raise ValueError(
            f"{weights}: the network tells {channels} classes apart, but "
            f"{len(classes)} are named: {classes}"
        )
    sha256 = file_sha256(weights)
    return Network(model.to(device).eval(), cfg, classes, palette, sha256)


def stored_state(content: dict) -> dict[str, Any]:
    """A checkpoint's weights by name, without the prefix of model wrappers."""
    state = content.get("state_dict", content)
    return {name.removeprefix("module."): value for name, value in state.items()}


def _fill(model: BaseModel, content: dict, config: Path, weights: Path) -> None:
    """Load weights, all of the model's."""
    state = stored_state(content)
    own = model.state_dict()
    wrong = [
        f"{name} has shape {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if not wrong:
        lacking = model.load_state_dict(state, strict=False).missing_keys
        counters = "num_batches_tracked"
        wrong = [f"{n} is missing" for n in lacking if not n.endswith(counters)]
    if wrong:
        known = (content.get("meta") or {}).get("dataset_meta") or {}
        names = known.get("classes") or known.get("CLASSES")
        trained = f"; it was trained on {len(names)} classes, {names}" if names else ""
        worst = max(wrong, key=lambda text: text.startswith("decode_head"))
        raise ValueError(
            f"{weights} holds the weights of another network than {config}: "
            f"{worst} ({len(wrong)} of {len(own)} such){trained}"
        )


def without_start(config: Any) -> Any:
    """A model's config without the weights that its training started from.

    Batch normalisation over processes becomes ordinary: in a test they are the same,
    and the former wants a GPU.
    """
    if isinstance(config, (list, tuple)):
        return type(config)(without_start(item) for item in config)
    if not isinstance(config, dict):
        return config
    kept = type(config)()
    for key, value in config.items():
        named = any("checkpoint" in item for item in _as_list(value))
        if (key == "init_cfg" and named) or (key in _STARTS and value):
            continue
        kept[key] = without_start(value)
    if kept.get("type") in ("SyncBN", "MMSyncBN"):
        kept["type"] = "BN"
    return kept


def _as_list(value: Any) -> list[dict]:
    items = value if isinstance(value, (list, tuple)) else [value]
    return [item for item in items if isinstance(item, dict)]


def _classes(
    cfg: Config, content: dict, config: Path
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and colours of the labels, from the checkpoint or from the data set."""
    known = (content.get("meta") or {}).get("dataset_meta") or {}
    classes = known.get("classes") or known.get("CLASSES")
    stated = [
        metainfo
        for loader in ("test_dataloader", "val_dataloader", "train_dataloader")
        for metainfo in _metainfos((cfg.get(loader) or {}).get("dataset"))
        if metainfo.get("classes")
    ]
    if not classes and stated:
        classes = stated[0]["classes"]
    if not classes or isinstance(classes, str):
        raise ValueError(
            f"{config}: neither the checkpoint (meta.dataset_meta) nor "
            "test_dataloader.dataset.metainfo.classes names the classes: add the latter"
        )
    # Not the checkpoint's: BaseSegDataset makes up colours where none are stated.
    palette = voc_palette(len(classes)) if len(classes) <= 256 else None
    for metainfo in stated:
        if tuple(metainfo["classes"]) == tuple(classes) and metainfo.get("palette"):
            palette = metainfo["palette"]
            break
    if palette is None:
        palette = (known.get("palette") or voc_palette())[: len(classes)]
    return tuple(map(str, classes)), np.array(palette, dtype=np.uint8)


def _metainfos(dataset: Any) -> list[dict]:
    """What a data set's config and its class say of classes."""
    found = []
    for leaf in leaf_datasets(dataset or {}):
        if isinstance(leaf, dict):
            found.append(leaf.get("metainfo") or {})
            kind = leaf.get("type")
            if isinstance(kind, str):
                # That of the config's default scope.
                with DATASETS.switch_scope_and_registry(None) as registry:
                    kind = registry.get(kind)
            found.append(getattr(kind, "METAINFO", {}))
    return found


def _metainfo(network: Network) -> dict:
    return dict(classes=network.classes, palette=network.palette.tolist())


def _training(cfg: Config) -> dict[str, Any]:
    """How many images the training saw, and what their masks are, where it tells."""
    dataset = (cfg.get("train_dataloader") or {}).get("dataset") or {}
    images, kinds = 0, set()
    for leaf in leaf_datasets(dataset):
        prefix = leaf.get("data_prefix") or {}
        folder = Path(leaf.get("data_root") or "", prefix.get("seg_map_path") or "")
        manifest: dict = {}
        with suppress(OSError, ValueError):
            manifest = LabelFolder(folder.parent).manifest()
        made = manifest.get("format") == PSEUDO_LABELS
        kinds.add(
            "image tags (masks made from a classifier's maps)" if made else "masks"
        )
        try:
            images += len(DATASETS.build(dict(leaf, pipeline=[])))
        except (AssertionError, OSError, ValueError, KeyError, TypeError):
            # Not where it is published from.
            return dict(images=None, supervision=None)
    return dict(images=images, supervision=" and ".join(sorted(kinds)))


def _refuse_other_content(out: Path, description: dict, overwrite: bool) -> None:
    """Refuse a folder of something else, of another network, or with changed files."""
    folder = LabelFolder(out, "--out")
    same = ("format", "checkpoint_sha256", "config_sha256", "classes")
    wanted = {key: description[key] for key in same}
    folder.compare(wanted, "replace it with --overwrite", overwrite)
    if overwrite or not folder.manifest_path.is_file():
        return
    for name, sha256 in folder.manifest().get("files", {}).items():
        if (out / name).is_file() and file_sha256(out / name) != sha256:
            raise FileExistsError(
                f"--out: {out / name} was changed since it was written: move it away, "
                "or replace it with --overwrite"
            )


def _config_text(network: Network) -> str:
    """The config in one file, without paths."""
    cfg = network.cfg.to_dict()
    pipeline = network.test_pipeline()
    content: dict[str, Any] = dict(default_scope=cfg.get("default_scope", "mmseg"))
    if cfg.get("custom_imports"):
        content["custom_imports"] = cfg["custom_imports"]
    content |= dict(
        metainfo=_metainfo(network),
        model=cfg["model"],
        test_pipeline=pipeline,
        test_dataloader=dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=dict(
                type="BaseSegDataset", metainfo=_metainfo(network), pipeline=pipeline
            ),
        ),
        test_evaluator=dict(type="IoUMetric", iou_metrics=["mIoU"]),
        test_cfg=dict(type="TestLoop"),
        visualizer=dict(
            type="SegLocalVisualizer",
            name="visualizer",
            vis_backends=[dict(type="LocalVisBackend")],
        ),
    )
    for key in ("tta_model", "tta_pipeline"):
        if cfg.get(key):
            content[key] = cfg[key]
    title = f"# {len(network.classes)} classes, published by mmwood {__version__}.\n"
    return title + Config(content).pretty_text


def _readme(description: dict, network: Network) -> str:
    """What the folder's README.md says."""
    kind = type_name(network.cfg.model)
    backbone = network.cfg.model.get("backbone") or {}
    depth = backbone.get("model_name") or backbone.get("depth")
    body = " ".join(map(str, filter(None, (type_name(backbone), depth))))
    count = description["training_images"]
    pretraining = ", ".join(description["pretraining"]) or "none named in the config"
    rows = [
        f"| {name} | {key} | {_shown(value)} |"
        for name, values in description["metrics"].items()
        for key, value in values.items()
    ]
    table = ["| test | measure | value |", "|---|---|---:|", *rows] if rows else []
    lines = [
        f"# {Path(description['config']).stem}",
        "",
        f"A segmentation network of {len(network.classes)} classes ({kind}, {body}), "
        f"trained with OpenMMLab and mmwood {description['mmwood']}.",
        "",
        f"- Supervision: {description['supervision'] or 'not known'}",
        f"- Training images: {'not known' if count is None else count}",
        f"- Pretrained weights: {pretraining}",
        f"- Labels: `{CLASSES}`",
        "",
        "## Use",
        "",
        "```",
        "python tools/predict.py PATH_OF_THIS_FOLDER IMAGES --out masks",
        "```",
        "",
        f"or `MMSegInferencer('{CONFIG}', '{WEIGHTS}')` of MMSegmentation, with mmwood "
        "installed.",
        "",
        "## Numbers",
        "",
        *(table or ["Not measured: no masks to compare with were named."]),
        "",
        "## Licences",
        "",
        "These weights derive from the pretrained weights named above and from the "
        "training images. The licences of both hold for them, whatever mmwood's own "
        "is (Apache 2.0): look there before you share or sell what they predict.",
        "",
    ]
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
