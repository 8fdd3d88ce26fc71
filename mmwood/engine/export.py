"""A network as one file that works without mmwood, OpenMMLab and, as ONNX, torch.

Such a file takes an image and gives its labels: the channel order, the resizing of the
config's test pipeline, the normalisation and the padding are part of it, and so are the
resizing of the scores and the choice of the class. Both formats hold the same trace of
the network, of which height and width are free.
"""

import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwood import __version__
from mmwood.engine.network import Network
from mmwood.engine.predictor import Predictor
from mmwood.fileio.files import atomic_write
from mmwood.functional.resize import resize_linear
from mmwood.utils.require import require

__all__ = [
    "EXPORT",
    "Agreement",
    "ExportFormat",
    "WholeImage",
    "drawn_images",
    "export_network",
    "load_export",
    "refuse_foreign_export",
]

ExportFormat = Literal["onnx", "torchscript"]
#: How the files of each format end.
SUFFIXES: dict[ExportFormat, str] = dict(onnx=".onnx", torchscript=".pt")
#: What the metadata says that a file is.
EXPORT = "mmwood export 1"
#: Labels of an image that may differ from torch's: this fraction of them, or, of a small
#: image, this many. Where two scores are equal but for rounding, either may win.
FRACTION, PIXELS = 0.001, 4
#: (H, W) of the images that are drawn.
SIZES = ((96, 128), (131, 97), (65, 201), (240, 320))
#: What onnxruntime 1.14 and all later ones read; the first with uint8 in all that we use.
_OPSET = 17


class Agreement(NamedTuple):
    """How many labels of a file are not those of :class:`Predictor`.

    Attributes:
        images: How many images were compared.
        pixels: How many pixels these have.
        differ: How many of them have another label.
    """

    images: int
    pixels: int
    differ: int


class WholeImage(nn.Module):
    """The labels of an image, as :class:`Predictor` finds them without tiles.

    It is there to be traced: sizes are computed with tensors.

    Args:
        predictor: Of a network, without ``tta`` and ``crf``.

    Shape:
        - image: (H, W, 3) uint8, RGB
        - output: (H, W) uint8; int32 with more than 255 classes

    Raises:
        ValueError: The config's test has windows, a data_preprocessor of another kind,
            or a step other than a bilinear ``Resize``.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model = predictor.model
        self.binary = predictor.binary
        self.dtype = torch.uint8 if len(predictor.classes) <= 255 else torch.int32
        self.resizes = [
            step
            for step in predictor.pipeline.transforms
            if type(step).__name__ != "PackSegInputs"
        ]
        for step in self.resizes:
            _refuse_step(step)
        if self.model.test_cfg.get("mode", "whole") != "whole":
            raise ValueError(
                "model.test_cfg.mode: windows ('slide') cannot be exported: set it to "
                "'whole' in the config, which gives other labels"
            )
        kind = type(self.model.data_preprocessor).__name__
        if kind != "SegDataPreProcessor":
            raise ValueError(
                f"model.data_preprocessor: {kind} cannot be exported, only "
                "SegDataPreProcessor"
            )

    def forward(self, image: Tensor) -> Tensor:
        """The label map of an image."""
        size = image.shape[:2]
        inputs = image.permute(2, 0, 1)[None].float()
        for step in self.resizes:
            inputs = _resized(inputs, step)
        height, width = inputs.shape[2:]
        inputs = self._padded(self._normalised(inputs))
        shape = tuple(inputs.shape[2:])
        about = dict(ori_shape=shape, img_shape=shape, pad_shape=shape)
        scores = self.model.encode_decode(inputs, [about])[:, :, :height, :width]
        if self.resizes:
            corners = self.model.align_corners
            scores = F.interpolate(scores, size, mode="bilinear", align_corners=corners)
        if self.binary:
            label = scores[0, 0].sigmoid() > self.model.decode_head.threshold
        else:
            label = scores[0].argmax(dim=0)
        return label.to(self.dtype)

    def _normalised(self, inputs: Tensor) -> Tensor:
        """As the data_preprocessor does it, of RGB. It has no attributes for that."""
        own = self.model.data_preprocessor
        # Of BGR, which pipelines load, it makes RGB.
        if not own._channel_conversion:
            inputs = inputs.flip(1)
        return (inputs - own.mean) / own.std if own._enable_normalize else inputs

    def _padded(self, inputs: Tensor) -> Tensor:
        """On the right and below, as mmseg's ``stack_batch`` does it in tests."""
        own = self.model.data_preprocessor
        if not own.test_cfg:
            return inputs
        sides = _sides(inputs)
        if size := own.test_cfg.get("size"):
            wanted = torch.tensor(size)
        else:
            divisor = own.test_cfg.get("size_divisor") or 1
            wanted = (sides + divisor - 1) // divisor * divisor
        below, right = (wanted - sides).clamp(min=0)
        return F.pad(inputs, (0, right, 0, below), value=own.pad_val)


