"""The norm of the embedding detects."""

import pytest
import torch
from mmdet.registry import MODELS

BOXES = [[10, 8, 40, 88], [60, 20, 90, 92]]
PEOPLE = [(BOXES, [3, -1]), ([[20, 10, 50, 90]], [0])]


@pytest.fixture
def model(model_cfg):
    head = model_cfg.roi_head
    head.type = 'NAERoIHead'
    head.bbox_head = dict(
        type='BBoxHead',
        with_avg_pool=True,
        with_cls=False,
        roi_feat_size=(8, 4),
        in_channels=32,
        num_classes=1,
        reg_class_agnostic=True,
        reg_predictor_cfg=dict(type='BNLinear'),
    )
    head.reid_head.update(type='NormAwareReIDHead', loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True))
    torch.manual_seed(0)
    model = MODELS.build(model_cfg)
    model.init_weights()
    return model


def outputs_of(model, batch):
    data = model.data_preprocessor(batch, training=True)
    return model.forward_train(data['inputs'], data['data_samples'])


def test_the_loss_is_binary_cross_entropy_of_the_norms(model, make_batch):
    outputs = outputs_of(model.eval(), make_batch(PEOPLE))
    _, logits = model.roi_head.reid_head.embed_and_score(outputs.roi.roi_feats)
    target = (outputs.roi.labels == 0).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    assert model.loss_by_outputs(outputs)['loss_cls'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_batch_norm_sees_each_roi_once(model, make_batch):
    norm = model.roi_head.reid_head.bn
    outputs_of(model.train(), make_batch(PEOPLE))
    assert norm.num_batches_tracked == 1


def test_every_parameter_is_trained(model, make_batch):
    losses = model(**model.data_preprocessor(make_batch(PEOPLE), training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert {'loss_cls', 'loss_bbox', 'loss_oim'} <= losses.keys()


@pytest.mark.parametrize('final', [True, False])
def test_scores_and_the_boxes_that_are_embedded(model, make_batch, final):
    head = model.eval().roi_head
    head.embed_final_boxes = final
    head.test_cfg.update(score_thr=0.0, nms=dict(type='nms', iou_threshold=1.0))
    # Every box moves by half its width.
    head.bbox_head.fc_reg[0].weight.data.zero_()
    head.bbox_head.fc_reg[1].weight.data.fill_(1)
    head.bbox_head.fc_reg[1].running_var.fill_(1 - head.bbox_head.fc_reg[1].eps)
    head.bbox_head.fc_reg[0].bias.data = torch.tensor([0.5 / 0.1, 0, 0, 0])
    data = model.data_preprocessor(make_batch([([], [])]))
    with torch.no_grad():
        x = model.extract_feat(data['inputs'])
        proposals = model.rpn_head.predict(x, data['data_samples'], rescale=False)
        read = proposals[0].bboxes
        (found,) = head.predict(x, [proposals[0].new(bboxes=read)], data['data_samples'])
        vectors, logits = head.reid_head.embed_and_score(
            head.extract_reid_feats(x, torch.nn.functional.pad(read, (1, 0)))
        )
        order = logits.sigmoid().argsort(descending=True, stable=True)[: len(found)]
        expected = head.embed(x, [found.bboxes])[0] if final else vectors[order]
    assert len(found) > 5
    assert torch.allclose(found.scores, logits.sigmoid()[order], atol=1e-6)
    assert torch.allclose(found.embeddings, expected, atol=1e-5)
    width = read[order, 2] - read[order, 0]
    assert torch.allclose(found.bboxes[:, 0], (read[order, 0] + width / 2).clamp(max=128), atol=1e-3)
