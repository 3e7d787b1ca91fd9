"""Which query meets which image, by hand."""

import numpy as np
import pytest

from mmps_kd.engine.loops.pairs import queries_by_image, query_blocks
from mmps_kd.evaluation.functional import SearchProtocol


@pytest.fixture
def protocol() -> SearchProtocol:
    """Three queries, the first and the last in one image; the first lists image b twice, nobody lists d."""
    return SearchProtocol(
        query_images=np.array(['y', 'x', 'y']),
        query_boxes=np.zeros((3, 4)),
        query_pids=np.arange(3),
        gallery_images=np.array(['a', 'b', 'c', 'd']),
        offsets=np.array([0, 3, 5, 6]),
        entries=np.array([1, 0, 1, 2, 1, 1], dtype=np.int32),
        truth_offsets=np.array([0, 1, 2, 3]),
        truth_images=np.array([1, 1, 1], dtype=np.int32),
        truth_boxes=np.zeros((3, 4)),
    )


def test_blocks_keep_the_queries_of_an_image_side_by_side(protocol):
    assert [block.tolist() for block in query_blocks(protocol, None)] == [[1, 0, 2]]
    assert [block.tolist() for block in query_blocks(protocol, 2)] == [[1, 0], [2]]


def test_queries_of_each_image_once_and_no_other_block_s(protocol):
    assert queries_by_image(protocol, np.array([1, 0, 2])) == {'a': [0], 'b': [0, 1, 2], 'c': [1]}
    assert queries_by_image(protocol, np.array([2, 0])) == {'a': [0], 'b': [0, 2]}