def _refuse_step(step: Any) -> None:
    """Refuse a step of the test pipeline that a file could not do."""
    kind = type(step).__name__
    if kind != "Resize":
        raise ValueError(
            f"test_dataloader.dataset.pipeline: {kind} cannot be exported, only Resize"
        )
    if (step.backend, step.interpolation) != ("cv2", "bilinear"):
        raise ValueError(
            "test_dataloader.dataset.pipeline: Resize with "
            f"backend={step.backend!r}, interpolation={step.interpolation!r} cannot be "
            "exported, only 'cv2' and 'bilinear'"
        )


def _sides(inputs: Tensor) -> Tensor:
    """Height and width of (B, C, H, W), which a trace keeps as what it computes."""
    return torch.stack([torch.as_tensor(side) for side in inputs.shape[2:]])


def _resized(inputs: Tensor, step: Any) -> Tensor:
    """As mmcv's ``Resize`` of 8 bits. Shape: (B, C, H, W) to (B, C, h, w)."""
    sides = _sides(inputs).double()
    if step.scale is not None:
        wanted = torch.tensor(step.scale[::-1], dtype=torch.float64)
    else:
        factors = torch.tensor(step.scale_factor[::-1], dtype=torch.float64)
        wanted = (sides * factors + 0.5).floor()
    if step.keep_ratio:
        ratios = wanted.max() / sides.max(), wanted.min() / sides.min()
        wanted = (sides * torch.minimum(*ratios) + 0.5).floor()
    return resize_linear(inputs, wanted.long()).float()


def export_network(
    network: Network,
    path: str | os.PathLike,
    kind: ExportFormat = "onnx",
    images: Iterable[np.ndarray] = (),
) -> Agreement:
    """Write a network as one file, if it gives the labels that torch gives.

    The labels of the images, and of some of other sizes that are drawn, are compared
    with those of :class:`Predictor` before the file gets its name.

    The metadata are texts: ``format``, ``mmwood``, ``weights_sha256``, and as JSON
    ``classes`` and ``palette``, a list of [red, green, blue]. In ONNX they are
    ``metadata_props``, in TorchScript extra files.

    Args:
        network: The network, on the CPU.
        path: The file; one that this function wrote is replaced.
        kind: Its format.
        images: To compare on. Shapes: (H, W, 3) uint8, RGB.

    Returns:
        How well it agrees.

    Raises:
        ImportError: A package is missing.
        FileExistsError: There is another file.
        ValueError: The network cannot be exported, or the file gives other labels: more
            than 0.1 % of an image's, and more than four. There is no file then.
    """
    refuse_foreign_export(path, kind)
    # No image is cut.
    predictor = Predictor(network, tile=2**30)
    whole = WholeImage(predictor).eval()
    about = dict(
        format=EXPORT,
        mmwood=__version__,
        weights_sha256=network.weights_sha256,
        classes=json.dumps(network.classes),
        palette=json.dumps(network.palette.tolist()),
    )
    write = _write_onnx if kind == "onnx" else _write_torchscript
    with atomic_write(path) as temporary:
        try:
            with warnings.catch_warnings(), torch.no_grad():
                # Of ifs on sizes; whether they matter, the comparison tells.
                warnings.simplefilter("ignore")
                write(whole, torch.from_numpy(drawn_images()[0]), temporary, about)
        except (RuntimeError, TypeError, AssertionError) as error:
            raise ValueError(
                f"NETWORK: it cannot be exported as {kind}: {_first_line(error)}"
            ) from error
        return _agreement(predictor, load_export(temporary, kind), images)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _write_torchscript(
    whole: WholeImage, image: Tensor, path: Path, about: dict[str, str]
) -> None:
    traced = torch.jit.trace(whole, (image,), check_trace=False)
    with path.open("wb") as file:
        torch.jit.save(traced, file, _extra_files=dict(about))


