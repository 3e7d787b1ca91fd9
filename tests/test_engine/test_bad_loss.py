"""Training on images that make the losses NaN, in processes of their own."""

import pytest
from mmengine.config import Config

from mmps_kd.models.utils.checkpoint_io import read_checkpoint


@pytest.fixture
def train(runs, run_configs, tmp_path):
    """Train the small model, the images of some iterations spoilt on the last rank."""

    def train(iterations, ranks, options=()):
        cfg = Config.fromfile(run_configs['plain'], import_custom_modules=False)
        cfg.custom_imports.imports.append('spoil_images')
        cfg.custom_hooks.append(dict(type='SpoilImages', iterations=iterations, rank=ranks - 1))
        cfg.train_dataloader.batch_size = 2 // ranks
        cfg.dump(tmp_path / 'spoilt.py')
        runs.configs['spoilt'] = tmp_path / 'spoilt.py'
        return runs.train('spoilt', tmp_path / 'work', options, ranks=ranks)

    return train


def checkpoints(folder):
    return sorted(path.name for path in (folder / 'work').glob('*.pth'))


def test_it_stops_with_one_line(train, tmp_path):
    stopped = train([8], ranks=1)
    assert stopped.code == 1
    line = stopped.output.splitlines()[-1]
    assert line.startswith('error: loss_rpn_cls is nan, loss_rpn_bbox is nan, ')
    assert line.count('/Image/SSM/s') == 2
    assert 'Traceback' not in stopped.output
    assert checkpoints(tmp_path) == ['epoch_1.pth']


@pytest.mark.slow
def test_all_ranks_stop(train, tmp_path):
    stopped = train([8], ranks=2)
    assert stopped.code == 1
    assert stopped.output.count('error: loss_rpn_cls is nan, ') == 1
    assert stopped.output.count('error: the loss of another process is not finite: nothing was updated; ') == 1
    assert checkpoints(tmp_path) == ['epoch_1.pth']


@pytest.mark.slow
@pytest.mark.parametrize('ranks', [1, 2])
def test_they_are_skipped(train, tmp_path, ranks):
    done = train([3, 8, 9], ranks, ["train_cfg.on_bad_loss='skip'"])
    assert done.code == 0, done.output
    assert [f'iteration {number} skipped: ' in done.output for number in (4, 5, 9, 10)] == [True, False, True, True]
    state = read_checkpoint(tmp_path / 'work/epoch_2.pth')['state_dict']
    assert all(value.isfinite().all() for value in state.values())
