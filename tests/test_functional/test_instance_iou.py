from collections import Counter, defaultdict
from fractions import Fraction
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage

from mmwood.functional.components import connected_components
from mmwood.functional.instance_iou import (
    instance_ious,
    score_instances,
    split_instances,
)


def slow_components(label, allowed, connectivity):
    """(class, pixels) of every region of one value among the allowed pixels."""
    structure = ndimage.generate_binary_structure(2, connectivity // 4)
    inside = np.zeros(label.shape, dtype=bool)
    for pixel in allowed:
        inside[pixel] = True
    found = []
    for value in sorted({int(label[pixel]) for pixel in allowed}):
        parts, number = ndimage.label(inside & (label == value), structure)
        for part in range(1, number + 1):
            found.append((value, frozenset(zip(*np.where(parts == part)))))
    return found


def slow_instances(gt, instances, ignore_index, background, connectivity):
    """(class, pixels) of every instance, and the pixels that are left to score."""
    pixels = {pixel for pixel in np.ndindex(*gt.shape) if gt[pixel] != ignore_index}
    split_up = {p for p in pixels if background is None or gt[p] != 0}
    found = []
    if instances is not None:
        pixels = {pixel for pixel in pixels if instances[pixel] != ignore_index}
        members = defaultdict(list)
        for pixel in pixels:
            if instances[pixel] != 0:
                members[int(instances[pixel])].append(pixel)
        class_of = {}
        for number, own in members.items():
            votes = Counter(int(gt[pixel]) for pixel in own)
            winner = min(votes, key=lambda label: (-votes[label], label))
            if background is None or winner != 0:
                class_of[number] = winner
        covered = set(class_of.values())
        drawn = defaultdict(set)
        split_up = set()
        for pixel in sorted(pixels):
            label, number = int(gt[pixel]), int(instances[pixel])
            if number in class_of:
                if label == class_of[number]:
                    drawn[number].add(pixel)
                else:
                    pixels.discard(pixel)
            elif background is None or label != 0:
                if label in covered:
                    pixels.discard(pixel)
                else:
                    split_up.add(pixel)
        found = [(class_of[number], own) for number, own in drawn.items()]
    found += slow_components(gt, split_up, connectivity)
    return found, pixels


def slow_ious(
    pred,
    gt,
    instances=None,
    ignore_index=255,
    background="image",
    connectivity=8,
    void="connects",
    whole_pixels=False,
):
    """(class, area, IoU as a fraction) of every instance, sorted."""
    truth, pixels = slow_instances(
        gt, instances, ignore_index, background, connectivity
    )
    shown = {pixel for pixel in np.ndindex(*gt.shape) if pred[pixel] != ignore_index}
    if void == "separates":
        parts = slow_components(pred, shown & pixels, connectivity)
    else:
        parts = slow_components(pred, shown, connectivity)
        parts = [(label, part & pixels) for label, part in parts]
    hits, received = [0] * len(truth), [Fraction(0)] * len(truth)
    for label, part in parts:
        overlaps = {}
        for number, (class_id, own) in enumerate(truth):
            if class_id == label and own & part:
                overlaps[number] = len(own & part)
        remaining = len(part) - sum(overlaps.values())
        for number, overlap in overlaps.items():
            hits[number] += overlap
            share = remaining * Fraction(overlap, sum(overlaps.values()))
            received[number] += overlap + (int(share) if whole_pixels else share)
    scores = [
        (class_id, len(own), Fraction(hit) / (len(own) + got - hit))
        for (class_id, own), hit, got in zip(truth, hits, received)
    ]
    # The background of the image: plain IoU, no components.
    ground = {pixel for pixel in pixels if gt[pixel] == 0}
    if background == "image" and ground:
        found = {pixel for pixel in pixels if pred[pixel] == 0}
        iou = Fraction(len(found & ground), len(found | ground))
        scores.append((0, len(ground), iou))
    return sorted(scores)


@st.composite
def cases(draw):
    """pred, gt and instance map of one size."""
    shape = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    labels = st.sampled_from([0, 1, 2, 255])
    pred = draw(arrays(np.uint8, shape, elements=labels))
    gt = draw(arrays(np.uint8, shape, elements=labels))
    # Half of the pixels are right, or components would hardly ever meet instances.
    pred = np.where(draw(arrays(bool, shape)), gt, pred)
    ids = st.sampled_from([0, 1, 2, 3, 255, 70000])
    instances = draw(st.none() | arrays(np.int32, shape, elements=ids))
    return pred, gt, instances


def as_rows(result):
    return sorted((i.class_id, i.area, i.iou) for i in result)


def assert_rows_equal(result, expected):
    assert len(result) == len(expected)
    for row, other in zip(result, expected):
        assert row == pytest.approx(tuple(map(float, other)), abs=1e-12)


@pytest.mark.slow
@settings(deadline=None)
@given(
    cases(),
    st.sampled_from(["image", "ignore", None]),
    st.sampled_from([4, 8]),
    st.sampled_from([255, 2]),
    st.sampled_from(["separates", "connects"]),
    st.booleans(),
)
def test_equals_the_definition(
    case, background, connectivity, ignore_index, void, whole_pixels
):
    pred, gt, instances = case
    if ignore_index == 2:
        # Then 255 is a class.
        pred, gt = (np.where(x == 255, 3, x).astype(np.int64) for x in (pred, gt))
    fields = dict(
        ignore_index=ignore_index,
        background=background,
        connectivity=connectivity,
        void=void,
        whole_pixels=whole_pixels,
    )
    result = instance_ious(pred, gt, instances, 4, **fields)
    assert_rows_equal(as_rows(result), slow_ious(pred, gt, instances, **fields))
    assert [i.class_id for i in result] == sorted(i.class_id for i in result)
    tensors = [None if x is None else torch.from_numpy(x) for x in case]
    if ignore_index == 255:
        assert instance_ious(*tensors, 4, **fields) == result


@pytest.mark.slow
@settings(deadline=None)
@given(cases(), st.data(), st.sampled_from([4, 8]))
def test_instances_that_a_prediction_lacks_take_nothing_from_the_others(
    case, data, connectivity
):
    """Also where they touch: each that is lost costs its own share, no more."""
    _, gt, instances = case
    truth = split_instances(gt, instances, connectivity=connectivity)
    lost = data.draw(arrays(bool, len(truth.areas)))
    # 255 and not 0: background that is added would be background's.
    pred = np.where(np.append(False, lost)[truth.index], 255, gt)
    scores = score_instances(pred, truth, connectivity=connectivity)
    assert scores.tolist() == (~lost).astype(float).tolist()


def ious(pred, gt, instances=None, **fields):
    """IoUs of the instances of class 1, in the order of their areas."""
    pred, gt = np.array(pred), np.array(gt)
    instances = None if instances is None else np.array(instances)
    result = instance_ious(pred, gt, instances, **fields)
    return [i.iou for i in sorted(result, key=lambda i: i.area) if i.class_id == 1]


@pytest.mark.parametrize(
    ("pred", "gt", "expected"),
    [
        pytest.param([[1, 1, 1, 1]], [[1, 0, 0, 0]], [1 / 4], id="whole component"),
        # Overlaps 1 and 3, 2 pixels besides: 0.5 and 1.5 of them.
        pytest.param(
            [[1] * 6 + [0]], [[1, 0, 0, 1, 1, 1, 1]], [1 / 1.5, 3 / 5.5], id="shared"
        ),
        pytest.param([[1, 0, 0, 2]], [[1, 0, 1, 1]], [1, 0], id="nothing touches it"),
        pytest.param([[1, 0, 1]], [[1, 1, 1]], [2 / 3], id="several components"),
        # The 2 is no part of the instance's share although it touches the 1.
        pytest.param([[1, 2, 0]], [[1, 0, 0]], [1], id="of one class"),
        pytest.param([[1, 1, 1, 0]], [[1, 255, 255, 0]], [1], id="void"),
        pytest.param([[1, 1, 1, 0]], [[1, 255, 0, 0]], [1 / 2], id="behind void"),
        pytest.param([[1, 255]], [[1, 1]], [1 / 2], id="void in the prediction"),
    ],
)
def test_known_answers(pred, gt, expected):
    assert ious(pred, gt) == pytest.approx(expected)


class TestRules:
    def test_a_component_on_none_is_paid_for_by_the_background_only(self):
        pred, gt = [[1, 0, 1, 1]], [[1, 0, 0, 0]]
        assert ious(pred, gt) == [1]
        scores = instance_ious(np.array(pred), np.array(gt))
        assert [(i.class_id, i.area, i.iou) for i in scores] == [
            (0, 3, 1 / 3),
            (1, 1, 1.0),
        ]
        scores = instance_ious(np.array(pred), np.array(gt), background="ignore")
        assert [i.class_id for i in scores] == [1]

    def test_what_grows_over_a_rim_of_void(self):
        maps = [[1, 1, 1, 1, 0]], [[1, 255, 0, 0, 0]]
        assert ious(*maps) == [1 / 3]
        # Removed first, it leaves another component behind it, which touches nothing.
        assert ious(*maps, void="separates") == [1]
        # Two objects share what grows over both.
        maps = [[1, 1, 1, 1, 1]], [[1, 255, 0, 255, 1]]
        assert ious(*maps) == [1 / 1.5, 1 / 1.5]

    def test_shares_in_whole_pixels(self):
        # Overlaps 1 and 3, 3 pixels besides: 0.75 and 2.25 of them.
        maps = [[1] * 7], [[1, 0, 0, 0, 1, 1, 1]]
        assert ious(*maps) == [1 / 1.75, 3 / 5.25]
        assert ious(*maps, whole_pixels=True) == [1 / 1, 3 / 5]

    def test_background_is_that_of_the_whole_image(self):
        # What is predicted in the object touches no background, and counts.
        pred, gt = [[0, 0, 1, 0, 1]], [[0, 0, 1, 1, 1]]
        scores = instance_ious(np.array(pred), np.array(gt))
        assert [(i.class_id, i.iou) for i in scores] == [(0, 2 / 3), (1, 2 / 3)]
        truth = split_instances(np.array(gt))
        assert truth.class_ids[truth.background - 1] == 0
        assert split_instances(np.array(gt), background="ignore").background is None

    def test_connectivity(self):
        pred, gt = [[1, 0], [0, 1]], [[1, 0], [0, 0]]
        assert ious(pred, gt) == [1 / 2]
        assert ious(pred, gt, connectivity=4) == [1]

    def test_without_a_background_class(self):
        gt = np.array([[0, 0, 1, 0]])
        scores = instance_ious(gt, gt, background=None)
        assert [(i.class_id, i.area) for i in scores] == [(0, 2), (0, 1), (1, 1)]

    def test_nothing_to_score(self):
        void = np.full((2, 3), 255)
        assert instance_ious(void, void) == []
        assert instance_ious(np.zeros((0, 3), int), np.zeros((0, 3), int)) == []


class TestInstanceMap:
    def test_touching_instances_share_one_component(self):
        pred, gt = [[1, 1, 1, 1, 0]], [[1, 1, 1, 0, 0]]
        # Overlaps 1 and 2, 1 pixel besides.
        result = ious(pred, gt, [[7, 4, 4, 0, 0]])
        assert result == pytest.approx([1 / (4 / 3), 2 / (8 / 3)])
        assert ious(pred, gt) == [3 / 4]

    def test_an_instance_of_separate_pieces_is_one(self):
        assert ious([[1, 0, 0]], [[1, 0, 1]], [[3, 0, 3]]) == [1 / 2]

    def test_void_of_the_instance_map(self):
        assert ious([[1, 1, 1]], [[1, 1, 0]], [[5, 255, 0]]) == [1 / 2]

    def test_conflicting_pixels_are_void(self):
        gt = np.array([[1, 1, 1, 2, 0, 1, 0, 2]])
        ids = np.array([[6, 6, 6, 6, 6, 0, 0, 0]])
        truth = split_instances(gt, ids)
        # Of instance 6 the 2 and the 0 go; of class 1 the pixel without an instance.
        assert truth.void.tolist() == [[False] * 3 + [True] * 3 + [False] * 2]
        assert truth.conflicting == 3
        # Class 2 has no instance here: its pixel is a component.
        assert sorted(zip(truth.class_ids, truth.areas)) == [(0, 1), (1, 3), (2, 1)]

    def test_instances_that_are_background(self):
        # Objects of a class that the label map does not have.
        truth = split_instances(np.array([[0, 0, 1]]), np.array([[9, 9, 9]]))
        assert truth.conflicting == 0
        assert sorted(zip(truth.class_ids, truth.areas)) == [(0, 2), (1, 1)]

    def test_a_class_that_is_as_frequent_as_another(self):
        truth = split_instances(np.array([[2, 1]]), np.array([[9, 9]]))
        assert truth.class_ids.tolist() == [1]
        assert truth.conflicting == 1


def test_refuses():
    good = np.zeros((2, 3), np.uint8)
    negative = np.full((2, 3), -1)
    with pytest.raises(ValueError, match=r"pred has \(H, W\) = \(3, 2\), gt has"):
        instance_ious(good.T, good)
    with pytest.raises(ValueError, match=r"instances has .* \(3, 2\), gt has \(2, 3\)"):
        instance_ious(good, good, good.T)
    for maps, name in (((good + 21, good), "pred"), ((good, good + 21), "gt")):
        expected = rf"{name} holds \[21\]: expected 0\.\.20, and 255 for void"
        with pytest.raises(ValueError, match=expected):
            instance_ious(*maps, num_classes=21)
    with pytest.raises(ValueError, match=r"gt holds \[-1\]: expected 0 and above"):
        instance_ious(good, negative)
    with pytest.raises(ValueError, match="instances holds -1"):
        instance_ious(good, good, negative)
    with pytest.raises(ValueError, match=r"gt must be of an integer dtype.*float32"):
        instance_ious(good, torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"pred must be of an integer.*float64"):
        instance_ious(good.astype(float), good)
    with pytest.raises(ValueError, match=r"pred must have shape \(H, W\)"):
        instance_ious(good[None], good)
    with pytest.raises(ValueError, match="background must be 'image', 'ignore' or"):
        instance_ious(good, good, background="components")
    with pytest.raises(ValueError, match="connectivity must be 4 or 8"):
        instance_ious(good, good, connectivity=6)
    with pytest.raises(ValueError, match="void must be 'separates' or 'connects'"):
        instance_ious(good, good, void="ignored")


def test_many_components_take_the_other_way_to_count():
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 3, (300, 400))
    pred = np.where(rng.random(gt.shape) < 0.7, gt, rng.integers(0, 3, gt.shape))
    truth = split_instances(gt, background=None, connectivity=4)
    scores = score_instances(pred, truth, connectivity=4)
    assert len(scores) > 3000
    # Of each component, what its instances receive adds up to its pixels.
    parts = connected_components(pred, 4)
    hits = np.bincount(truth.index[pred == gt], minlength=len(scores) + 1)[1:]
    received = hits / np.where(scores > 0, scores, 1) - truth.areas + hits
    touching = np.unique(parts.index[(pred == gt) & (truth.index > 0)]) - 1
    assert received[hits > 0].sum() == pytest.approx(parts.areas[touching].sum())


