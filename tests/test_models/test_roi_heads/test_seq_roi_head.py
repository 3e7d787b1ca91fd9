"""Two heads in sequence: what the second one is given, learns and answers."""

import pytest
import torch
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmdet.registry import MODELS
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData

from mmps_kd.errors import UserError
from mmps_kd.models.roi_heads.seq_roi_head import decode

BOXES = [[10, 8, 40, 88], [60, 20, 90, 92]]
PEOPLE = [(BOXES, [3, -1]), ([[20, 10, 50, 90]], [0])]
EMPTY = [([], []), ([], [])]
LOSSES = {
    *('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'acc', 'loss_oim'),
    *('loss_second_cls', 'loss_second_bbox'),
}


@pytest.fixture
def head(build_seqnet):
    return build_seqnet().roi_head


@pytest.fixture
def features():
    return (torch.randn(2, 32, 12, 16, generator=torch.Generator().manual_seed(1)),)


def proposals(*per_image):
    out = []
    for boxes in per_image:
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        out.append(InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)), labels=torch.zeros(len(boxes)).long()))
    return out


def outputs_of(model, batch):
    data = model.data_preprocessor(batch, training=True)
    return model.forward_train(data['inputs'], data['data_samples'])


def step(model, batch):
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    return losses, total


def shift_boxes(head, dx):
    """Make the box head move every box to the right by the share dx of its width."""
    head.fc_reg.weight.data.zero_()
    head.fc_reg.bias.data = torch.tensor([dx / head.bbox_coder.stds[0], 0, 0, 0])


def is_row_of(rows, table):
    return [(row == table).all(dim=1).any().item() for row in rows]


def test_second_stage_gets_the_refined_boxes(head, features, make_batch):
    shift_boxes(head.bbox_head, 0.5)
    samples = make_batch([(BOXES, [3, -1]), ([], [])])['data_samples']
    sampled = head.sample(proposals([[0, 0, 20, 40], [100, 0, 120, 30]], [[4, 4, 24, 44]]), samples)
    out = head.forward_train(features, sampled, samples)
    # True boxes are among the first stage's RoIs, so they come refined too, and as they are. The image is 128 wide.
    true = torch.tensor(BOXES, dtype=torch.float32)
    moved = torch.tensor([[25.0, 8, 55, 88], [75, 20, 105, 92], [10, 0, 30, 40], [110, 0, 128, 30]])
    first, second = out.second.rois[out.second.rois[:, 0] == 0, 1:], out.second.rois[out.second.rois[:, 0] == 1, 1:]
    assert len(first) == 6
    assert all(is_row_of(true, first))
    assert all((box - first).abs().max(dim=1).values.min() < 1e-4 for box in moved)
    assert second.tolist() == [pytest.approx([14, 4, 34, 44], abs=1e-4)]
    assert out.second.labels.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert not out.second.rois.requires_grad


def test_embeddings_are_the_second_stages_positives(head, features, make_batch):
    samples = make_batch([(BOXES, [3, -1]), (BOXES[:1], [0])])['data_samples']
    shift_boxes(head.bbox_head, 0.0)
    sampled = head.sample(proposals([[61, 21, 91, 93], [0, 0, 9, 9]], [[100, 0, 120, 30]]), samples)
    out = head.eval().forward_train(features, sampled, samples)
    # Each true box twice, as it is and refined; the proposal near the second person once.
    assert sorted(out.pids[:5].tolist()) == [-1, -1, -1, 3, 3]
    assert out.pids[5:].tolist() == [0, 0]
    boxes = [out.second.rois[(out.second.labels == 0) & (out.second.rois[:, 0] == i), 1:] for i in range(2)]
    assert torch.allclose(torch.cat(head.embed(features, boxes)), out.embeddings, atol=1e-6)


def test_first_stage_is_that_of_a_plain_head(build_model, head, features, make_batch):
    plain = build_model().roi_head
    plain.load_state_dict({k: v for k, v in head.state_dict().items() if k.startswith('bbox_head')}, strict=False)
    samples = make_batch(PEOPLE)['data_samples']
    answers = []
    for roi_head in (plain, head):
        torch.manual_seed(5)
        sampled = roi_head.sample(proposals(BOXES, BOXES), samples)
        answers.append(roi_head.forward_train(features, sampled, samples))
    for name in ('rois', 'roi_feats', 'cls_score', 'bbox_pred', 'labels', 'bbox_targets', 'bbox_weights'):
        assert torch.equal(getattr(answers[0], name), getattr(answers[1], name)), name


