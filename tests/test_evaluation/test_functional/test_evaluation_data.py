"""Overlap, and the protocol of one query."""

import numpy as np
import pytest

from mmps_kd.structures import paired_iou


def test_paired_iou():
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 5, 5]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [5, 5, 5, 5]], np.float32)
    assert paired_iou(a, b).tolist() == pytest.approx([1.0, 1 / 3, 0.0, 0.0])


def test_protocol_of_one_query(make_search):
    _, protocol = make_search(0, queries=3)
    single = protocol.of_query(1)
    assert single.query_pids.tolist() == protocol.query_pids[1:2].tolist()
    assert single.entries.tolist() == protocol.entries[protocol.offsets[1] : protocol.offsets[2]].tolist()
    truths = slice(*protocol.truth_offsets[1:3])
    assert single.truth_boxes.tolist() == protocol.truth_boxes[truths].tolist()
    assert (single.offsets[-1], single.truth_offsets[-1]) == (len(single.entries), len(single.truth_images))
