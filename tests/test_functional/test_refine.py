import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmwood.functional.refine import (
    affinity_label,
    dense_crf,
    pamr,
    power_affinity_label,
    refine_label,
    refine_scores,
    refine_settings,
)

DEEPLAB = dict(gaussian_sxy=1, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4)
#: A CRF whose pixels depend weakly on each other, so that it is well conditioned.
MILD = dict(iterations=2, gaussian_compat=1, bilateral_srgb=20, bilateral_compat=1)
COLOURS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])


def coloured_image(seed=0):
    """Image of three regions, its true label map, and one with a sixth wrong."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((21, 26), dtype=np.int64)
    truth[4:15, 3:14] = 1
    truth[10:, 18:] = 2
    noise = rng.normal(0, 6, (*truth.shape, 3))
    image = (COLOURS[truth] + noise).clip(0, 255).astype(np.uint8)
    wrong = rng.integers(0, 3, truth.shape)
    return image, truth, np.where(rng.random(truth.shape) < 0.25, wrong, truth)


def slow_softmax(scores):
    exponential = np.exp(scores - scores.max(axis=0))
    return exponential / exponential.sum(axis=0)


def slow_crf(
    image,
    probs,
    iterations=10,
    gaussian_sxy=3,
    gaussian_compat=3,
    bilateral_sxy=50,
    bilateral_srgb=5,
    bilateral_compat=10,
):
    """Mean field with every pair of pixels, kernels normalised symmetrically."""
    n, height, width = probs.shape
    places = np.stack(np.mgrid[:height, :width], axis=-1).reshape(-1, 2)
    colours = image.reshape(-1, 3).astype(float) / bilateral_srgb
    both = np.concatenate([places / bilateral_sxy, colours], axis=1)
    kernel = 0
    for features, compat in (
        (places / gaussian_sxy, gaussian_compat),
        (both, bilateral_compat),
    ):
        distance = ((features[:, None] - features[None]) ** 2).sum(axis=-1)
        near = np.exp(-distance / 2)
        root = np.sqrt(near.sum(axis=1))
        kernel = kernel + compat * near / root[:, None] / root[None]
    unary = np.log(probs.reshape(n, -1))
    marginals = slow_softmax(unary)
    for _ in range(iterations):
        marginals = slow_softmax(unary + marginals @ kernel)
    return marginals.reshape(n, height, width)


def label_probs(label, n, gt_prob):
    return np.where(
        label == np.arange(n)[:, None, None], gt_prob, (1 - gt_prob) / (n - 1)
    )


# The filter is on a lattice: its result is an approximation.
@pytest.mark.parametrize("gt_prob", [0.7, 0.5])
def test_dense_crf_equals_all_pairs(gt_prob):
    image, _, label = coloured_image()
    probs = label_probs(label, 3, gt_prob)
    expected = slow_crf(image, probs, **MILD)
    for given_ in (label, label.astype(np.uint8)):
        found = dense_crf(image, given_, n_labels=3, gt_prob=gt_prob, **MILD)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=0.03)
    found = dense_crf(image, probs, **MILD)
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert np.abs(found - expected).mean() < 2e-3
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    # The pairs matter: without them the result is another.
    assert np.abs(slow_crf(image, probs, iterations=0) - expected).max() > 0.1


def test_dense_crf_of_certain_probabilities_is_finite():
    image, truth, _ = coloured_image()
    certain = (truth == np.arange(4)[:, None, None]).astype(np.float64)
    found = dense_crf(image, certain, **MILD)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found.argmax(axis=0), truth)
    assert found[3].max() < 1e-3


def test_dense_crf_of_one_label_and_of_views():
    image, _, label = coloured_image()
    np.testing.assert_array_equal(
        dense_crf(image, np.zeros_like(label), n_labels=1), np.ones((1, 21, 26))
    )
    np.testing.assert_array_equal(
        dense_crf(image[:, ::-1], label[:, ::-1], n_labels=3),
        dense_crf(image[:, ::-1].copy(), label[:, ::-1].copy(), n_labels=3),
    )
    expected = dense_crf(image, label, n_labels=3)
    image.flags.writeable = False
    np.testing.assert_array_equal(dense_crf(image, label, n_labels=3), expected)


def drawn_image(height, width):
    """Three regions with a pattern in them, and a label map with errors."""
    y, x = np.mgrid[:height, :width]
    disc = (x - width // 2) ** 2 + (y - height // 2) ** 2 < (height // 3) ** 2
    truth = (x > width // 3).astype(int) + disc
    pattern = (7 * x + 13 * y + x * y) % 17
    channels = (
        60 * truth + pattern,
        200 - 70 * truth + 2 * pattern,
        90 + pattern * (1 + truth),
    )
    wrong = (5 * x + 11 * y + x * x) % 7 < 2
    label = np.where(wrong, (x + y) % 3, truth)
    return np.stack(channels, axis=-1).astype(np.uint8), label


WEAK = dict(iterations=3, gaussian_compat=0.5, bilateral_compat=1, gt_prob=0.5)
PSA = dict(bilateral_sxy=80, bilateral_srgb=13)


# Marginals that pydensecrf2 1.1 gives at four pixels.
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            dict(),
            [
                (0.60445, 0.19813, 0.19742),
                (0.21052, 0.57262, 0.21685),
                (0.21406, 0.4487, 0.33725),
                (0.19304, 0.61442, 0.19254),
            ],
        ),
        (
            dict(gaussian_sxy=1, bilateral_sxy=67, bilateral_srgb=3),
            [
                (0.63565, 0.18135, 0.183),
                (0.18982, 0.60717, 0.20301),
                (0.2177, 0.44031, 0.34199),
                (0.1919, 0.61919, 0.1889),
            ],
        ),
        (
            PSA,
            [
                (0.60321, 0.19906, 0.19773),
                (0.21438, 0.56425, 0.22137),
                (0.21654, 0.45083, 0.33263),
                (0.19066, 0.61845, 0.19089),
            ],
        ),
    ],
)
def test_dense_crf_has_the_programs_marginals(options, expected):
    image, label = drawn_image(33, 45)
    found = dense_crf(image, label, n_labels=3, **{**WEAK, **options})
    pixels = found[:, [0, 12, 16, 23], [0, 15, 30, 39]].T
    np.testing.assert_allclose(pixels, expected, atol=5e-5)


@pytest.mark.parametrize("options", [dict(), DEEPLAB, PSA, WEAK])
@pytest.mark.parametrize("size", [(64, 80), (51, 67), (1, 1), (1, 37)])
def test_dense_crf_equals_pydensecrf(options, size):
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    image, label = drawn_image(*size)
    settings = {**refine_settings(dict(method="crf")), **options}
    rng = np.random.default_rng(0)
    scores = rng.random((4, *size)) + 2 * (label == np.arange(4)[:, None, None])
    probs = (scores / scores.sum(axis=0)).astype(np.float32)
    program = densecrf.DenseCRF2D(*size[::-1], len(probs))
    program.setUnaryEnergy(np.ascontiguousarray(-np.log(probs).reshape(4, -1)))
    program.addPairwiseGaussian(settings["gaussian_sxy"], settings["gaussian_compat"])
    program.addPairwiseBilateral(
        settings["bilateral_sxy"],
        settings["bilateral_srgb"],
        image,
        settings["bilateral_compat"],
    )
    expected = np.array(program.inference(settings["iterations"]))
    found = dense_crf(image, probs, **options)
    np.testing.assert_allclose(found.reshape(4, -1), expected, atol=2e-4)


def test_dense_crf_permutes_with_its_labels():
    image, label = drawn_image(24, 31)
    order = np.array([2, 0, 1])
    found = dense_crf(image, order[label], n_labels=3, **WEAK)
    expected = dense_crf(image, label, n_labels=3, **WEAK)
    np.testing.assert_allclose(found[order], expected, atol=1e-5)


def test_dense_crf_of_a_uniform_label_map_and_many_labels():
    image, label = drawn_image(20, 23)
    found = dense_crf(np.full_like(image, 255), np.full_like(label, 253), n_labels=254)
    assert (found.argmax(axis=0) == 253).all()
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-4)
    # Black and white pixels in turn: the colours are as far apart as can be.
    image = np.where((np.mgrid[:20, :23].sum(axis=0) % 2)[..., None], 255, 0)
    image = image.repeat(3, axis=2).astype(np.uint8)
    found = dense_crf(image, image[..., 0] // 255, n_labels=2, bilateral_srgb=1)
    np.testing.assert_array_equal(found.argmax(axis=0), image[..., 0] // 255)


def test_dense_crf_of_no_pixels():
    empty = np.zeros((0, 5, 3), np.uint8)
    assert dense_crf(empty, np.zeros((0, 5), int), n_labels=3).shape == (3, 0, 5)


def test_device_is_no_setting_of_the_result():
    assert "device" not in refine_settings(dict(method="crf"))
    with pytest.raises(ValueError, match="no option 'device'"):
        refine_settings(dict(method="crf", device="cuda"))


@pytest.mark.cuda
@pytest.mark.parametrize("options", [dict(), DEEPLAB, PSA])
def test_dense_crf_on_a_gpu(options):
    image, label = drawn_image(51, 67)
    expected = dense_crf(image, label, n_labels=3, **options)
    found = dense_crf(image, label, n_labels=3, device="cuda", **options)
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize(
    ("given_", "options", "message"),
    [
        (np.zeros((4, 5), int), dict(), "a label map needs n_labels"),
        (np.zeros((4, 5), int), dict(n_labels=0), "n_labels must be an integer"),
        (np.full((4, 5), 3), dict(n_labels=3), r"labels must be in 0\.\.2"),
        (np.full((4, 5), 0.5), dict(n_labels=3), "integers"),
        (np.zeros((5, 4), int), dict(n_labels=2), r"got \(4, 5, 3\) and \(5, 4\)"),
        (np.zeros((2, 5, 4)), dict(), r"got \(4, 5, 3\) and \(2, 5, 4\)"),
        (np.full((2, 4, 5), -2.0), dict(), r"must be in \[0, 1\]"),
        (np.full((2, 4, 5), np.nan), dict(), r"must be in \[0, 1\]"),
        (np.full((2, 4, 5), 0.5), dict(n_labels=3), "n_labels=3"),
        (np.full((2, 4, 5), 0.5), dict(iterations=-1), "iterations"),
        (np.full((2, 4, 5), 0.5), dict(iterations=2.5), "iterations"),
        (np.full((2, 4, 5), 0.5), dict(bilateral_srgb=0), "bilateral_srgb"),
        (np.full((2, 4, 5), 0.5), dict(gaussian_sxy=1e-9), "use a wider Gaussian"),
        (np.full((2, 4, 5), 0.5), dict(gt_prob=1), "gt_prob"),
    ],
)
def test_dense_crf_refuses(given_, options, message):
    with pytest.raises(ValueError, match=message):
        dense_crf(np.zeros((4, 5, 3), np.uint8), given_, **options)


def test_images_of_other_kinds_are_refused():
    label = np.zeros((4, 5), np.uint8)
    for image in (np.zeros((4, 5, 3)), np.zeros((4, 5), np.uint8)):
        for refine in (dense_crf, refine_label):
            with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
                refine(image, label, n_labels=2)


def slow_pamr(image, masks, iterations, dilations):
    """PAMR of one image in double precision, a pixel and a neighbour at a time."""
    height, width = image.shape[1:]
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]

    def neighbours(y, x):
        return [
            (
                min(max(y + dilation * dy, 0), height - 1),
                min(max(x + dilation * dx, 0), width - 1),
            )
            for dilation in dilations
            for dy, dx in steps
        ]

    weights = {}
    for y, x in np.ndindex(height, width):
        logits = 0
        for channel in image.astype(np.float64):
            values = np.array([channel[place] for place in neighbours(y, x)])
            around = [*values, *[channel[y, x]] * len(dilations)]
            deviation = np.std(around, ddof=1)
            logits = logits - np.abs(channel[y, x] - values) / (1e-8 + 0.1 * deviation)
        weights[y, x] = slow_softmax(logits / len(image))
    masks = masks.astype(np.float64)
    for _ in range(iterations):
        before = masks
        masks = np.zeros_like(before)
        for y, x in np.ndindex(height, width):
            for weight, place in zip(weights[y, x], neighbours(y, x)):
                masks[(..., y, x)] += weight * before[(..., *place)]
    return masks


@pytest.mark.parametrize(
    ("size", "dilations", "iterations"),
    [
        ((7, 5), (1, 2, 4, 8, 12, 24), 3),
        ((1, 4), (1, 3), 2),
        ((6, 9), [2], 1),
        ((4, 3), (1,), 0),
    ],
)
def test_pamr_equals_loops(size, dilations, iterations):
    rng = np.random.default_rng(0)
    image = rng.random((2, 3, *size))
    # A flat corner, where the deviation is 0 for small dilations.
    image[:, :, :3, :3] = 0.4
    masks = rng.random((2, 4, *size))
    found = pamr(
        torch.from_numpy(image), torch.from_numpy(masks), iterations, dilations
    )
    assert found.dtype == torch.float64
    for number in range(2):
        expected = slow_pamr(image[number], masks[number], iterations, dilations)
        np.testing.assert_allclose(found[number].numpy(), expected, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    levels=st.sampled_from([1, 2, 256]),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
)
def test_pamr_takes_means(seed, size, levels, dtype):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(levels, (2, 3, *size), generator=generator).to(dtype)
    masks = torch.rand((2, 3, *size), generator=generator).to(dtype)
    masks[:, 1] = 0.625
    found = pamr(image, masks, iterations=3)
    assert found.dtype == dtype
    precision = 1e-3 if dtype == torch.float16 else 1e-5
    assert found.min() >= masks.min() - precision
    assert found.max() <= masks.max() + precision
    assert (found[:, 1] - 0.625).abs().max() <= precision
    whole = masks.double().softmax(dim=1)
    total = pamr(image, whole, iterations=3).sum(dim=1)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_pamr_takes_images_of_any_unit_and_integer_masks():
    image, _, label = coloured_image()
    pixels = torch.tensor(image.transpose(2, 0, 1)[None].copy())
    masks = torch.tensor(label == 1)[None, None]
    found = pamr(pixels, masks.long())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pamr(pixels.float() / 255, masks.float()))


def test_pamr_of_no_masks():
    masks = torch.zeros(2, 0, 5, 4)
    assert pamr(torch.rand(2, 3, 5, 4), masks).shape == masks.shape


def test_pamr_gives_gradients_to_masks():
    image = torch.rand(1, 2, 3, 4, dtype=torch.float64)
    masks = torch.rand(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda masks: pamr(image, masks, iterations=2, dilations=(1, 2)), masks
    )


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((1, 3, 4, 5), (1, 2, 5, 4)), dict(), "image .* and masks"),
        (((1, 3, 4, 5), (2, 2, 4, 5)), dict(), "image .* and masks"),
        (((3, 4, 5), (2, 4, 5)), dict(), "image .* and masks"),
        (((1, 3, 4, 5), (1, 2, 4, 5)), dict(dilations=()), "dilations"),
        (((1, 3, 4, 5), (1, 2, 4, 5)), dict(dilations=2), "dilations"),
        (((1, 3, 4, 5), (1, 2, 4, 5)), dict(dilations=[1, 0]), "dilations"),
        (((1, 3, 4, 5), (1, 2, 4, 5)), dict(iterations=True), "iterations"),
    ],
)
def test_pamr_refuses(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        pamr(torch.zeros(shapes[0]), torch.zeros(shapes[1]), **options)


def slow_refine(image, label, n, method, **options):
    masks = label_probs(label, n, 1.0)
    if method is None:
        return label
    if method == "crf":
        return slow_crf(image, label_probs(label, n, 0.7), **options).argmax(axis=0)
    options = dict(dict(iterations=10, dilations=(1, 2, 4, 8, 12, 24)), **options)
    return slow_pamr(image.transpose(2, 0, 1), masks, **options).argmax(axis=0)


@pytest.mark.parametrize(
    "refine",
    [
        dict(method=None),
        dict(method="crf"),
        dict(method="crf", **DEEPLAB),
        dict(method="pamr", iterations=2, dilations=[1, 3]),
    ],
)
def test_refine_label_equals_loops(refine):
    image, truth, label = coloured_image()
    found = refine_label(image, label.astype(np.uint8), 3, **refine)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, slow_refine(image, label, 3, **refine))
    assert (label != truth).mean() > 0.1
    if refine["method"] == "crf":
        assert (found != truth).mean() < 0.02
    one = refine_label(image, np.zeros_like(label), 1, **refine)
    assert not one.any()


def test_refine_label_refuses_other_labels_and_sizes():
    image, _, label = coloured_image()
    for method in ("crf", "pamr", None):
        with pytest.raises(ValueError, match=r"labels must be in 0\.\.1"):
            refine_label(image, label, 2, method=method)
        with pytest.raises(ValueError, match=r"label \(H, W\)"):
            refine_label(image, label[1:], 3, method=method)


def test_refine_settings_fill_in_what_is_not_given():
    assert refine_settings(None) == dict(method=None)
    assert refine_settings(dict(method=None)) == dict(method=None)
    crf = dict(
        method="crf",
        gt_prob=0.7,
        iterations=10,
        gaussian_sxy=3,
        gaussian_compat=3,
        bilateral_sxy=50,
        bilateral_srgb=5,
        bilateral_compat=10,
    )
    assert refine_settings({}) == crf
    assert refine_settings(dict(iterations=4)) == dict(crf, iterations=4)
    assert refine_settings(crf) == crf
    pamr_settings = dict(iterations=10, dilations=(1, 2, 4, 8, 12, 24))
    assert refine_settings(dict(method="pamr")) == dict(pamr_settings, method="pamr")
    with pytest.raises(ValueError, match="'crf', 'pamr' or None, but is 'CRF'"):
        refine_settings(dict(method="CRF"))
    for refine in (
        dict(sxy=3),
        dict(n_labels=2),
        dict(method="pamr", image=0),
        dict(method=None, iterations=3),
    ):
        with pytest.raises(ValueError, match="has no option"):
            refine_settings(refine)


def slow_affinity_label(image, cam, classes, foreground, background, refine):
    n = len(classes) + 1
    maps = {}
    for threshold in (foreground, background):
        label = np.zeros(image.shape[:2], dtype=np.int64)
        for y, x in np.ndindex(*label.shape):
            scores = [np.float32(threshold), *np.float32(cam[:, y, x])]
            label[y, x] = scores.index(max(scores))
        maps[threshold] = slow_refine(image, label, n, **refine) if n > 1 else label
    result = np.full(image.shape[:2], 255)
    for pixel in np.ndindex(*result.shape):
        if maps[foreground][pixel]:
            result[pixel] = classes[maps[foreground][pixel] - 1] + 1
        elif not maps[background][pixel]:
            result[pixel] = 0
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    "refine",
    [
        dict(method=None),
        dict(method="pamr", iterations=2),
        dict(method="crf"),
    ],
)
@pytest.mark.parametrize("thresholds", [(0.3, 0.05), (0.3, 0.3), (0.5, 0)])
@pytest.mark.parametrize("classes", [[4, 253], [0], []])
def test_affinity_label_equals_loops(refine, thresholds, classes):
    image, truth, _ = coloured_image()
    rng = np.random.default_rng(2)
    near = (truth == np.arange(1, len(classes) + 1)[:, None, None]) * 0.4
    # Steps of 0.05: some maps equal each other or a threshold.
    cam = (near + rng.integers(0, 12, near.shape) * 0.05).astype(np.float16)
    found = affinity_label(image, cam, classes, *thresholds, refine)
    assert found.dtype == np.uint8
    expected = slow_affinity_label(image, cam, classes, *thresholds, refine)
    # The CRF's library approximates.
    wrong = 0.01 if refine["method"] == "crf" else 0
    assert (found != expected).mean() <= wrong
    if thresholds[0] == thresholds[1]:
        assert 255 not in found
    elif refine["method"] is None and classes:
        assert 255 in found


def test_a_tie_is_background():
    cam = np.array([[[0.25, 0.5, 0.5]], [[0.0, 0.5, 0.25]]])
    label = affinity_label(np.zeros((1, 3, 3), np.uint8), cam, [3, 5], 0.5, 0.25)
    np.testing.assert_array_equal(label, [[0, 255, 255]])
    label = affinity_label(np.zeros((1, 3, 3), np.uint8), cam, [3, 5], 0.25, 0.25)
    np.testing.assert_array_equal(label, [[0, 4, 4]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(foreground=0.05, background=0.3), "0 <= background <= foreground < 1"),
        (dict(foreground=1), "0 <= background <= foreground < 1"),
        (dict(background=-0.1), "0 <= background <= foreground < 1"),
        (dict(background=float("nan")), "0 <= background <= foreground < 1"),
        (dict(classes=[1]), r"classes \(n,\)"),
        (dict(classes=[1, 254]), r"0\.\.253"),
        (dict(classes=[-1, 2]), r"0\.\.253"),
        (dict(cam=np.zeros((2, 5, 4))), r"\(2, 5, 4\)"),
        (dict(image=np.zeros((4, 5, 3))), "uint8"),
        (dict(refine=dict(method="none")), "refine"),
    ],
)
def test_affinity_label_refuses(changed, message):
    arguments = dict(
        image=np.zeros((4, 5, 3), np.uint8), cam=np.zeros((2, 4, 5)), classes=[1, 2]
    )
    with pytest.raises(ValueError, match=message):
        affinity_label(**dict(arguments, **changed))


def slow_power_label(image, cam, classes, low, high, method, **options):
    labels = {}
    for alpha in (low, high):
        scores = np.zeros((len(classes) + 1, *image.shape[:2]))
        for y, x in np.ndindex(*image.shape[:2]):
            values = cam[:, y, x].astype(float)
            scores[:, y, x] = [(1 - max(values)) ** alpha, *values]
        if method == "crf":
            scores = slow_crf(image, scores.clip(1e-5), **options)
        elif method == "pamr":
            scores = slow_pamr(image.transpose(2, 0, 1), scores, **options)
        labels[alpha] = scores.argmax(axis=0)
    result = np.full(image.shape[:2], 255)
    for pixel in np.ndindex(*result.shape):
        if labels[high][pixel] == 0:
            result[pixel] = 0
        elif labels[low][pixel]:
            result[pixel] = classes[labels[low][pixel] - 1] + 1
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    "refine",
    [
        dict(method=None),
        dict(method="pamr", iterations=2, dilations=[1, 3]),
        dict(method="crf", bilateral_sxy=80, bilateral_srgb=13),
    ],
)
@pytest.mark.parametrize("powers", [(4, 24), (2, 2), (1, 32)])
@pytest.mark.parametrize("classes", [[4, 253], [0]])
def test_power_affinity_label_equals_loops(refine, powers, classes):
    image, truth, _ = coloured_image()
    rng = np.random.default_rng(2)
    near = (truth == np.arange(1, len(classes) + 1)[:, None, None]) * 0.6
    cam = (near + rng.random(near.shape) * 0.3).astype(np.float32)
    found = power_affinity_label(image, cam, classes, *powers, refine)
    assert found.dtype == np.uint8
    expected = slow_power_label(image, cam, classes, *powers, **refine)
    # The CRF's library approximates.
    wrong = 0.01 if refine["method"] == "crf" else 0
    assert (found != expected).mean() <= wrong
    assert (255 in expected) == (powers[0] != powers[1])


def test_powers_are_thresholds_where_nothing_is_refined():
    rng = np.random.default_rng(0)
    cam, image = rng.random((2, 30, 30)), np.zeros((30, 30, 3), np.uint8)
    found = power_affinity_label(image, cam, [3, 7])
    thresholds = []
    for alpha in (4, 24):
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            if middle > (1 - middle) ** alpha:
                high = middle
            else:
                low = middle
        thresholds.append(high)
    np.testing.assert_allclose(thresholds, [0.276, 0.094], atol=5e-4)
    expected = affinity_label(image, cam, [3, 7], *thresholds)
    np.testing.assert_array_equal(found, expected)


def test_power_affinity_label_of_no_class_of_full_maps_and_of_wrong_arguments():
    image = np.zeros((4, 5, 3), np.uint8)
    assert not power_affinity_label(image, np.zeros((0, 4, 5)), []).any()
    # Half precision rounds a map of 1 up.
    full = np.full((1, 4, 5), 1 + 1e-4)
    assert (power_affinity_label(image, full, [2]) == 3).all()
    for powers in ((24, 4), (0, 4), (4, float("nan"))):
        with pytest.raises(ValueError, match="0 < low <= high"):
            power_affinity_label(image, full, [2], *powers)
    with pytest.raises(ValueError, match=r"classes \(n,\)"):
        power_affinity_label(image, full, [2, 3])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        power_affinity_label(image, full + 1, [2])
    with pytest.raises(ValueError, match=r"scores \(n, H, W\)"):
        refine_scores(image, full[:, 1:])
