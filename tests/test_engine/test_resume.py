"""A run that was killed and resumed ends where the run that was not ends, bit for bit."""

import signal

import forked_tool
import pytest

BY_ITERATION = ['default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=2']
BY_EPOCH = []
WORKER = ['train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True']
IN_EPOCH_1 = (BY_ITERATION, 'before_train_iter', 5)
IN_EPOCH_2 = (BY_ITERATION, 'after_train_iter', 10)
BETWEEN_EPOCHS = (BY_ITERATION, 'before_train_iter', 6)
IN_VALIDATION = (BY_EPOCH, 'before_val_iter', 4)
AFTER_VALIDATION = (BY_EPOCH, 'after_val_epoch', 0)
MOMENTS = [IN_EPOCH_1, IN_EPOCH_2, BETWEEN_EPOCHS, IN_VALIDATION, AFTER_VALIDATION]
CASES = [('plain', moment, workers) for moment in MOMENTS for workers in ([], WORKER)] + [
    (part, moment, workers)
    for part in ('lut', 'detector', 'ema')
    for moment, workers in ((IN_EPOCH_1, WORKER), (BETWEEN_EPOCHS, []), (AFTER_VALIDATION, []))
]


VALIDATE = ['train_cfg.val_begin=1']
ONE_EPOCH = ['train_cfg.max_epochs=1']


def kill_and_resume(runs, part, work_dir, options, point, count, **how):
    kill = dict(point=point, count=count, signal=signal.SIGKILL)
    killed = runs.train(part, work_dir, options, kill=kill, **how)
    # torchrun ends with code 1 after it has ended the other ranks.
    assert killed.code == (1 if how.get('ranks') else -signal.SIGKILL), killed.output
    resumed = runs.train(part, work_dir, options, resume=True, **how)
    assert resumed.code == 0, resumed.output


def test_killed_in_the_middle_of_an_epoch(runs, tmp_path):
    options = BY_ITERATION + ONE_EPOCH
    kill_and_resume(runs, 'plain', tmp_path, options, 'before_train_iter', 3)
    assert runs.differences(tmp_path, runs.straight('plain', options)) == []


@pytest.mark.slow
@pytest.mark.parametrize(('part', 'moment', 'workers'), CASES)
def test_killed_anywhere(runs, tmp_path, part, moment, workers):
    """The uninterrupted run loads data in its main process and does not validate: nothing depends on either."""
    options, point, count = moment
    kill_and_resume(runs, part, tmp_path, options + workers + VALIDATE, point, count)
    assert runs.differences(tmp_path, runs.straight(part, options)) == []


@pytest.mark.slow
@pytest.mark.parametrize('moment', [IN_EPOCH_2, AFTER_VALIDATION])
def test_one_of_two_ranks_is_killed(runs, tmp_path, moment):
    """All parts with a state at once, the position of both ranks, and a loading process for each."""
    options, point, count = moment
    options = [*options, 'train_dataloader.batch_size=1']
    more = WORKER + (VALIDATE if moment is AFTER_VALIDATION else [])
    kill_and_resume(runs, 'everything', tmp_path, options + more, point, count, ranks=2)
    assert runs.differences(tmp_path, runs.straight('everything', options, ranks=2)) == []


@pytest.mark.slow
@pytest.mark.parametrize('forget', ['forget_streams', 'forget_position', 'forget_samples'])
def test_it_takes_all_three_to_be_equal(runs, tmp_path, forget):
    options = BY_ITERATION + ONE_EPOCH + WORKER
    assert runs.train('plain', tmp_path / 'straight', options, before=getattr(forked_tool, forget)).code == 0
    kill_and_resume(
        runs, 'plain', tmp_path / 'resumed', options, 'before_train_iter', 3, before=getattr(forked_tool, forget)
    )
    weights = '.state_dict.backbone.conv1.weight'
    assert weights in runs.differences(tmp_path / 'resumed', tmp_path / 'straight')
