"""CLIP's maps of class names, for ``tools/external_maps.py``, of the user's weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from torch import Tensor, nn

from mmwood.engine.weights import state_sha256
from mmwood.functional.clip_maps import (
    Compared,
    resize_positions,
    self_similar_values,
    text_maps,
)
from mmwood.utils.check import at_least
from mmwood.utils.require import require

#: What is often around objects of PASCAL VOC; the list of CLIP-ES (Lin et al., CVPR
#: 2023). None of them may be a class of yours.
BACKGROUND = (
    *("ground", "land", "grass", "tree", "building", "wall", "sky", "lake", "water"),
    *("river", "sea", "railway", "railroad", "keyboard", "helmet", "cloud", "house"),
    *("mountain", "ocean", "road", "rock", "street", "valley", "bridge", "sign"),
)
#: Of a visual transformer of open_clip.
_PARTS = (
    *("conv1", "class_embedding", "positional_embedding", "ln_pre", "transformer"),
    *("ln_post", "proj"),
)


class CLIPMaps:
    """Maps of class names by CLIP, without training.

    See :mod:`mmwood.functional.clip_maps` for what it computes. Nothing is downloaded:
    the weights are a file of yours. They have learned from images with captions, which
    is supervision beside image tags.

    Args:
        checkpoint: File of weights, as ``open_clip`` loads it.
        model: Its name in ``open_clip``; OpenAI's weights want
            ``'ViT-B-16-quickgelu'``.
        prompt: The text of a class; ``{}`` stands for its name.
        background: Names of what no class is.
        blocks: How many of the last blocks have a second path.
        compared: What is compared there, see
            :func:`mmwood.functional.clip_maps.self_similar_values`.
        scale: By which images are resized before they are made multiples of the patch.
        device: Where to compute; None: a GPU if there is one.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ImportError: ``open_clip`` is not installed.
        ValueError: The prompt has no ``{}``, ``blocks`` or ``scale`` is no such number,
            or the model is no vision transformer with a class token.

    Example:
        >>> maps = CLIPMaps('weights/clip_vit-b16.pt', 'ViT-B-16-quickgelu')
        >>> maps(image, ['train', 'boat']).shape
        (2, 23, 31)
    """

    supervision = (
        "pairs of images and texts (CLIP; OpenAI's weights: 400 million of them)"
    )

    def __init__(
        self,
        checkpoint: str,
        model: str = "ViT-B-16",
        prompt: str = "a clean origami {}.",
        background: Sequence[str] = BACKGROUND,
        blocks: int = 5,
        compared: Sequence[Compared] = ("query", "key", "value"),
        scale: float = 1.0,
        device: str | None = None,
    ) -> None:
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(
                f"CLIPMaps: checkpoint: there is no file {checkpoint}; nothing is "
                "downloaded"
            )
        if "{}" not in prompt:
            raise ValueError(
                f"CLIPMaps: prompt needs {{}}, which stands for a name: {prompt!r}"
            )
        if not scale > 0:
            raise ValueError(f"CLIPMaps: scale must be positive, but is {scale}")
        clip = require("open_clip", "clip", "CLIPMaps")
        _refuse_downloads(clip, model)
        self.device = device or get_device()
        network = clip.create_model(model, pretrained=str(checkpoint))
        self.network = network.to(self.device).eval()
        self.visual: Any = self.network.visual
        plain = all(hasattr(self.visual, part) for part in _PARTS)
        if not plain or getattr(self.visual, "pool_type", "tok") != "tok":
            raise ValueError(
                f"CLIPMaps: model: the image part of {model!r} is no vision "
                "transformer of open_clip whose class token stands for the image"
            )
        depth = len(self.visual.transformer.resblocks)
        at_least("CLIPMaps: blocks", blocks, 1, below=depth + 1, integer=True)
        self.tokenize = clip.get_tokenizer(model)
        self.prompt, self.background = prompt, _listed(background)
        self.blocks, self.compared, self.scale = blocks, _listed(compared), scale
        self._texts: dict[str, Tensor] = {}

    def description(self) -> dict[str, Any]:
        """What determines the maps beside the options, for a manifest."""
        return dict(weights_sha256=state_sha256(self.network.state_dict()))

    @torch.no_grad()
    def __call__(self, image: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """The maps of an image.

        Args:
            image: Shape: (H, W, 3) uint8 RGB.
            names: Names of n classes.

        Returns:
            One map for each, from 0 to 1, on the grid of patches. Shape: (n, h, w).

        Raises:
            ValueError: A class is in ``background``, too.
        """
        if both := {*names} & {*self.background}:
            raise ValueError(
                f"CLIPMaps: background names the class {min(both)!r}: give a list "
                "without it, as --maps-options background=ground,sky"
            )
        tokens, grid = dense_tokens(
            self.visual, self._prepared(image), self.blocks, self.compared
        )
        texts = torch.stack([self._text(n) for n in (*names, *self.background)])
        maps = text_maps(tokens[1:], tokens[0], texts, len(names))
        return maps.reshape(len(names), *grid).cpu().numpy()

    def _text(self, name: str) -> Tensor:
        if name not in self._texts:
            tokens = self.tokenize([self.prompt.format(name)]).to(self.device)
            self._texts[name] = self.network.encode_text(tokens)[0].float()
        return self._texts[name]

    def _prepared(self, image: np.ndarray) -> Tensor:
        """Normalised, with sides that are multiples of the patch. Shape: (3, H, W)."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        pixels = pixels.permute(2, 0, 1).float() / 255
        patches = self.visual.conv1.stride
        sides = [
            max(1, round(side * self.scale / patch)) * patch
            for side, patch in zip(pixels.shape[1:], patches)
        ]
        if sides != [*pixels.shape[1:]]:
            pixels = F.interpolate(pixels[None], sides, mode="bicubic", antialias=True)[
                0
            ].clamp(0, 1)
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (self.visual.image_mean, self.visual.image_std)
        )
        return (pixels - mean) / std


