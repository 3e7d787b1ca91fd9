"""A distilled student in the runner: stopped and resumed, averaged, optimised; and whom it may learn from."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmps_kd.compat import load_from_file
from mmps_kd.errors import UserError
from mmps_kd.models.distillers import LookUpTable, identities_sha256, save_lut
from mmps_kd.models.utils.checkpoint_io import load_teacher

TERMS = [
    dict(
        at='backbone.0',
        adapter='conv3x3_relu',
        mask='fine_grained',
        loss=dict(type='FeatureImitationLoss', mode='fine_grained', warmup_iters=2),
    ),
    dict(at='rpn.cls', hard_weight=0.5, loss=dict(type='LogitDistillationLoss', loss_weight=0.5)),
    dict(at='roi.bbox', loss=dict(type='BoundedRegressionLoss')),
    dict(at='roi.embedding', loss=dict(type='IDFeatureLoss')),
]


class SeedEpochs(Hook):
    """Draw the same random numbers in an epoch, whether the run was stopped before it or not."""

    def before_train_epoch(self, runner):
        torch.manual_seed(runner.epoch)
        np.random.seed(runner.epoch)


def small(model, width):
    """Narrow a model of the demo."""
    model.backbone.update(base_channels=width, stem_channels=width)
    model.rpn_head.update(in_channels=4 * width, feat_channels=4 * width)
    model.roi_head.bbox_roi_extractor.out_channels = 4 * width
    model.roi_head.bbox_head.update(in_channels=4 * width, fc_out_channels=16)
    model.roi_head.reid_head.update(in_channels=4 * width, feat_channels=16)
    model.roi_head.reid_head.loss_oim.update(num_identities=6, queue_size=10)
    return model


def write_teacher(cfg, path, seed):
    torch.manual_seed(seed)
    torch.save(dict(state_dict=MODELS.build(cfg).state_dict(), meta={}), path)
    return str(path)


def write_lut(identities, path, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(len(identities), 16, generator=generator), dim=1)
    save_lut(path, LookUpTable(rows, 'CUHK-SYSU', identities_sha256(identities), 'memory', 'teacher.py', str(seed)))
    return str(path)


@pytest.fixture(scope='module')
def setting(repo_root, tiny_cuhk_sysu, tmp_path_factory):
    """Config of two epochs of three iterations, with the usual hooks and an averaged copy of the model."""
    init_default_scope('mmdet')
    folder = tmp_path_factory.mktemp('distilled')
    cfg = Config.fromfile(repo_root / 'configs/demo/oim_r18-quarter_mini.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = f'{tiny_cuhk_sysu}/'
    teacher = small(copy.deepcopy(cfg.model), 12)
    Config(dict(model=teacher)).dump(folder / 'teacher.py')
    identities = DATASETS.build(cfg.train_dataloader.dataset).metainfo['identities']
    small(cfg.model, 8).update(
        type='PersonSearchDistiller',
        teacher=dict(config=str(folder / 'teacher.py'), checkpoint=write_teacher(teacher, folder / 'teacher.pth', 7)),
        distillation=TERMS,
        lut=dict(type='LUTDistiller', lut_file=write_lut(identities, folder / 'lut.safetensors', 3)),
    )
    cfg.train_cfg.update(max_epochs=2, val_interval=9)
    cfg.custom_hooks.append(dict(type='EMAHook'))
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    return SimpleNamespace(cfg=cfg, folder=folder, teacher=teacher, identities=identities)


def train(cfg, work_dir, **overrides):
    cfg = copy.deepcopy(cfg)
    cfg.update(work_dir=str(work_dir), experiment_name=work_dir.name, **overrides)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(SeedEpochs())
    runner.train()
    return runner


def read(checkpoint):
    return load_from_file(checkpoint)


@pytest.fixture(scope='module')
def straight(setting):
    """A run of both epochs in one go, its teachers counted."""
    loaded = []

    def counting(*args):
        loaded.append(load_teacher(*args))
        return loaded[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmps_kd.models.distillers.teacher.load_teacher', counting)
        runner = train(setting.cfg, setting.folder / 'straight')
    return SimpleNamespace(runner=runner, loaded=loaded)


def assert_equal(ours, theirs, path=''):
    """Compare what a checkpoint holds, bit for bit."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), path
        ours, theirs = ours.items(), theirs.items()
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), path
    elif isinstance(ours, str | bytes) or not hasattr(ours, '__iter__'):
        assert ours == theirs, path
    else:
        for mine, other in zip(ours, theirs, strict=True):
            assert_equal(mine, other, f'{path}.{mine[0]}' if isinstance(mine, tuple) else path)


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_run_in_one_go(setting, straight, tmp_path):
    checkpoint = setting.folder / 'straight/epoch_1.pth'
    train(setting.cfg, tmp_path / 'resumed', resume=True, load_from=str(checkpoint))
    before, whole, resumed = (
        read(file) for file in (checkpoint, setting.folder / 'straight/epoch_2.pth', tmp_path / 'resumed/epoch_2.pth')
    )
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(resumed[part], whole[part], part)
    # The second epoch did something, to the adaptation layer and its optimizer state too.
    adapter = 'distillation.0.adapter.0.weight'
    assert not torch.equal(before['ema_state_dict'][f'module.{adapter}'], whole['ema_state_dict'][f'module.{adapter}'])
    assert whole['state_dict']['distillation.0.loss.iteration'] == 6
    assert len(whole['optimizer']['state']) == len(list(straight.runner.model.parameters()))


