"""Who taught is said, kept and compared."""

import logging
from types import SimpleNamespace

import pytest

from mmps_kd.engine import DistillationHook
from mmps_kd.errors import UserError
from mmps_kd.models.detectors import PersonSearchDistiller

NOW = dict(teacher=dict(config='teacher.py', sha256='aa'), table=None)


@pytest.fixture
def runner(build_model):
    model = build_model(type='PersonSearchDistiller')
    assert isinstance(model, PersonSearchDistiller)
    model.teachers = lambda: NOW
    return SimpleNamespace(model=model, logger=logging.getLogger('distillation'), cfg=dict(resume=True))


def test_objective_is_printed(runner, caplog):
    with caplog.at_level(logging.INFO):
        DistillationHook().before_train(runner)
    assert 'objective: 1 * loss_rpn_cls + ' in caplog.text


def test_teachers_travel_in_the_checkpoint(runner):
    checkpoint = dict(meta={})
    DistillationHook().before_save_checkpoint(runner, checkpoint)
    assert checkpoint['meta']['teachers'] == NOW
    DistillationHook().after_load_checkpoint(runner, checkpoint)


def test_another_teacher_on_resume(runner):
    checkpoint = dict(meta=dict(teachers=dict(NOW, teacher=dict(config='teacher.py', sha256='bb'))))
    with pytest.raises(UserError, match="had teacher .*'bb'.*the config has .*'aa'"):
        DistillationHook().after_load_checkpoint(runner, checkpoint)
    runner.cfg['resume'] = False
    DistillationHook().after_load_checkpoint(runner, checkpoint)


def test_a_plain_student_has_none(build_model):
    checkpoint = dict(meta={})
    plain = SimpleNamespace(model=build_model(), logger=None, cfg=dict(resume=True))
    DistillationHook().before_train(plain)
    DistillationHook().before_save_checkpoint(plain, checkpoint)
    assert checkpoint == dict(meta={})
