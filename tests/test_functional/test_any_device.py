"""Every function of tensors gives on a GPU what it gives on the CPU, and there.

A new function is a new line of the table. The GPU is that of ``second_device.py``.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from second_device import second_device
from torch import Tensor

import mmwood.functional
from mmwood.functional import (
    adv_cam,
    affinity,
    attention_affinity,
    axes,
    batching,
    cam,
    class_token_contrast,
    clip_maps,
    complement,
    components,
    crf,
    ewc,
    fine_grained_background,
    instance_iou,
    instances,
    map_consistency,
    ood_distance,
    pamr,
    patch_token_contrast,
    permutohedral,
    pooling,
    relation_loss,
    resize,
    seam,
    tiles,
)

#: Documented to give tensors on the CPU.
ON_CPU = {"tiles.tile_weights": "of numbers alone; TiledMap moves them to its map"}


class Case(NamedTuple):
    """What is called, and the tensors that lie on the device."""

    call: Callable
    tensors: tuple[Tensor, ...] = ()


def reals(*shape: int) -> Tensor:
    """Numbers between 0 and 1, the same at every call."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def labels(*shape: int, classes: int = 3) -> Tensor:
    return (reals(*shape) * classes).long()


def gaussian(features: Tensor, values: Tensor) -> Tensor:
    return permutohedral.PermutohedralFilter(features)(values)


def tiled(image: Tensor, **resized: Any) -> Tensor:
    source = tiles.TiledMap((150, 120), lambda y, x: 2 * image[:, y, x], 64, 16)
    if resized:
        return tiles.resized_rows(source, begin=1, end=90, **resized)
    return source.rows(0, 99)


def gradients(function: Callable) -> Callable:
    """A function of losses and parameters, of a weight and inputs."""

    def call(weight: Tensor, inputs: Tensor) -> Any:
        weight = weight.detach().requires_grad_()
        losses = ((x * weight).square().sum() for x in inputs)
        return function(losses, dict(weight=weight))

    return call


def corners(regions: Tensor, sizes: Tensor) -> Tensor:
    generator = torch.Generator(regions.device).manual_seed(1)
    return ctc.draw_corners(regions, sizes, 4, 3, generator)


def drawn(labels: Tensor, prototypes: Tensor) -> Tensor:
    generator = torch.Generator(labels.device).manual_seed(1)
    return fine_grained_background.draw_other_classes(
        labels, prototypes, 1, 9, generator=generator
    )


