"""A published student is the student alone."""

import runpy
from pathlib import Path

import pytest
import torch

from mmps_kd.errors import UserError
from mmps_kd.models.utils.checkpoint_io import file_sha256

TOOL = Path(__file__).resolve().parents[2] / 'tools/analysis_tools/publish_student.py'
publish = runpy.run_path(str(TOOL))['publish']


def test_student_alone_under_its_hash(tmp_path, build_model):
    student = build_model().state_dict()
    taught = {'distillation.0.adapter.weight': torch.ones(1), 'distillation_shares.weights': torch.ones(1)}
    state = {**student, **taught}
    meta = dict(teachers=dict(teacher=dict(config='t.py', sha256='aa')))
    torch.save(dict(state_dict=state, meta=meta, optimizer=dict(lr=1)), tmp_path / 'epoch_1.pth')

    out = publish(tmp_path / 'epoch_1.pth', tmp_path / 'student.pth')

    assert out.name == f'student-{file_sha256(out)[:8]}.pth'
    published = torch.load(out, weights_only=True)
    assert set(published) == {'meta', 'state_dict'}
    assert published['meta'] == meta
    assert set(published['state_dict']) == set(student)
    build_model(seed=1).load_state_dict(published['state_dict'], strict=True)


def test_another_ending(tmp_path):
    with pytest.raises(UserError, match=r'must end in \.pth, not student\.zip'):
        publish(tmp_path / 'epoch_1.pth', tmp_path / 'student.zip')
