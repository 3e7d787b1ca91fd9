"""What is read from a work dir: the newest of several."""

import json

import pytest

from mmps_kd.engine.work_dir import last_checkpoint, last_test, last_validation
from mmps_kd.errors import UserError


def test_last_checkpoint(tmp_path):
    with pytest.raises(UserError, match='no trained model in'):
        last_checkpoint(tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    assert last_checkpoint(tmp_path) == tmp_path / 'epoch_2.pth'


def test_last_validation(tmp_path):
    for start, value in (('20260101_000000', 0.1), ('20260102_000000', 0.2)):
        lines = [{'search/mAP': 0.0}, {'search/mAP': value}, {'loss': 1.0}]
        (tmp_path / start / 'vis_data').mkdir(parents=True)
        (tmp_path / start / 'vis_data/scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    assert last_validation(tmp_path) == {'search/mAP': 0.2}


def test_last_test(tmp_path):
    for start, value in (('20260101_000000', 0.1), ('20260102_000000', 0.2)):
        (tmp_path / start).mkdir()
        (tmp_path / start / f'{start}.json').write_text(json.dumps({'search/mAP': value}))
    assert last_test(tmp_path) == {'search/mAP': 0.2}
