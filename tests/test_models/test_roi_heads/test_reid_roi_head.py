"""Box head and re-id head on shared RoI features."""

import pytest
import torch
from mmengine.structures import InstanceData

BOXES = [[10, 8, 40, 88], [60, 20, 90, 92]]


@pytest.fixture
def head(build_model):
    return build_model().roi_head


@pytest.fixture
def features():
    return (torch.randn(2, 32, 12, 16, generator=torch.Generator().manual_seed(1)),)


def proposals(*per_image):
    out = []
    for boxes in per_image:
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        out.append(InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)), labels=torch.zeros(len(boxes)).long()))
    return out


def test_positive_rois_carry_the_identity_of_their_person(head, features, make_batch):
    samples = make_batch([(BOXES, [3, -1]), (BOXES[:1], [0])])['data_samples']
    near_second = [61, 21, 91, 93]
    sampled = head.sample(proposals([near_second, [0, 0, 9, 9]], [[100, 0, 120, 30]]), samples)
    out = head.forward_train(features, sampled, samples)
    # First image: both true boxes and the proposal near the second; second image: its true box.
    assert sorted(out.pids[:3].tolist()) == [-1, -1, 3]
    assert out.pids[3:].tolist() == [0]
    assert out.embeddings.shape == (4, 16)
    assert len(out.rois) == len(out.cls_score) == 4 + 2
    positive = torch.cat([torch.arange(len(res.priors)) < len(res.pos_inds) for res in sampled])
    again = head.reid_head(out.roi_feats[positive])
    assert torch.equal(again, out.embeddings)


def test_layers_of_the_reid_head_alone(build_model, model_cfg, features, make_batch):
    layers = dict(type='MobileNetV2Layers', first=4, last=4)  # 32 to 64 channels, half the size
    model_cfg.roi_head.reid_head.update(in_channels=64, roi_feat_size=(7, 3), with_avg_pool=True)
    head = build_model(roi_head={**model_cfg.roi_head, 'reid_layers': layers}).roi_head.eval()
    samples = make_batch([(BOXES, [3, -1])])['data_samples']
    maps = (features[0][:1],)
    sampled = head.sample(proposals([[61, 21, 91, 93], [0, 0, 9, 9]]), samples)
    out = head.forward_train(maps, sampled, samples)

    (again,) = head.embed(maps, [sampled[0].pos_priors])
    torch.testing.assert_close(out.embeddings, again)
    losses = head.loss_by_outputs(out)
    (losses['loss_cls'] + losses['loss_bbox']).backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in head.reid_layers.parameters())
    before = [parameter.grad.clone() for parameter in head.bbox_head.parameters()]
    losses['loss_oim'].backward()
    assert all(parameter.grad is not None for parameter in head.reid_layers.parameters())
    assert all(torch.equal(*pair) for pair in zip(before, (p.grad for p in head.bbox_head.parameters()), strict=True))


def test_losses_of_images_without_people_are_finite(head, features, make_batch):
    samples = make_batch([([], []), ([], [])])['data_samples']
    losses = head.loss(features, proposals([[0, 0, 9, 9]], [[5, 5, 30, 60]]), samples)
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert torch.isfinite(total)
    assert losses['loss_oim'] == 0
    # Every parameter takes part, so that distributed training needs no search for unused ones.
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


def test_embedding_a_box_needs_no_other_box(head, features):
    head.eval()
    boxes = [torch.tensor(BOXES, dtype=torch.float32), torch.zeros(0, 4)]
    first, second = head.embed(features, boxes)
    alone, _ = head.embed(features, [boxes[0][1:], boxes[1]])
    assert first.shape == (2, 16)
    assert second.shape == (0, 16)
    assert torch.allclose(first[1:], alone, atol=1e-6)


def test_predicted_embeddings_are_those_of_the_final_boxes(head, features, make_batch):
    head.eval()
    head.test_cfg.score_thr = 0.0
    samples = make_batch([([], []), ([], [])])['data_samples']
    results = head.predict(features, proposals(BOXES, BOXES[:1]), samples, rescale=True)
    assert [len(res.bboxes) > 0 for res in results] == [True, True]
    # Pictures were halved on the way in, so boxes come out doubled.
    again = head.embed(features, [res.bboxes / 2 for res in results])
    for res, embeddings in zip(results, again, strict=True):
        assert torch.allclose(res.embeddings, embeddings, atol=1e-5)


def test_no_proposal_no_detection(head, features, make_batch):
    samples = make_batch([([], []), ([], [])])['data_samples']
    results = head.predict(features, proposals([], []), samples, rescale=True)
    assert [res.embeddings.shape for res in results] == [(0, 16), (0, 16)]