MAPS, TALL = reals(2, 3, 6, 7), reals(2, 4, 6, 7)
LABEL = labels(2, 6, 7)
TAGS = torch.tensor([[1, 0, 1], [0, 1, 1]])
Z, WEIGHT = reals(5, 4), reals(3, 4)
Z_TAGS = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
EDGE = reals(2, 6, 7)
FIELD = 4 * reals(2, 6, 7) - 2
HEADS = reals(2, 2, 5, 4)
COSINES = reals(4, 5)
CORNERS = torch.tensor([[[0, 1], [3, 4]], [[2, 0], [1, 3]]])
ctc, fbr, ptc = class_token_contrast, fine_grained_background, patch_token_contrast
CASES = {
    "adv_cam.climbed_activation_maps": Case(
        lambda images, ids, kernel, weight, others: adv_cam.climbed_activation_maps(
            images,
            ids,
            lambda x: torch.conv2d(x, kernel).relu(),
            weight,
            flipped=(False, True),
            steps=3,
            other_classes=others,
        ),
        (
            *(reals(2, 2, 3, 8, 9), torch.tensor([0, 2]), reals(4, 3, 3, 3) - 0.5),
            *(WEIGHT - 0.5, reals(2, 3) > 0.5),
        ),
    ),
    "affinity.edge_to_affinity": Case(
        lambda edge: affinity.edge_to_affinity(edge, 3), (EDGE,)
    ),
    "affinity.edge_to_transition": Case(
        lambda edge: affinity.edge_to_transition(edge, 3).to_dense(), (EDGE[0],)
    ),
    "affinity.random_walk": Case(
        lambda cam, edge: affinity.random_walk(cam, edge, 3, steps=16), (MAPS, EDGE)
    ),
    "attention_affinity.mean_attention": Case(
        attention_affinity.mean_attention, (HEADS, HEADS + 1)
    ),
    "attention_affinity.row_stochastic": Case(
        attention_affinity.row_stochastic, (reals(2, 5, 5),)
    ),
    "attention_affinity.doubly_stochastic": Case(
        attention_affinity.doubly_stochastic, (reals(2, 5, 5),)
    ),
    "attention_affinity.box_mask": Case(
        lambda maps: attention_affinity.box_mask(maps, 0.8), (MAPS,)
    ),
    "attention_affinity.spread_maps": Case(
        lambda maps, attention: attention_affinity.spread_maps(
            maps, attention, "sinkhorn", box_threshold=0.8
        ),
        (MAPS, reals(2, 43, 43)),
    ),
    "axes.channels_first": Case(
        lambda features: axes.channels_first(features, (48, 56)), (MAPS,)
    ),
    "batching.group_by_shape": Case(
        lambda *maps: batching.group_by_shape(maps), (MAPS, EDGE, MAPS)
    ),
    "cam.class_activation_maps": Case(cam.class_activation_maps, (TALL, WEIGHT)),
    "cam.own_class_maps": Case(cam.own_class_maps, (TALL, WEIGHT, TAGS)),
    "cam.merge_scales": Case(
        lambda *maps: cam.merge_scales(maps, (9, 11), 16), (MAPS[0], reals(3, 4, 5))
    ),
    "cam.seed_from_cam": Case(
        lambda maps, classes: cam.seed_from_cam(maps, classes, 0.5, 0.1),
        (MAPS[0], torch.tensor([0, 4, 7])),
    ),
    "clip_maps.self_similar_values": Case(
        clip_maps.self_similar_values, (HEADS[0], HEADS[1], HEADS[0] + 1)
    ),
    "clip_maps.text_maps": Case(
        lambda *given: clip_maps.text_maps(*given, 2), (Z, WEIGHT[0], WEIGHT)
    ),
    "clip_maps.resize_positions": Case(
        lambda positions: clip_maps.resize_positions(positions, (3, 5)), (reals(5, 4),)
    ),
    "complement.complement_labels": Case(
        complement.complement_labels,
        (LABEL, EDGE > 0.5, MAPS.softmax(dim=1), EDGE.flip(1), TAGS),
    ),
    "components.connected_components": Case(
        components.connected_components, (LABEL[0],)
    ),
    "components.label_counts": Case(components.label_counts, (LABEL,)),
    "components.size_weights": Case(components.size_weights, (LABEL,)),
    "components.as_integer_array": Case(components.as_integer_array, (LABEL,)),
    "crf.dense_crf": Case(
        lambda image: crf.dense_crf(
            image.cpu().byte().numpy(),
            LABEL[0].numpy(),
            3,
            iterations=2,
            device=image.device,
        ),
        (255 * reals(6, 7, 3),),
    ),
    "crf.mean_field": Case(
        lambda features, values: crf.mean_field(
            values, [(2.0, permutohedral.PermutohedralFilter(features))], 2
        ),
        (3 * reals(20, 2), reals(20, 3).log()),
    ),
    "ewc.fisher_diagonal": Case(gradients(ewc.fisher_diagonal), (WEIGHT, reals(2, 4))),
    "ewc.squared_gradient_sums": Case(
        gradients(ewc.squared_gradient_sums), (WEIGHT, reals(2, 4))
    ),
    "ewc.normalise_fisher": Case(
        lambda fisher: ewc.normalise_fisher(dict(weight=fisher)), (WEIGHT,)
    ),
    "ewc.ewc_penalty": Case(
        lambda *given: ewc.ewc_penalty(*(dict(w=one) for one in given), weight=2),
        (WEIGHT, WEIGHT.flip(0), WEIGHT + 1),
    ),
    "class_token_contrast.certainty_regions": Case(
        lambda maps: ctc.certainty_regions(maps, (12, 14)), (MAPS,)
    ),
    "class_token_contrast.draw_corners": Case(
        corners, (labels(2, 6, 7).float(), torch.tensor([[6, 7], [5, 3]]))
    ),
    "class_token_contrast.take_crops": Case(
        lambda *given: ctc.take_crops(*given, 4), (MAPS, CORNERS)
    ),
    "class_token_contrast.may_show_objects": Case(
        lambda *given: ctc.may_show_objects(*given, 4), (EDGE, CORNERS)
    ),
    "class_token_contrast.class_token_loss": Case(
        ctc.class_token_loss, (reals(2, 2, 4), reals(2, 5, 4), reals(2, 5) > 0.3)
    ),
    "fine_grained_background.pixel_labels": Case(fbr.pixel_labels, (MAPS,)),
    "fine_grained_background.class_prototypes": Case(
        lambda *given: fbr.class_prototypes(*given, 5), (TALL, MAPS)
    ),
    "fine_grained_background.query_pixels": Case(fbr.query_pixels, (MAPS,)),
    "fine_grained_background.background_regions": Case(
        lambda *given: fbr.background_regions(*given, regions=3), (TALL, EDGE > 0.5)
    ),
    "fine_grained_background.draw_other_classes": Case(
        drawn, (labels(30, classes=4), WEIGHT)
    ),
    "fine_grained_background.query_cosines": Case(
        fbr.query_cosines, (Z, WEIGHT[0], WEIGHT)
    ),
    "fine_grained_background.contrast_loss": Case(fbr.contrast_loss, (COSINES,)),
    "instance_iou.instance_ious": Case(
        instance_iou.instance_ious, (LABEL[0], LABEL[1])
    ),
    "instance_iou.split_instances": Case(instance_iou.split_instances, (LABEL[1],)),
    "instance_iou.score_instances": Case(
        lambda pred, truth: instance_iou.score_instances(
            pred, instance_iou.split_instances(truth)
        ),
        (LABEL[0], LABEL[1]),
    ),
    "instances.find_centroids": Case(
        lambda field: instances.find_centroids(field, 9), (FIELD,)
    ),
    "instances.group_centroids": Case(instances.group_centroids, (LABEL, FIELD)),
    "instances.detect_instances": Case(
        lambda scores, classes: instances.detect_instances(scores, classes, 0.6),
        (MAPS, torch.tensor([0, 4])),
    ),
    "map_consistency.map_divergence": Case(
        map_consistency.map_divergence, (MAPS, MAPS.flip(0), TAGS)
    ),
    "ood_distance.in_distribution_centers": Case(
        ood_distance.in_distribution_centers, (Z, Z_TAGS)
    ),
    "ood_distance.mean_in_distance": Case(
        ood_distance.mean_in_distance, (Z, Z_TAGS, WEIGHT)
    ),
    "ood_distance.ood_centers": Case(
        lambda z: ood_distance.ood_centers(z, 3, seed=0), (Z,)
    ),
    "ood_distance.ood_distance_loss": Case(
        ood_distance.ood_distance_loss, (Z, Z_TAGS, WEIGHT, WEIGHT + 1)
    ),
    "pamr.pamr": Case(
        lambda *given: pamr.pamr(*given, iterations=2, dilations=[1, 2]), (TALL, MAPS)
    ),
    "patch_token_contrast.auxiliary_maps": Case(ptc.auxiliary_maps, (MAPS, TAGS)),
    "patch_token_contrast.token_labels": Case(ptc.token_labels, (MAPS,)),
    "patch_token_contrast.inside_image": Case(
        lambda sizes: ptc.inside_image(sizes, (4, 5), 16),
        (torch.tensor([[64, 80], [33, 49]]),),
    ),
    "patch_token_contrast.pair_cosines": Case(ptc.pair_cosines, (TALL, LABEL)),
    "patch_token_contrast.contrast_loss": Case(ptc.contrast_loss, (Z[0, 0], Z[0, 1])),
    "permutohedral.PermutohedralFilter": Case(
        gaussian, (3 * reals(20, 2), reals(20, 3))
    ),
    **{
        f"pooling.{name}_pooling": Case(function, (MAPS,))
        for name, function in pooling.POOLINGS.items()
    },
    "relation_loss.pair_labels": Case(
        lambda label: relation_loss.pair_labels(label, 3), (LABEL,)
    ),
    "relation_loss.relation_terms": Case(
        lambda *given: relation_loss.relation_terms(*given, 3),
        (EDGE, FIELD.expand(2, 2, 6, 7), LABEL),
    ),
    "relation_loss.total_loss": Case(
        lambda *given: relation_loss.total_loss(relation_loss.RelationTerms(*given)),
        (Z[:, 0], 9 * Z[:, 1]),
    ),
    "resize.resize_linear": Case(
        resize.resize_linear, (labels(3, 6, 7, classes=256), torch.tensor([9, 5]))
    ),
    "seam.normalized_maps": Case(seam.normalized_maps, (MAPS,)),
    "seam.with_background": Case(seam.with_background, (MAPS,)),
    "seam.strongest_only": Case(seam.strongest_only, (TALL,)),
    "seam.pixel_correlation": Case(seam.pixel_correlation, (MAPS, TALL)),
    "seam.cross_regularization_loss": Case(
        seam.cross_regularization_loss, (TALL, TALL.flip(2))
    ),
    "seam.min_pooling_loss": Case(seam.min_pooling_loss, (MAPS,)),
    "tiles.tile_weights": Case(lambda: tiles.tile_weights([(0, 64), (32, 96)], 32)),
    "tiles.TiledMap": Case(tiled, (reals(3, 150, 120),)),
    "tiles.resized_rows": Case(
        lambda image: tiled(image, size=(220, 130), align_corners=False),
        (reals(3, 150, 120),),
    ),
}


