"""Which files are there while and after checkpoints are written."""

from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EarlyStoppingHook

from mmps_kd.engine import AtomicCheckpointHook
from mmps_kd.errors import UserError
from mmps_kd.evaluation.metrics import PersonDetectionMetric, QueryGuidedSearchMetric


class Runner:
    """Writes empty checkpoints, and notes what was there at that moment."""

    def __init__(self, work_dir):
        self.work_dir = str(work_dir)
        self.message_hub = SimpleNamespace(update_info=lambda key, value: None)
        self.seen = []

    def save_checkpoint(self, out_dir, name, meta, **kwargs):
        self.seen.append(checkpoints(out_dir))
        assert kwargs['backend_args'] == dict(backend='atomic')
        Path(out_dir, name).touch()


def checkpoints(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth'))


def hook_of(work_dir, kept=(), **kwargs):
    hook = AtomicCheckpointHook(interval=1, **kwargs)
    hook.out_dir = str(work_dir)
    hook.keep_ckpt_ids = deque(kept, hook.max_keep_ckpts if hook.max_keep_ckpts > 0 else None)
    return hook


@pytest.mark.parametrize(
    ('number', 'during', 'after'),
    [
        (1, [[], ['1'], ['2']], ['3']),
        (2, [[], ['1'], ['1', '2']], ['2', '3']),
        (-1, [[], ['1'], ['1', '2']], ['1', '2', '3']),
    ],
)
def test_the_oldest_is_removed_after_the_newest_is_written(tmp_path, number, during, after):
    runner, hook = Runner(tmp_path), hook_of(tmp_path, max_keep_ckpts=number)
    for step in (1, 2, 3):
        hook._save_checkpoint_with_step(runner, step, {})
    assert runner.seen == [[f'epoch_{step}.pth' for step in steps] for steps in during]
    assert checkpoints(tmp_path) == [f'epoch_{step}.pth' for step in after]
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_3.pth')


def test_a_step_that_is_written_again_stays(tmp_path):
    runner, hook = Runner(tmp_path), hook_of(tmp_path, max_keep_ckpts=2)
    for step in (1, 2, 2):
        hook._save_checkpoint_with_step(runner, step, {})
    assert checkpoints(tmp_path) == ['epoch_1.pth', 'epoch_2.pth']


def test_an_old_file_that_is_gone(tmp_path):
    hook_of(tmp_path, kept=[1], max_keep_ckpts=1)._save_checkpoint_with_step(Runner(tmp_path), 2, {})
    assert checkpoints(tmp_path) == ['epoch_2.pth']


def test_the_oldest_stays_when_the_newest_cannot_be_written(tmp_path):
    runner, hook = Runner(tmp_path), hook_of(tmp_path, max_keep_ckpts=1)
    hook._save_checkpoint_with_step(runner, 1, {})

    def fail(*args, **kwargs):
        raise UserError('no room')

    runner.save_checkpoint = fail
    with pytest.raises(UserError, match='no room'):
        hook._save_checkpoint_with_step(runner, 2, {})
    assert checkpoints(tmp_path) == ['epoch_1.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')


class OtherMetric(BaseMetric):
    """A metric of which it is not known what it gives."""

    process = compute_metrics = None


def watching(save_best, *metrics, **more):
    """What the hook says before training to a figure, where these metrics validate."""
    hook = AtomicCheckpointHook(interval=1, save_best=save_best, **more.pop('rules', {}))
    evaluator = SimpleNamespace(metrics=list(metrics))
    hub = SimpleNamespace(runtime_info={})
    runner = SimpleNamespace(
        hooks=[hook], work_dir='/w', logger=SimpleNamespace(info=print), message_hub=hub, val_loop=metrics or None
    )
    runner.val_evaluator = evaluator
    runner.hooks += more.get('hooks', [])
    hook.before_train(runner)
    return hook


@pytest.mark.parametrize('name', ['mAP', 'search/top2', 'detection/mAP', 'fitness'])
def test_a_figure_that_no_evaluator_gives_is_an_error_before_training(name):
    metrics = PersonDetectionMetric(), QueryGuidedSearchMetric(topk=(1,), prefix='found')
    given = 'detection/det_ap, detection/det_recall, detection/det_recall_labelled, found/mAP, found/top1'
    with pytest.raises(UserError, match=f"save_best='{name}' is not among .*: choose one of {given}$"):
        watching(name, *metrics)
    stop = EarlyStoppingHook(monitor=name, rule='greater')
    with pytest.raises(UserError, match=f"monitor='{name}' of EarlyStoppingHook is not among .*{given}$"):
        watching(None, *metrics, hooks=[stop])
    with pytest.raises(UserError, match='needs validation'):
        watching(name)


def test_figures_that_are_given_are_watched():
    metrics = PersonDetectionMetric(), QueryGuidedSearchMetric(topk=(1,))
    for name in ('auto', 'search/mAP', 'search/top1', ['detection/det_ap', 'search/mAP']):
        watching(name, *metrics, hooks=[EarlyStoppingHook(monitor='search/mAP')])
    assert watching('detection/det_recall', *metrics).rules == ['greater']


def test_another_packages_metric_may_give_any_figure_with_a_rule():
    watching('coco/bbox_mAP', PersonDetectionMetric(), OtherMetric())
    watching('rmse', OtherMetric(), rules=dict(rule='less'))
    with pytest.raises(UserError, match='Cannot infer the rule for key rmse'):
        watching('rmse', OtherMetric())
