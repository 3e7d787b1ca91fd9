"""Several lists of proposals at once against each list alone."""

import pytest
import torch
from mmengine.structures import InstanceData

POOL = torch.tensor(
    [[10.0, 8, 40, 88], [60, 20, 90, 92], [12, 8, 41, 80], [0, 0, 9, 9], [61, 20, 92, 90], [5, 5, 50, 90]]
)


@pytest.fixture
def head(build_model):
    head = build_model().eval().roi_head
    # The untrained head is unsure of every box: with this threshold about half of them are people.
    head.test_cfg.score_thr = 0.4995
    return head


@pytest.fixture
def x():
    return (torch.randn(1, 32, 12, 16, generator=torch.Generator().manual_seed(1)),)


@pytest.mark.parametrize('chunk', [1, 4, 100])
def test_as_each_list_alone(head, x, make_batch, chunk):
    sample = make_batch([([], [])])['data_samples'][0]
    lists = [POOL[[0, 1, 2, 3]], POOL[[5, 2, 1]], POOL[:0], POOL[[4]]]
    calls = []
    forward = head._bbox_forward
    head._bbox_forward = lambda x, rois: calls.append(len(rois)) or forward(x, rois)
    with torch.no_grad():
        together = head.predict_shared(x, lists, sample.metainfo, chunk)
        # Six different boxes.
        assert sum(calls) == 6 and max(calls) <= chunk
        for boxes, result in zip(lists, together, strict=True):
            proposals = InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)), labels=torch.zeros(len(boxes)).long())
            (alone,) = head.predict(x, [proposals], [sample])
            for field in ('bboxes', 'scores', 'embeddings'):
                assert torch.allclose(result[field], alone[field], atol=1e-5), field
    assert len(together[0]) > 0 and len(together[2]) == 0


def test_nobody_at_all(head, x, make_batch):
    head.test_cfg.score_thr = 1.0
    sample = make_batch([([], [])])['data_samples'][0]
    with torch.no_grad():
        results = head.predict_shared(x, [POOL, POOL[:1]], sample.metainfo, 100)
    assert [result.bboxes.shape for result in results] == [(0, 4)] * 2
    assert [result.embeddings.shape for result in results] == [(0, 16)] * 2