class TestPublishedBehaviour:
    """Figure 2 and the corner cases of Mun et al."""

    @staticmethod
    def scores(pred, gt):
        own = [i.iou for i in instance_ious(pred, gt) if i.class_id == 1]
        hit = ((pred == 1) & (gt == 1)).sum()
        return fmean(own), hit / ((pred == 1) | (gt == 1)).sum()

    def test_growing_over_either_of_a_small_and_a_large_instance(self):
        gt = np.zeros((60, 100), np.uint8)
        gt[10:50, 5:65] = gt[26:34, 80:88] = 1
        small, large = slice(80, 88), slice(5, 65)
        for own, step in ((small, 1), (large, 6)):
            pred = np.where(gt, 0, 0).astype(np.uint8)
            steps = []
            for end in range(own.start + step, own.stop + 1, step):
                pred[:, own.start : end] = gt[:, own.start : end]
                steps.append(self.scores(pred, gt))
            instance_aware, pixelwise = map(np.array, zip(*steps))
            assert (np.diff(instance_aware) > 0).all()
            assert instance_aware[-1] == pytest.approx(1 / 2)
            # To mIoU the small instance is next to nothing, the large one all.
            assert (pixelwise[-1] > 0.95) == (own is large)
            assert (pixelwise[-1] < 0.05) == (own is small)

    def test_losing_instances_from_the_smallest_on(self, mini_voc):
        folder = mini_voc / "SegmentationClass"
        best = None
        for path in sorted(folder.glob("2008_00*.png"))[:150]:
            with Image.open(path) as image:
                gt = np.array(image)
            parts = connected_components(gt, leave_out=[0, 255])
            for label, count in Counter(parts.class_ids.tolist()).items():
                if best is None or count > best[0]:
                    best = count, label, gt, parts
        count, label, gt, parts = best
        assert count >= 5
        own = np.flatnonzero(parts.class_ids == label)
        pred = gt.copy()
        steps = []
        for number in own[np.argsort(parts.areas[own], kind="stable")]:
            pred[parts.index == number + 1] = 0
            steps.append(
                fmean(i.iou for i in instance_ious(pred, gt) if i.class_id == label)
            )
        expected = [1 - lost / count for lost in range(1, count + 1)]
        assert steps == pytest.approx(expected)

    def test_what_grows_by_three_pixels_is_not_perfect(self, mini_voc):
        """VOC's rim of void is wider: removed first, it would hide the fault."""
        names = (mini_voc / "ImageSets/Segmentation/train.txt").read_text().split()
        means = defaultdict(list)
        for name in names[:300]:
            with Image.open(mini_voc / f"SegmentationClass/{name}.png") as image:
                gt = np.array(image)
            truth = split_instances(gt)
            pred = np.where(gt == 255, 0, gt)
            for label in set(truth.class_ids.tolist()) - {0}:
                grown = ndimage.binary_dilation(gt == label, np.ones((3, 3)), 3)
                pred[grown & (pred == 0)] = label
            for void in ("connects", "separates"):
                ious = score_instances(pred, truth, void=void)
                for class_id, iou in zip(truth.class_ids.tolist(), ious):
                    means[void, class_id].append(iou)
        score = {
            void: 100 * fmean(fmean(means[void, label]) for label in range(21))
            for void in ("connects", "separates")
        }
        assert score == pytest.approx(dict(connects=87.5, separates=99.9), abs=0.1)
