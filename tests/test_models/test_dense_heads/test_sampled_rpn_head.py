"""The RPN in two steps gives what mmdet's gives in one."""

import copy

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([], [])]


def build(cfg, kind):
    torch.manual_seed(0)
    head = MODELS.build({**cfg, 'type': kind})
    head.init_weights()
    return head


def test_losses_proposals_and_random_numbers_are_mmdets(model_cfg, make_batch):
    cfg = dict(model_cfg.rpn_head, train_cfg=model_cfg.train_cfg.rpn, test_cfg=model_cfg.test_cfg.rpn)
    ours, theirs = build(cfg, 'SampledRPNHead'), build(cfg, RPNHead)
    x = (torch.randn(2, 32, 12, 16, generator=torch.Generator().manual_seed(1)),)
    samples = make_batch(PEOPLE)['data_samples']

    torch.manual_seed(5)
    losses, proposals = theirs.loss_and_predict(x, copy.deepcopy(samples), model_cfg.train_cfg.rpn_proposal)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    outputs = ours.forward_train(x, samples)

    assert torch.equal(torch.get_rng_state(), state)
    assert ours.loss_by_outputs(outputs) == losses
    metas = [sample.metainfo for sample in samples]
    again = ours.predict_by_feat(
        outputs.cls_scores, outputs.bbox_preds, batch_img_metas=metas, cfg=model_cfg.train_cfg.rpn_proposal
    )
    assert all(torch.equal(a.bboxes, b.bboxes) for a, b in zip(again, proposals, strict=True))


def test_start_level_leaves_the_first_maps_to_the_roi_head(model_cfg):
    cfg = dict(model_cfg.rpn_head, train_cfg=model_cfg.train_cfg.rpn, test_cfg=model_cfg.test_cfg.rpn)
    head, plain = build({**cfg, 'start_level': 1}, 'SampledRPNHead'), build(cfg, 'SampledRPNHead')
    first, second = torch.randn(1, 5, 24, 32), torch.randn(1, 32, 12, 16)
    for ours, theirs in zip(head((first, second)), plain((second,)), strict=True):
        assert torch.equal(*ours, *theirs)


def test_sampled_anchors_can_be_read(build_model, make_batch):
    model = build_model()
    data = model.data_preprocessor(make_batch([PEOPLE[0], PEOPLE[0]]), training=True)
    outputs = model.forward_train(data['inputs'], data['data_samples']).rpn
    (anchors,), (weights,), (boxes,) = outputs.anchors, outputs.label_weights, outputs.bbox_weights
    assert anchors.shape == (2, 12 * 16 * 4, 4)
    assert (weights > 0).sum() == outputs.avg_factor
    assert ((boxes > 0).all(dim=2) == (outputs.labels[0] == 0)).all()