def functions_of_tensors() -> Iterator[str]:
    """Public functions and classes of mmwood.functional that take or give tensors."""
    for module in pkgutil.iter_modules(mmwood.functional.__path__):
        found = importlib.import_module(f"mmwood.functional.{module.name}")
        for name, value in vars(found).items():
            own = getattr(value, "__module__", None) == found.__name__
            if name.startswith("_") or not own:
                continue
            # What holds results only is no function.
            methods = (
                [m for m in vars(value).values() if inspect.isfunction(m)]
                if inspect.isclass(value) and not hasattr(value, "_fields")
                else [value]
            )
            if any("Tensor" in _signature(method) for method in methods):
                yield f"{module.name}.{name}"


def _signature(function: object) -> str:
    function = inspect.unwrap(function)
    if not inspect.isfunction(function):
        return ""
    return str([*getattr(function, "__annotations__", {}).values()])


def moved(value: Any) -> Iterator[Any]:
    """The parts of a result in order, tensors as arrays."""
    if isinstance(value, dict):
        yield [*value]
        value = [*value.values()]
    if isinstance(value, Tensor):
        yield value.detach().cpu().numpy()
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from moved(part)
    else:
        yield value


def devices(value: Any) -> set[str]:
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, (tuple, list)):
        return set().union(*map(devices, value))
    return {value.device.type} if isinstance(value, Tensor) else set()


