r"""Maps of texts from a CLIP vision transformer, without training.

The last blocks of CLIP's transformer mix patches of different things. A second path
beside them lets a token look at tokens that are like it, and its tokens stay where
things are:

- MaskCLIP (Zhou et al., ECCV 2022) takes the values of the last block alone.
- CLIP Surgery (Li et al., 2023) compares values with values.
- ExCEL (Yang et al., CVPR 2025) compares queries, keys and values each with themselves.

Here are their attention and CLIP Surgery's similarity, which ExCEL keeps; ExCEL's
attributes of a language model and its refinement are not.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from mmwood.utils.check import check_shapes, one_of

#: What is compared with itself.
Compared = Literal["query", "key", "value"]


def self_similar_values(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    compared: Sequence[Compared] = ("query", "key", "value"),
) -> Tensor:
    r"""Values averaged over tokens that are alike.

    .. math::
        \frac{1}{|S|} \sum_{s \in S}
        \mathrm{softmax}\Bigl(\frac{s s^\top}{\sqrt{d}}\Bigr) v

    with S the queries, keys and values (ExCEL), the values alone (CLIP Surgery), or
    nothing, which gives the values as they are (MaskCLIP).

    Args:
        query: Queries of each head.
        key: Keys.
        value: Values v.
        compared: S.

    Raises:
        ValueError: The shapes differ, or S holds something else.

    Shape:
        - query, key, value: (heads, N, d); output: (heads, N, d)
    """
    axes = "heads N d"
    check_shapes(query=(query, axes), key=(key, axes), value=(value, axes))
    for name in compared:
        one_of("compared", name, get_args(Compared))
    if not compared:
        return value
    given = dict(query=query, key=key, value=value)
    scale = query.shape[2] ** -0.5
    weights = [
        (scale * given[name] @ given[name].transpose(1, 2)).softmax(dim=2)
        for name in compared
    ]
    return torch.stack(weights).mean(dim=0) @ value


def text_maps(
    tokens: Tensor, class_token: Tensor, texts: Tensor, wanted: int
) -> Tensor:
    r"""How much each patch is like each text, from 0 to 1 (CLIP Surgery).

    With everything scaled to length 1, :math:`f_i` a patch, g the class token and
    :math:`t` the T texts:

    .. math::
        w_t = T \, \mathrm{softmax}_t(2 \, g \cdot t), \qquad
        S_{it} = w_t \, f_i \cdot t - \frac{1}{T} \sum_u w_u \, f_i \cdot u

    What a patch has in common with all texts is taken away, so background words among
    them matter. Each map is then scaled from its minimum to its maximum; one that is
    the same everywhere becomes 0.

    Args:
        tokens: Of the patches, in the space that images and texts share.
        class_token: Of the image, there.
        texts: Of all texts, there; those that maps are wanted of first.
        wanted: The number n of those.

    Raises:
        ValueError: The shapes do not fit, or there are fewer than ``wanted`` texts.

    Shape:
        - tokens: (N, D); class_token: (D,); texts: (T, D); output: (n, N)
    """
    shapes = dict(tokens=(tokens, "N D"), texts=(texts, "T D"))
    count = check_shapes(**shapes, class_token=(class_token, "D"))["T"]
    if not 0 <= wanted <= count:
        raise ValueError(f"wanted must be 0 to {count}, the texts, but is {wanted}")
    tokens, class_token, texts = (
        part / part.norm(dim=-1, keepdim=True) for part in (tokens, class_token, texts)
    )
    weights = count * (2 * texts @ class_token).softmax(dim=0)
    similarity = weights[:, None] * (texts @ tokens.T)
    maps = (similarity - similarity.mean(dim=0))[:wanted]
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    span = high - low
    # Rounding alone is no map.
    noise = 16 * torch.finfo(span.dtype).eps * similarity.abs().amax()
    return torch.where(span > noise, (maps - low) / span.clamp(min=noise), 0)


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings of a square grid for another one, bicubically.

    Args:
        positions: Of the class token, which stays as it is, and of a square grid.
        grid: (h, w) of the other.

    Raises:
        ValueError: They are not those of a square grid.

    Shape:
        - positions: (1 + s * s, D); output: (1 + h * w, D)
    """
    side = round((len(positions) - 1) ** 0.5)
    if side * side + 1 != len(positions):
        raise ValueError(
            f"{len(positions)} position embeddings are not those of a class token and "
            "a square grid"
        )
    if (side, side) == tuple(grid):
        return positions
    square = positions[1:].T.reshape(1, -1, side, side)
    resized = torch.nn.functional.interpolate(
        square, grid, mode="bicubic", align_corners=False, antialias=False
    )
    return torch.cat([positions[:1], resized[0].flatten(1).T])
