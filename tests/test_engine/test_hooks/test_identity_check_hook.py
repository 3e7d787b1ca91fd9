"""Table and data are compared before training."""

import logging
from types import SimpleNamespace

import pytest

from mmps_kd.engine import IdentityCheckHook
from mmps_kd.errors import UserError


def runner(model, identities):
    dataset = SimpleNamespace(metainfo=dict(identities=tuple(range(identities))))
    loader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(model=model, train_dataloader=loader, logger=logging.getLogger('identities'))


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