def run(case: Case, device: str) -> tuple[list, set[str]]:
    """The result and its gradients, and the devices they are on."""
    given = [tensor.clone().to(device) for tensor in case.tensors]
    for tensor in given:
        tensor.requires_grad_(tensor.is_floating_point())
    result = case.call(*given)
    outputs = [*result.values()] if isinstance(result, dict) else result
    outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    losses = [t.sum() for t in outputs if isinstance(t, Tensor) and t.requires_grad]
    if losses:
        sum(losses).backward()
    gradients = [tensor.grad for tensor in given]
    both = [result, gradients]
    return [*moved(both)], devices(both)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_the_same_on_a_gpu(name):
    expected, _ = run(CASES[name], "cpu")
    with second_device():
        found, where = run(CASES[name], "cuda")
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        np.testing.assert_equal(one, other)
    assert where <= {"cpu" if name in ON_CPU else "cuda"}


@pytest.mark.cuda
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_about_the_same_on_a_real_gpu(name):
    if name == "fine_grained_background.draw_other_classes":
        pytest.skip("a GPU draws other random numbers")
    expected, _ = run(CASES[name], "cpu")
    found, where = run(CASES[name], "cuda")
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, np.ndarray) and one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
        else:
            np.testing.assert_equal(one, other)
    assert where <= {"cpu" if name in ON_CPU else "cuda"}


def test_every_function_has_a_case():
    # crf.dense_crf takes arrays, and a device.
    assert {*functions_of_tensors()} == CASES.keys() - {"crf.dense_crf"}


def test_the_second_device_leaves_nothing_behind():
    generator = torch.Generator
    with second_device():
        there = torch.zeros(2, device="cuda")
        assert there.is_cuda
    assert there.is_cpu
    assert torch.Generator is generator