def other_teacher(setting):
    setting.cfg.model.teacher.checkpoint = write_teacher(setting.teacher, setting.folder / 'other.pth', 8)


def other_table(setting):
    setting.cfg.model.lut.lut_file = write_lut(setting.identities, setting.folder / 'other.safetensors', 4)


@pytest.mark.slow
@pytest.mark.parametrize(('change', 'role'), [(other_teacher, 'teacher'), (other_table, 'table')])
def test_nothing_is_resumed_with_another_teacher(setting, straight, tmp_path, change, role):
    changed = SimpleNamespace(**{**vars(setting), 'cfg': copy.deepcopy(setting.cfg)})
    change(changed)
    checkpoint = str(setting.folder / 'straight/epoch_1.pth')
    with pytest.raises(UserError, match=f'the run to resume had {role} '):
        train(changed.cfg, tmp_path / role, resume=True, load_from=checkpoint)


@pytest.mark.slow
def test_the_optimizer_has_the_student_and_its_adapters_alone(setting, straight):
    groups = straight.runner.optim_wrapper.optimizer.param_groups
    optimised = {id(p) for group in groups for p in group['params']}
    student = MODELS.build({**small_student(setting), 'type': 'PersonSearchRCNN'})
    names = {name for name, p in straight.runner.model.named_parameters() if id(p) in optimised}
    adapters = {f'distillation.0.adapter.0.{name}' for name in ('weight', 'bias')}
    assert names == {name for name, _ in student.named_parameters()} | adapters
    assert len(optimised) == len(names)


def small_student(setting):
    return {key: value for key, value in setting.cfg.model.items() if key not in ('teacher', 'distillation', 'lut')}


@pytest.mark.slow
def test_one_teacher_is_loaded_and_the_averaged_copy_shares_it(straight):
    (teacher,) = straight.loaded
    (averaged,) = (hook.ema_model for hook in straight.runner.hooks if isinstance(hook, EMAHook))
    assert averaged.module is not straight.runner.model
    assert averaged.module.teacher is straight.runner.model.teacher
    assert straight.runner.model.teacher.model is teacher
    its_own = {id(p) for p in teacher.parameters()}
    assert not its_own & {id(p) for p in averaged.parameters()}
    assert [p.shape for p in averaged.module.parameters()] == [p.shape for p in straight.runner.model.parameters()]
    assert not any('teacher' in name for name in averaged.state_dict())
    assert not any(module.training for module in teacher.modules())