def test_losses_by_hand(build_seqnet, make_batch):
    model = build_seqnet().eval()
    out = outputs_of(model, make_batch(PEOPLE))
    losses, second = model.roi_head.loss_by_outputs(out.roi), out.roi.second
    targets = (second.labels == 0).float()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(second.scores, targets)
    assert losses['loss_second_cls'].item() == pytest.approx(bce.item(), rel=1e-5)
    for ours, stage, weight in [('loss_bbox', out.roi, 10), ('loss_second_bbox', second, 1)]:
        person = stage.labels == 0
        error = (stage.bbox_pred[person] - stage.bbox_targets[person]).abs()
        smooth_l1 = torch.where(error < 1, error**2 / 2, error - 0.5).sum() / len(stage.labels)
        assert losses[ours].item() == pytest.approx(weight * smooth_l1.item(), rel=1e-5)


@pytest.mark.parametrize('people', [PEOPLE, EMPTY, [PEOPLE[0], EMPTY[0]], [([[5, 5, 50, 90]], [-1])]])
def test_every_parameter_gets_a_gradient(build_seqnet, make_batch, people):
    model = build_seqnet()
    losses, total = step(model, make_batch(people))
    assert set(losses) == LOSSES
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_second_stage_sends_nothing_into_the_first_head(build_seqnet, make_batch):
    model = build_seqnet()
    out = outputs_of(model, make_batch(PEOPLE))
    losses = model.roi_head.loss_by_outputs(out.roi)
    (losses['loss_second_cls'] + losses['loss_second_bbox'] + losses['loss_oim']).backward()
    assert all(p.grad is None for p in model.roi_head.bbox_head.parameters())
    assert all(p.grad is not None for p in model.backbone.parameters())


def test_it_learns(build_seqnet, make_batch):
    model = build_seqnet()
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))
    totals = []
    for _ in range(8):
        torch.manual_seed(0)
        totals.append(model.train_step(make_batch(PEOPLE), optim)['loss'].item())
    assert totals[-1] < 0.9 * totals[0]


def test_each_stage_has_a_shared_head_of_its_own(seqnet_cfg):
    layer = dict(type='ResLayer', depth=18, stage=3, norm_cfg=dict(type='BN', requires_grad=False))
    torch.manual_seed(0)
    head = MODELS.build(dict(seqnet_cfg.roi_head, shared_head=layer, train_cfg=None, test_cfg=seqnet_cfg.test_cfg.rcnn))
    first, second = head.shared_head.state_dict(), head.second_shared_head.state_dict()
    assert first.keys() == second.keys()
    head.eval()
    x, rois = (torch.randn(1, 256, 12, 16),), torch.tensor([[0.0, 10, 8, 40, 88]])
    roi_feats = head.bbox_roi_extractor(x, rois)
    feats = head.extract_reid_feats(x, rois)
    assert torch.equal(feats, head.second_shared_head(roi_feats))
    assert not torch.allclose(feats, head.shared_head(roi_feats))


def detections(head, features, make_batch, boxes, **test_cfg):
    head.eval().test_cfg.update(test_cfg)
    samples = make_batch([([], []), ([], [])])['data_samples']
    return head.predict(features, proposals(*boxes), samples, rescale=True)


def test_predicted_embeddings_are_those_of_the_final_boxes(head, features, make_batch):
    results = detections(head, features, make_batch, [BOXES, BOXES[:1]], score_thr=0.0)
    assert [len(res.bboxes) for res in results] == [2, 1]
    # Pictures were halved on the way in, so boxes come out doubled.
    again = head.embed(features, [res.bboxes / 2 for res in results])
    for res, embeddings in zip(results, again, strict=True):
        assert torch.allclose(res.embeddings, embeddings, atol=1e-5)


