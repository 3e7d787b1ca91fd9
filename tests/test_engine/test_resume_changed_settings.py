"""What a resumed run says where its config is not that of the checkpoint, and which samples it goes on with."""

import copy
import logging
import uuid

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmps_kd.errors import UserError
from mmps_kd.models.losses import OIMLoss


@DATASETS.register_module(force=True)
class NumberedSamples(Dataset):
    """``size`` samples that are their index, every third taller than wide; ``people`` as identities."""

    def __init__(self, size=10, people=(3, 5, 8), prefix='a'):
        self.size, self.prefix = size, prefix
        self.metainfo = dict(dataset_name='numbers', identities=tuple(people))

    def __len__(self):
        return self.size

    def get_data_info(self, idx):
        return dict(img_name=f'{self.prefix}{idx}.jpg', width=30, height=40 if idx % 3 == 0 else 20)

    def __getitem__(self, idx):
        return dict(inputs=torch.full((4,), float(idx)))


@MODELS.register_module(force=True)
class TinyOIM(BaseModel):
    """A linear layer and OIM; notes which samples it is trained on."""

    seen = []

    def __init__(self, num_identities=3):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
        self.oim = OIMLoss(num_identities, 2, queue_size=2)

    def forward(self, inputs, mode):
        inputs = torch.stack(inputs)
        self.seen.append(inputs[:, 0].int().tolist())
        embeddings = torch.nn.functional.normalize(self.layer(inputs + 1), dim=1)
        return dict(loss=self.oim(embeddings, torch.arange(len(inputs)) % 3))


CONFIG = dict(
    default_scope='mmdet',
    model=dict(type='TinyOIM'),
    train_dataloader=dict(
        batch_size=2, num_workers=0, sampler=dict(type='ResumableSampler'), dataset=dict(type='NumberedSamples')
    ),
    train_cfg=dict(type='ResumableTrainLoop', max_epochs=2),
    optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01)),
    param_scheduler=[dict(type='MultiStepLR', milestones=[1], gamma=0.5, begin=0, end=9)],
    default_hooks=dict(checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False, interval=1)),
    custom_hooks=[dict(type='ResumeHook'), dict(type='AtomicCheckpointHook', interval=1)],
    randomness=dict(seed=0),
)
NAMES = {
    'lr': 'optim_wrapper.optimizer.lr',
    'momentum': 'optim_wrapper.optimizer.momentum',
    'size': 'train_dataloader.dataset.size',
    'people': 'train_dataloader.dataset.people',
    'prefix': 'train_dataloader.dataset.prefix',
    'batch_size': 'train_dataloader.batch_size',
}


