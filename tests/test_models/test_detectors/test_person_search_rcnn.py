"""The whole detector: one training step, prediction, query embeddings."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from mmps_kd.errors import UserError

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]


def step(model, batch):
    data = model.data_preprocessor(batch, training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    return losses, total


def test_one_step_trains_every_parameter(build_model, make_batch):
    model = build_model()
    losses, total = step(model, make_batch(PEOPLE))
    assert set(losses) == {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'acc', 'loss_oim'}
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    lut = model.roi_head.reid_head.loss_oim.lut
    assert (lut.norm(dim=1) > 0).tolist() == [True, False, False, True, False, False]


@pytest.mark.parametrize('people', [[([], []), ([], [])], [PEOPLE[0], ([], [])], [([[5, 5, 50, 90]], [-1])]])
def test_images_without_people_or_identities(build_model, make_batch, people):
    model = build_model()
    _, total = step(model, make_batch(people))
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_queries_are_embedded_in_the_same_pass(build_model, make_batch):
    model = build_model().eval()
    batch = make_batch([([], []), ([], []), ([], [])])
    boxes = torch.tensor([[10.0, 8, 40, 88], [60, 20, 90, 92]])
    batch['data_samples'][1].query_instances = InstanceData(bboxes=boxes, query_ids=torch.tensor([7, 4]))
    data = model.data_preprocessor(batch)
    calls = []
    extract = model.extract_feat
    model.extract_feat = lambda x: calls.append(len(x)) or extract(x)
    samples = model(**data, mode='predict')
    assert calls == [3]
    assert ['pred_queries' in sample for sample in samples] == [False, True, False]
    assert samples[1].pred_queries.query_ids.tolist() == [7, 4]
    none = boxes.new_zeros(0, 4)
    expected = model.roi_head.embed(extract(data['inputs']), [none, boxes, none])[1]
    assert torch.allclose(samples[1].pred_queries.embeddings, expected, atol=1e-6)


def test_true_boxes_in_place_of_detections(build_model, make_batch, model_cfg):
    model_cfg.test_cfg.true_boxes = True
    model = build_model().eval()
    samples = model(**model.data_preprocessor(make_batch([PEOPLE[0], ([], [])])), mode='predict')
    # Pictures were halved on the way in.
    assert samples[0].pred_instances.bboxes.tolist() == [[20, 16, 80, 176], [120, 40, 180, 184]]
    assert samples[0].pred_instances.scores.tolist() == [1, 1]
    assert samples[1].pred_instances.embeddings.shape == (0, 16)


def test_tensor_mode(build_model, make_batch):
    model = build_model().eval()
    data = model.data_preprocessor(make_batch(PEOPLE))
    assert model(**data, mode='tensor') is not None


def test_pretrained_weights_that_cannot_be_had(model_cfg, tmp_path):
    model_cfg.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'absent.pth'))
    model = MODELS.build(model_cfg)
    with pytest.raises(UserError, match=r'absent\.pth.*init_cfg'):
        model.init_weights()


@pytest.mark.parametrize('kind', ['plain', 'seqnet'])
def test_channels_last_changes_nothing(request, build_model, make_batch, kind):
    """mmcv's RoIAlign on CPU reads the numbers of such a map in the wrong order."""
    model = build_model() if kind == 'plain' else request.getfixturevalue('build_seqnet')()
    model.roi_head.test_cfg.score_thr = 0.0
    batch, found, losses = make_batch(PEOPLE), [], []
    for layout in (torch.contiguous_format, torch.channels_last):
        again = copy.deepcopy(model).to(memory_format=layout)
        data = again.data_preprocessor(copy.deepcopy(batch), training=True)
        inputs = data['inputs'].to(memory_format=layout)
        torch.manual_seed(0)
        total, _ = again.parse_losses(again.train()(inputs, data['data_samples'], mode='loss'))
        losses.append(total.item())
        with torch.no_grad():
            results = again.eval()(inputs, data['data_samples'], mode='predict')
        found.append([(len(r.pred_instances), r.pred_instances.embeddings.sum().item()) for r in results])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert [count for count, _ in found[0]] == [count for count, _ in found[1]] != [0, 0]
    assert [total for _, total in found[1]] == pytest.approx([total for _, total in found[0]], abs=1e-3)