def test_final_boxes_were_regressed_twice(head, features, make_batch):
    shift_boxes(head.bbox_head, 0.5)
    shift_boxes(head.second_bbox_head, 0.25)
    (first, second) = detections(head, features, make_batch, [[[0, 0, 20, 40]], []], score_thr=0.0)
    assert first.bboxes.tolist() == [pytest.approx([30.0, 0, 70, 80], abs=1e-3)]
    assert second.embeddings.shape == (0, 16)


@pytest.mark.parametrize('first_cls_score', [True, False])
def test_whose_score_counts(head, features, make_batch, first_cls_score):
    head.first_cls_score = first_cls_score
    results = detections(head, features, make_batch, [BOXES, BOXES[:1]], score_thr=0.0)
    rois = torch.cat([torch.zeros(2, 1), torch.tensor(BOXES)], dim=1)
    scores = head._bbox_forward(features, rois)['cls_score'].softmax(dim=1)[:, 0]
    if not first_cls_score:
        metas = [dict(img_shape=(96, 128))] * 2
        first = head.predict_bbox(features, metas, proposals(BOXES, []), head.test_cfg)[0]
        rois = torch.cat([torch.zeros(2, 1), first.bboxes], dim=1)
        scores = head.forward_second(features, rois)[2].sigmoid()
    assert results[0].scores.tolist() == pytest.approx(scores.sort(descending=True).values.tolist(), abs=1e-5)


def test_second_nms_and_threshold(head):
    head.test_cfg.update(score_thr=0.3)
    # IoU with the first: 0.6 and 1 / 3; the last one's score is too low.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 5, 10, 15], [50, 50, 60, 60]])
    kept = head._suppress(boxes, torch.tensor([0.9, 0.8, 0.7, 0.2]), boxes, head.test_cfg.second.nms)
    assert kept.bboxes.tolist() == [[0, 0, 10, 10], [0, 5, 10, 15]]
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7])
    assert kept.labels.tolist() == [0, 0]


def test_no_proposal_no_detection(head, features, make_batch):
    results = detections(head, features, make_batch, [[], []])
    assert [res.embeddings.shape for res in results] == [(0, 16), (0, 16)]


def test_queries_are_embedded_by_the_second_stage(build_seqnet, make_batch):
    model = build_seqnet().eval()
    batch = make_batch([([], [])])
    boxes = torch.tensor(BOXES, dtype=torch.float32)
    batch['data_samples'][0].query_instances = InstanceData(bboxes=boxes, query_ids=torch.tensor([7, 4]))
    data = model.data_preprocessor(batch)
    (sample,) = model(**data, mode='predict')
    x, rois = model.extract_feat(data['inputs']), torch.cat([torch.zeros(2, 1), boxes], dim=1)
    expected = model.roi_head.forward_second(x, rois)[1]
    assert torch.allclose(sample.pred_queries.embeddings, expected, atol=1e-6)


def test_state_dict(build_seqnet):
    model = build_seqnet()
    tables = [key for key in model.state_dict() if key.endswith('loss_oim.lut')]
    assert tables == ['roi_head.reid_head.loss_oim.lut']
    other = build_seqnet(seed=3)
    other.load_state_dict(model.state_dict(), strict=True)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


def test_boxes_of_each_image_are_clipped_to_it():
    head = type('Head', (), dict(bbox_coder=DeltaXYWHBBoxCoder(target_stds=(1.0, 1.0, 1.0, 1.0))))
    rois = torch.tensor([[1.0, 0, 0, 10, 20], [0, 0, 0, 10, 20]])
    deltas = torch.tensor([[0.5, 0, 0, 0], [0.0, 1.0, 0, 0]])
    first, second, third = decode(head, rois, deltas, [dict(img_shape=(30, 40))] * 3)
    assert first.tolist() == [[0, 20, 10, 30]]
    assert second.tolist() == [[5, 0, 15, 20]]
    assert third.shape == (0, 4)


def test_layers_of_the_reid_head_alone_have_another_name_here(build_seqnet, seqnet_cfg):
    layers = dict(type='MobileNetV2Layers', first=4, last=4)
    with pytest.raises(UserError, match='the layers before its re-id head are second_shared_head'):
        build_seqnet(roi_head={**seqnet_cfg.roi_head, 'reid_layers': layers})
