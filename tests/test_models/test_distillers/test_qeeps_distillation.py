"""A query-guided student: taught on its gallery images, tested and saved as the plain QEEPS."""

import copy

import pytest
import torch
from mmengine.config import Config

from mmps_kd.apis.init_model import init_model
from mmps_kd.models import QEEPS

HINT = dict(at='backbone.0', loss=dict(type='FeatureImitationLoss'))
SOFT = [dict(at=at, hard_weight=0.5, loss=dict(type='LogitDistillationLoss')) for at in ('rpn.cls', 'roi.cls')]
BOXES = [dict(at=at, loss=dict(type='BoundedRegressionLoss')) for at in ('rpn.bbox', 'roi.bbox')]
ID = dict(at='roi.embedding', loss=dict(type='IDFeatureLoss'))
PAIRS = [
    ([10, 8, 40, 88], 3, [[12, 8, 44, 88], [60, 20, 90, 92]], [-1, 3]),
    ([60, 20, 90, 92], 0, [[20, 10, 50, 90]], [0]),
]


@pytest.fixture
def build(teacher, build_model, lut, qeeps_cfg):
    """Build the query-guided student with both teachers; ``teacher`` was written before the config became QEEPS'."""
    distiller = dict(type='QEEPSDistiller', teacher=teacher, lut=lut, distillation=[HINT, *SOFT, *BOXES, ID])

    def build(**changes):
        return build_model(**distiller, **changes)

    return build


def losses_of(model, pairs):
    data = model.data_preprocessor(copy.deepcopy(pairs), training=True)
    torch.manual_seed(0)
    losses = model(**data, mode='loss')
    total, logged = model.parse_losses(losses)
    return total, {name: value.item() for name, value in logged.items()}


def test_one_step(build, make_pairs):
    model = build()
    total, losses = losses_of(model, make_pairs(PAIRS))
    total.backward()
    distilled = {f'distill/loss_{term["at"]}' for term in [HINT, *SOFT, *BOXES, ID]}
    assert distilled <= losses.keys()
    assert {'student/loss_qrpn', 'student/loss_qsim', 'student/loss_oim'} <= losses.keys()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert all(p.grad is None for p in model.teacher.model.parameters())
    objective = model.objective()
    for part in ('0.5 * loss_rpn_cls', '1 * loss_qrpn', '1 * loss_qsim', '1 * backbone.0: FeatureImitationLoss'):
        assert part in objective


def test_the_teacher_sees_the_gallery_images(build, make_pairs):
    model = build().eval()
    data = model.data_preprocessor(make_pairs(PAIRS), training=True)
    outputs = model.forward_train(data['inputs'], data['data_samples'])
    taught = model.forward_teacher(data['inputs'], outputs, data['data_samples'])
    assert torch.equal(taught.features[0], model.teacher.model.extract_feat(data['inputs']['gallery'])[0])
    assert len(taught.roi.cls_score) == len(outputs.roi.rois)
    assert taught.rpn.bbox_pred.shape == (outputs.rpn.cls_scores[0].numel(), 4)


def test_switched_off_it_is_the_plain_student(build, build_model, make_pairs):
    off, plain = build(enabled=False), build_model()
    (_, losses), (_, expected) = (losses_of(model, make_pairs(PAIRS)) for model in (off, plain))
    assert {name.removeprefix('student/'): value for name, value in losses.items()} == expected


def test_its_checkpoint_is_a_plain_qeeps(build, qeeps_cfg, tmp_path):
    model = build()
    gone = dict(config='gone.py', checkpoint='gone.pth')
    Config(dict(model={**qeeps_cfg, 'type': 'QEEPSDistiller', 'teacher': gone})).dump(tmp_path / 'student.py')
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'student.pth')
    student = init_model(str(tmp_path / 'student.py'), str(tmp_path / 'student.pth'), device='cpu')
    assert type(student) is QEEPS
    assert torch.equal(student.backbone.conv1.weight, model.backbone.conv1.weight)
