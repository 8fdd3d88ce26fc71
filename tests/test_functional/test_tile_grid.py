"""Tiles of one size along an axis, against each pixel by itself."""

from itertools import pairwise

import pytest

from mmwood.functional.tile_grid import equal_spans, nearest_spans


@pytest.mark.parametrize("tile", [1, 2, 5, 8])
def test_equal_spans_and_the_nearest_of_each_pixel(tile):
    for length in range(tile, 40):
        for overlap in range(tile):
            spans = equal_spans(length, tile, overlap)
            assert spans[0][0] == 0
            assert spans[-1][1] == length
            assert all(end - begin == tile for begin, end in spans)
            shared = [end - begin for (_, end), (begin, _) in pairwise(spans)]
            assert all(pixels == overlap for pixels in shared[:-1])
            assert all(overlap <= pixels < tile for pixels in shared[-1:])
            nearest = nearest_spans(spans)
            for pixel in range(length):
                # In half pixels, so that equal distances are equal.
                distance = [abs(2 * pixel + 1 - sum(span)) for span in spans]
                best = distance.index(min(distance))
                owners = [n for n, (b, e) in enumerate(nearest) if b <= pixel < e]
                assert owners == [best]
                assert spans[best][0] <= pixel < spans[best][1]


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(9, 10, 0), (9, 3, 3), (9, 3, -1), (9, 0, 0)]
)
def test_spans_that_are_none(length, tile, overlap):
    with pytest.raises(ValueError, match="must be an integer of at least"):
        equal_spans(length, tile, overlap)