def _write_onnx(
    whole: WholeImage, image: Tensor, path: Path, about: dict[str, str]
) -> None:
    onnx = require("onnx", "export", "--format onnx")
    file, axes = io.BytesIO(), {0: "height", 1: "width"}
    options: dict[str, Any] = dict(opset_version=_OPSET)
    # The newer exporter takes minutes where this one takes a second, and torch 2.1 has
    # neither it nor the option.
    if "dynamo" in torch.onnx.export.__code__.co_varnames:
        options["dynamo"] = False
    torch.onnx.export(
        whole,
        (image,),
        file,
        input_names=["image"],
        output_names=["label"],
        dynamic_axes=dict(image=axes, label=axes),
        **options,
    )
    model = onnx.load_from_string(file.getvalue())
    onnx.helper.set_model_props(model, about)
    onnx.save(model, str(path))


def load_export(
    path: str | os.PathLike, kind: ExportFormat
) -> Callable[[np.ndarray], np.ndarray]:
    """What a file that :func:`export_network` wrote makes of an image.

    Returns:
        A function of an image, (H, W, 3) uint8 RGB, that gives its labels, (H, W).

    Raises:
        ImportError: onnxruntime is missing.
    """
    if kind == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(str(path), map_location="cpu")

        @torch.inference_mode()
        def run(image: np.ndarray) -> np.ndarray:
            return module(torch.from_numpy(image)).numpy()

        return run
    onnxruntime = require("onnxruntime", "export", "--format onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # It prints what it raises.
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    return lambda image: session.run(["label"], dict(image=image))[0]


def _agreement(
    predictor: Predictor,
    exported: Callable[[np.ndarray], np.ndarray],
    images: Iterable[np.ndarray],
) -> Agreement:
    """Compare a file with torch, image by image."""
    count = pixels = total = 0
    for image in (*drawn_images(), *images):
        size = f"of {image.shape[1]} x {image.shape[0]} pixels"
        expected = predictor(image).label
        try:
            label = exported(image)
        except RuntimeError as error:
            raise ValueError(
                f"NETWORK: as a file it fails at an image {size}, so its size cannot be "
                f"free: {_first_line(error)}"
            ) from error
        if label.shape != expected.shape:
            raise ValueError(
                f"NETWORK: as a file it gives labels of shape {label.shape} for an "
                f"image {size}, so its size cannot be free"
            )
        differ = int((label != expected).sum())
        if differ > max(PIXELS, FRACTION * expected.size):
            raise ValueError(
                f"NETWORK: as a file it gives other labels than torch: {differ} of an "
                f"image {size}, {differ / expected.size:.2%}"
            )
        count, pixels, total = count + 1, pixels + expected.size, total + differ
    return Agreement(count, pixels, total)


def drawn_images() -> list[np.ndarray]:
    """Images of several sizes, smooth, of any colours. Shapes: (H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    images = []
    for height, width in SIZES:
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        images.append(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return images


def refuse_foreign_export(path: str | os.PathLike, kind: ExportFormat) -> None:
    """Refuse to replace a file that :func:`export_network` did not write.

    Raises:
        FileExistsError: There is such a file, or a folder.
        ImportError: onnx is missing, to read it with.
    """
    if os.path.exists(path) and _format(Path(path), kind) != EXPORT:
        raise FileExistsError(
            f"--out: {path} is there, and is no network that this tool wrote as {kind}: "
            "name another file, or move it away"
        )


def _format(path: Path, kind: ExportFormat) -> str | None:
    """What the metadata of a file say that it is."""
    if kind == "torchscript":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                own = [name for name in names if name.endswith("/extra/format")]
                return archive.read(own[0]).decode() if own else None
        except (OSError, zipfile.BadZipFile, UnicodeDecodeError):
            return None
    onnx = require("onnx", "export", "--format onnx")
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError):
        return None
    return {item.key: item.value for item in model.metadata_props}.get("format")
