"""Labels of biased pixels from a teacher: the complement of MARS.

Jo, Yu and Kim, MARS: Model-agnostic Biased Object Removal without Additional
Supervision for Weakly-Supervised Semantic Segmentation, ICCV 2023.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from mmwood.utils.check import check_shapes, one_of

#: What the certainty of a teacher's label is.
Certainty = Literal["foreground", "argmax", "none"]


def complement_labels(
    labels: Tensor,
    biased: Tensor,
    probabilities: Tensor,
    draws: Tensor,
    tags: Tensor | None = None,
    certainty: Certainty = "foreground",
    void: int = 255,
) -> Tensor:
    r"""Give biased pixels the teacher's label, with the probability of its certainty.

    .. math::
        y_i \leftarrow \begin{cases}
            \arg\max_c P_{ci} & u_i < w_i \\ void & \text{else}
        \end{cases}

    at biased pixels i, with P the teacher's probabilities, u uniform in [0, 1), and w

    - 'foreground': the largest P of the image's tags. Where the teacher is sure of
      background it is near 0, so that a pixel is either given back to an object or
      left out;
    - 'argmax': P of the label, the largest of all classes;
    - 'none': 1.

    MARS multiplies the cross-entropy of a pixel by w. The expected sum over pixels of
    any loss that leaves out void pixels is the same here.

    Args:
        labels: Label maps.
        biased: Which pixels the teacher labels; all others stay as they are.
        probabilities: P, class 0 being the background.
        draws: u.
        tags: Which classes an image shows, for 'foreground'. None, and an image
            without any, is all classes. Background is no tag, whatever its value.
        certainty: w.
        void: The label of pixels that are left out.

    Returns:
        New label maps of the same dtype.

    Shape:
        - labels, biased, draws: (B, H, W); probabilities: (B, C, H, W); tags: (B, C)
        - output: (B, H, W)

    Raises:
        ValueError: The shapes are not those, there are fewer than two classes, or
            there is no such ``certainty``.

    Example:
        >>> labels = torch.tensor([[[0, 254, 254]]])
        >>> probabilities = torch.tensor([[[[1, 0.1, 0.9]], [[0, 0.9, 0.1]]]])
        >>> draws = torch.full((1, 1, 3), 0.5)
        >>> complement_labels(labels, labels == 254, probabilities, draws).tolist()
        [[[0, 1, 255]]]
    """
    one_of("certainty", certainty, get_args(Certainty))
    given = dict(
        labels=(labels, "B H W"),
        biased=(biased, "B H W"),
        probabilities=(probabilities, "B C H W"),
        draws=(draws, "B H W"),
    )
    if tags is not None:
        given["tags"] = (tags, "B C")
    classes = check_shapes(**given)["C"]
    if classes < 2:
        raise ValueError("probabilities must be of background and at least one class")
    largest, found = probabilities.max(dim=1)
    if certainty == "foreground":
        objects = probabilities[:, 1:]
        if tags is not None:
            shown = tags[:, 1:].bool()
            shown = shown | ~shown.any(dim=1, keepdim=True)
            objects = objects * shown[:, :, None, None]
        largest = objects.amax(dim=1)
    kept = torch.ones_like(biased) if certainty == "none" else draws < largest
    void_labels = torch.full_like(labels, void)
    filled = torch.where(kept, found.to(labels.dtype), void_labels)
    return torch.where(biased, filled, labels)