def _listed(names: Any) -> list:
    """A command line gives one name as a text."""
    return [names] if isinstance(names, str) else [*names]


def _refuse_downloads(clip: Any, model: str) -> None:
    config = clip.get_model_config(model) if model in clip.list_models() else None
    if config is None:
        raise ValueError(
            f"CLIPMaps: model: this open_clip has no {model!r}; "
            "open_clip.list_models() lists what it has"
        )
    if any(key.startswith("hf_") for key in config.get("text_cfg", {})):
        raise ValueError(
            f"CLIPMaps: model: the text part of {model!r} would be downloaded: take a "
            "model whose texts open_clip reads itself, as ViT-B-16"
        )


def dense_tokens(
    visual: Any, image: Tensor, blocks: int, compared: Sequence[Compared]
) -> tuple[Tensor, tuple[int, int]]:
    """Tokens of a second path beside the last blocks, in the space of texts.

    It starts where these blocks do; each adds the self-similar values of the first
    path's normalised tokens, and no MLP. The class token is the first path's.

    Args:
        visual: A vision transformer of open_clip.
        image: Normalised. Shape: (3, H, W).
        blocks: How many of the last blocks.
        compared: See :func:`mmwood.functional.clip_maps.self_similar_values`.

    Returns:
        The tokens, that of the class first, (1 + h * w, D), and (h, w).
    """
    patches = visual.conv1(image[None])
    grid = (patches.shape[2], patches.shape[3])
    tokens = torch.cat([visual.class_embedding[None], patches[0].flatten(1).T])
    tokens = visual.ln_pre(tokens + resize_positions(visual.positional_embedding, grid))
    layers = [*visual.transformer.resblocks]
    # Of older releases blocks take (N, 1, D).
    axis = 0 if getattr(visual.transformer, "batch_first", False) else 1
    for layer in layers[:-blocks]:
        tokens = layer(tokens.unsqueeze(axis)).squeeze(axis)
    second = tokens
    for layer in layers[-blocks:]:
        added = _self_similar(layer.attn, layer.ln_1(tokens), compared)
        second = second + getattr(layer, "ls_1", nn.Identity())(added)
        tokens = layer(tokens.unsqueeze(axis)).squeeze(axis)
    joined = torch.cat([tokens[:1], second[1:]])
    return (visual.ln_post(joined) @ visual.proj).float(), grid


def _self_similar(
    attention: nn.MultiheadAttention, tokens: Tensor, compared: Sequence[Compared]
) -> Tensor:
    """An attention's values where tokens are alike. Shape: (N, D), both."""
    joined = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    heads = joined.reshape(len(tokens), 3, attention.num_heads, -1)
    query, key, value = heads.permute(1, 2, 0, 3)
    values = self_similar_values(query, key, value, compared)
    return attention.out_proj(values.transpose(0, 1).flatten(1))