def train(work_dir, monkeypatch, cfg=CONFIG, **changes):
    """Run in this process; returns the batches that were trained on, and the warnings."""
    cfg = Config(copy.deepcopy(cfg))
    cfg.merge_from_dict({NAMES.get(key, key).replace('__', '.'): value for key, value in changes.items()})
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = uuid.uuid4().hex
    warnings = []
    monkeypatch.setattr(TinyOIM, 'seen', [])
    # Collecting the environment's versions and formatting the config take longer than the training.
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
    runner = Runner.from_cfg(cfg)
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())
    runner.logger.addHandler(handler)
    runner.train()
    return TinyOIM.seen, warnings


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Work dir of a run with a checkpoint after each of its ten iterations, and the batches of those."""
    work_dir = tmp_path_factory.mktemp('trained')
    with pytest.MonkeyPatch.context() as patch:
        return work_dir, train(work_dir, patch)[0]


def resume(trained, monkeypatch, tmp_path, file='iter_2.pth', **changes):
    """Go on from a checkpoint of the run with changed settings."""
    return train(tmp_path, monkeypatch, load_from=str(trained[0] / file), resume=True, **changes)


def only(warnings, *starts):
    """The lines that begin with these words, each of which is there once."""
    found = [line for start in starts for line in warnings if line.startswith(start)]
    assert len(found) == len(starts), warnings
    return found


def test_the_same_settings_are_silent_and_go_on(trained, monkeypatch, tmp_path):
    seen, warnings = resume(trained, monkeypatch, tmp_path)
    assert seen == trained[1][2:]
    assert not [line for line in warnings if 'FileClient' not in line and 'HardDisk' not in line]


@pytest.mark.parametrize(
    ('changes', 'start'),
    [
        (dict(lr=0.2), 'optim_wrapper.optimizer.lr: 0.1 in'),
        (dict(momentum=0.5), 'optim_wrapper.optimizer.momentum: 0.9 in'),
        (
            dict(param_scheduler=[dict(type='MultiStepLR', milestones=[1], gamma=0.3, begin=0, end=9)]),
            'param_scheduler[0].gamma: 0.5 in',
        ),
        (dict(randomness__seed=4), 'randomness.seed: 0 in'),
    ],
)
def test_the_checkpoint_wins_and_says_so(trained, monkeypatch, tmp_path, changes, start):
    seen, warnings = resume(trained, monkeypatch, tmp_path, **changes)
    (line,) = only(warnings, start)
    assert 'the value of the checkpoint is used' in line
    assert f"load_from='{trained[0] / 'iter_2.pth'}', without --resume" in line
    assert seen == trained[1][2:]
    state = torch.load(tmp_path / 'iter_10.pth', weights_only=False)
    (group,) = state['optimizer']['param_groups']
    assert (group['initial_lr'], group['momentum'], state['meta']['seed']) == (0.1, 0.9, 0)


def test_the_config_wins_elsewhere_and_says_so(trained, monkeypatch, tmp_path):
    changes = dict(
        train_cfg__max_epochs=3,
        optim_wrapper__accumulative_counts=2,
        optim_wrapper__clip_grad=dict(max_norm=1),
    )
    seen, warnings = resume(trained, monkeypatch, tmp_path, **changes)
    lines = only(
        warnings,
        'train_cfg.max_epochs: 2 in',
        'optim_wrapper.accumulative_counts: None in',
        'optim_wrapper.clip_grad: None in',
    )
    assert [line.split(', ')[1] for line in lines] == [
        '3 now: the new value is used',
        '2 now: the new value is used',
        "{'max_norm': 1} now: the new value is used",
    ]
    assert len(seen) == 3 * 5 - 2


@pytest.mark.parametrize(
    ('changes', 'what'),
    [
        (dict(size=12), 'training images'),
        (dict(prefix='b'), 'training images'),
        (dict(people=[3, 5, 9]), 'identities'),
        (dict(train_dataloader__sampler__shuffle=False), 'train_dataloader.sampler'),
        (dict(train_dataloader__batch_sampler=dict(type='AspectRatioBatchSampler')), 'train_dataloader.batch_sampler'),
    ],
)
def test_the_epoch_begins_again_where_the_samples_come_in_another_order(trained, monkeypatch, tmp_path, changes, what):
    seen, warnings = resume(trained, monkeypatch, tmp_path, **changes)
    (line,) = only(warnings, 'the epoch begins again')
    assert what in line
    assert '4 samples' in line
    only(warnings, f'{what}: ')
    size = changes.get('size', 10)
    assert sorted(sum(seen[: size // 2], [])) == list(range(size))


def test_nothing_is_begun_again_at_an_epochs_end(trained, monkeypatch, tmp_path):
    seen, warnings = resume(trained, monkeypatch, tmp_path, 'epoch_1.pth', size=12)
    assert len(seen) == 6
    assert not [line for line in warnings if 'begins again' in line]


def test_another_batch_size_goes_on_at_the_same_sample(trained, monkeypatch, tmp_path):
    seen, warnings = resume(trained, monkeypatch, tmp_path, batch_size=4)
    only(warnings, 'train_dataloader.batch_size: 2 in', 'the epoch goes on after the 4 samples')
    assert sum(seen[:2], []) == sum(trained[1][2:5], [])


def test_the_table_of_other_people_starts_afresh(trained, monkeypatch, tmp_path):
    """After load_from too, and with as many people; with the same people it is kept."""
    start = dict(load_from=str(trained[0] / 'iter_10.pth'), train_cfg__max_epochs=1, lr=0.0)
    _, warnings = train(tmp_path / 'same', monkeypatch, **start)
    assert not [line for line in warnings if 'afresh' in line]
    _, warnings = train(tmp_path / 'others', monkeypatch, people=[1, 2, 4], **start)
    (line,) = [line for line in warnings if 'afresh' in line]
    assert '3 of numbers' in line
    assert 'the table and the queue of oim start afresh' in line
    _, warnings = train(tmp_path / 'more', monkeypatch, people=[3, 5, 8, 9], model__num_identities=4, **start)
    only(warnings, 'oim.lut has 3 rows in')


def test_a_table_that_starts_afresh_is_empty():
    oim = OIMLoss(3, 2, queue_size=2)
    oim.update(torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([1, -1]))
    oim.reset()
    assert not oim.lut.any()
    assert not oim.queue.any()
    assert oim.queue_head == 0


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(optim_wrapper__optimizer=dict(type='AdamW', _delete_=True)), 'optimizer SGD, the config has AdamW'),
        (dict(param_scheduler=[]), r"param_scheduler \['MultiStepLR'\], the config has \[\]"),
        (dict(param_scheduler=[dict(type='PolyLR')]), "'MultiStepLR'.*'PolyLR'"),
        (dict(optim_wrapper__paramwise_cfg=dict(custom_keys=dict(layer=dict(lr_mult=0.1)))), '1 groups of 2.*3 groups'),
    ],
)
def test_what_the_state_does_not_fit_is_refused(trained, monkeypatch, tmp_path, changes, message):
    with pytest.raises(UserError, match=f'iter_2.pth cannot be resumed.*{message}.*load_from'):
        resume(trained, monkeypatch, tmp_path, **changes)


def test_averaged_weights_without_their_hook(monkeypatch, tmp_path):
    hooks = [*CONFIG['custom_hooks'], dict(type='EMAHook')]
    train(tmp_path, monkeypatch, custom_hooks=hooks)
    _, warnings = train(tmp_path, monkeypatch, load_from=str(tmp_path / 'iter_2.pth'), resume=True)
    (line,) = [line for line in warnings if 'EMAHook' in line]
    assert 'goes on with the averaged weights' in line


def test_a_checkpoint_from_before_settings_were_kept(trained, monkeypatch, tmp_path):
    checkpoint = torch.load(trained[0] / 'iter_2.pth', weights_only=False)
    del checkpoint['meta']['settings']
    torch.save(checkpoint, tmp_path / 'old.pth')
    seen, warnings = resume(trained, monkeypatch, tmp_path, tmp_path / 'old.pth', lr=0.3, batch_size=4)
    only(warnings, 'optim_wrapper.optimizer.lr: 0.1 in')
    assert sum(seen[:2], []) == sum(trained[1][2:5], [])


def test_batches_of_one_aspect_ratio_go_on_where_they_stopped(monkeypatch, tmp_path):
    changes = dict(train_dataloader__batch_sampler=dict(type='AspectRatioBatchSampler'), size=11)
    straight, _ = train(tmp_path / 'a', monkeypatch, **changes)
    assert sorted(sum(straight[:6], [])) == list(range(11))
    tall = [[index % 3 == 0 for index in batch] for batch in straight[:6]]
    assert sum(len(set(batch)) == 1 for batch in tall) >= 5
    for iteration in (1, 5, 6, 8):
        file = str(tmp_path / 'a' / f'iter_{iteration}.pth')
        resumed, _ = train(tmp_path / 'b', monkeypatch, load_from=file, resume=True, **changes)
        assert resumed == straight[iteration:]
    _, warnings = train(tmp_path / 'c', monkeypatch, load_from=file, resume=True, **changes | dict(batch_size=3))
    only(warnings, 'the epoch begins again: train_dataloader.batch_size')
