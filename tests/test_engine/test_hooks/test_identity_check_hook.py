"""Table and data are compared before training."""

import logging
from types import SimpleNamespace

import pytest
from mmdet.registry import MODELS

from mmps_kd.engine import IdentityCheckHook
from mmps_kd.errors import UserError


def runner(model, identities):
    dataset = SimpleNamespace(metainfo=dict(identities=tuple(range(identities)), classes=('person',)))
    loader = SimpleNamespace(dataset=dataset)
    loaders = dict(train_dataloader=loader, val_dataloader=loader, test_dataloader=loader)
    return SimpleNamespace(model=model, **loaders, logger=logging.getLogger('identities'))


def test_more_identities_than_rows(build_model):
    with pytest.raises(UserError, match='7 identities.*loss_oim has 6 rows.*num_identities=7'):
        IdentityCheckHook().before_train(runner(build_model(), 7))


def test_fewer_identities_are_said(build_model, caplog):
    with caplog.at_level(logging.WARNING):
        IdentityCheckHook().before_train(runner(build_model(), 5))
    assert 'num_identities=5' in caplog.text


def test_equal_numbers_are_silent(build_model, caplog):
    IdentityCheckHook().before_train(runner(build_model(), 6))
    assert [r for r in caplog.records if r.name == 'identities'] == []


@pytest.mark.parametrize('point', ['before_train', 'before_val', 'before_test'])
def test_heads_have_the_classes_of_the_data(model_cfg, point):
    roi_head = {key: value for key, value in model_cfg.roi_head.items() if key != 'reid_head'}
    roi_head.update(type='StandardRoIHead', bbox_head=dict(roi_head['bbox_head'], num_classes=2))
    rpn_head = dict(model_cfg.rpn_head, type='RPNHead')
    model = MODELS.build({**model_cfg, 'type': 'FasterRCNN', 'roi_head': roi_head, 'rpn_head': rpn_head})
    with pytest.raises(UserError, match=r'roi_head\.bbox_head has num_classes=2, the data set 1 \(person\): set num_c'):
        getattr(IdentityCheckHook(), point)(runner(model, 0))


def test_a_search_model_has_one_class(build_model, model_cfg):
    model_cfg.roi_head.bbox_head.num_classes = 2
    with pytest.raises(UserError, match=r'roi_head\.bbox_head has num_classes=2: a person search is for one class'):
        build_model()
