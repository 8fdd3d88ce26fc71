"""Consistency of class maps with those of a teacher, as in USAGE.

Peng et al., USAGE: A Unified Seed Area Generation Paradigm for Weakly Supervised
Semantic Segmentation, ICCV 2023. A teacher, an average of the network, looks at an
image with less of the network dropped than the student. Nothing was released: that the
maps of both are compared is the paper's; divergence and weight are ours.
"""

from torch import Tensor

from mmwood.utils.check import check_shapes


def map_divergence(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0
) -> Tensor:
    r"""How far the student's maps of an image's own classes are from the teacher's.

    .. math:: \frac{1}{n} \sum_{c} \sum_i \beta^c_i
        \log \frac{\beta^c_i}{\alpha^c_i}, \quad
        \alpha^c = \mathrm{softmax}(a^c / \tau), \quad
        \beta^c = \mathrm{softmax}(b^c / \tau)

    over the n pairs of an image and a class of it, with the class's scores in space
    :math:`a^c` of the student and :math:`b^c` of the teacher: the Kullback-Leibler
    divergence of distributions over the pixels i.

    Args:
        student: a = W f.
        teacher: b, which gets no gradient.
        labels: Image-level labels; what is not 0 is a class of the image.
        temperature: τ; the one of
            :func:`mmwood.functional.pooling.softmax_pooling`, if that pools.

    Returns:
        0 without any class.

    Shape:
        - student: (B, C, h, w); teacher: the same; labels: (B, C); output: ()
    """
    check_shapes(
        student=(student, "B C h w"),
        teacher=(teacher, "B C h w"),
        labels=(labels, "B C"),
    )
    ours, theirs = (
        (scores / temperature).flatten(2).log_softmax(dim=2)
        for scores in (student, teacher.detach())
    )
    each = (theirs.exp() * (theirs - ours)).sum(dim=2)
    own = labels != 0
    return (each * own).sum() / own.sum().clamp(min=1)
