"""SeqNet as student and as teacher."""

import pytest
import torch
from mmengine.optim import OptimWrapper

from mmps_kd.errors import UserError

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
EMPTY = [([], []), ([], [])]
OWN = {'loss_cls', 'loss_bbox', 'loss_oim', 'loss_second_cls', 'loss_second_bbox'}
TERMS = [
    dict(at='backbone.0', loss=dict(type='FeatureImitationLoss')),
    dict(at='rpn.cls', loss=dict(type='LogitDistillationLoss')),
    dict(at='rpn.bbox', loss=dict(type='BoundedRegressionLoss')),
    dict(at='roi.cls', loss=dict(type='LogitDistillationLoss', mode='kl')),
    dict(at='roi.bbox', loss=dict(type='BoundedRegressionLoss')),
]


@pytest.fixture
def distilled(build_seqnet, seqnet_cfg, write_teacher):
    """A SeqNet taught by another one, which is returned beside it."""

    def build(**kwargs):
        teacher = build_seqnet(seed=7)
        files = write_teacher(seqnet_cfg, teacher)
        return build_seqnet(type='PersonSearchDistiller', teacher=files, **kwargs), teacher.eval()

    return build


@pytest.mark.parametrize('people', [PEOPLE, EMPTY])
def test_as_student_and_as_teacher(distilled, lut, make_batch, people):
    embedding = dict(at='roi.embedding', loss=dict(type='IDFeatureLoss'))
    model, _ = distilled(distillation=[*TERMS, embedding], lut=lut)
    before = model.roi_head.reid_head.loss_oim.lut.clone()
    losses = model(**model.data_preprocessor(make_batch(people), training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert {f'student/{name}' for name in OWN} < set(losses)
    assert {f'distill/loss_{term["at"]}' for term in TERMS} < set(losses)
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert torch.equal(model.roi_head.reid_head.loss_oim.lut, before)


def test_the_teachers_first_head_judges_the_students_proposals(distilled, make_batch):
    model, teacher = distilled(distillation=TERMS)
    data = model.data_preprocessor(make_batch(PEOPLE), training=True)
    outputs = model.forward_train(data['inputs'], data['data_samples'])
    teacher_outputs = model.forward_teacher(data['inputs'], outputs)
    expected = teacher.roi_head._bbox_forward(teacher.extract_feat(data['inputs']), outputs.roi.rois)
    assert torch.equal(teacher_outputs.roi.cls_score, expected['cls_score'])
    assert torch.equal(teacher_outputs.roi.bbox_pred, expected['bbox_pred'])


def test_with_weights_of_zero_it_is_the_plain_student_bit_for_bit(build_seqnet, distilled, make_batch):
    silent = [dict(term, loss=dict(term['loss'], loss_weight=0.0)) for term in TERMS]
    states = []
    for model in (build_seqnet(), distilled(distillation=silent)[0]):
        optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
        torch.manual_seed(11)
        for seed in range(3):
            model.train_step(make_batch(PEOPLE, seed=seed), optim)
        states.append(model.state_dict())
    plain, taught = states
    assert all(torch.equal(value, taught[name]) for name, value in plain.items())


def test_objective_names_the_second_heads_losses(distilled):
    text = distilled(distillation=TERMS)[0].objective()
    assert '1 * loss_cls + 10 * loss_bbox + 1 * loss_oim + 1 * loss_second_cls + 1 * loss_second_bbox + ' in text


def test_a_table_of_another_size(build_seqnet, lut, seqnet_cfg):
    seqnet_cfg.roi_head.reid_head.loss_oim.num_identities = 5
    with pytest.raises(UserError, match='num_identities=6'):
        build_seqnet(type='PersonSearchDistiller', lut=lut)
