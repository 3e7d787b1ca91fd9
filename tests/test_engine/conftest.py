"""Small runs of tools/train.py that can be killed: their configs, and processes that run them."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import forked_tool
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmps_kd.models.distillers import LookUpTable, identities_sha256, save_lut
from mmps_kd.models.utils.checkpoint_io import read_checkpoint

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # kill_at.py, of the configs


def _narrow(model: Config, width: int) -> Config:
    model.backbone.update(base_channels=width, stem_channels=width)
    model.rpn_head.update(in_channels=4 * width, feat_channels=4 * width)
    model.roi_head.bbox_roi_extractor.out_channels = 4 * width
    model.roi_head.bbox_head.update(in_channels=4 * width, fc_out_channels=16)
    model.roi_head.reid_head.update(in_channels=4 * width, feat_channels=16)
    model.roi_head.reid_head.loss_oim.update(num_identities=6, queue_size=10)
    return model


def _plain(repo_root: Path, data_root: Path) -> Config:
    """Two epochs of six iterations."""
    cfg = Config.fromfile(repo_root / 'configs/demo/oim_r18-quarter_mini.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = f'{data_root}/'
        loader.dataset.pipeline[2].scale = (160, 120)
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg.update(max_epochs=2, val_interval=1)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 3
    cfg.param_scheduler[1].milestones = [1]
    cfg.custom_hooks.append(dict(type='KillAt'))
    cfg.custom_imports.imports.append('kill_at')
    _narrow(cfg.model, 8)
    return cfg


def _write_teacher(model: Config, folder: Path) -> dict:
    Config(dict(model=model)).dump(folder / 'teacher.py')
    torch.manual_seed(7)
    torch.save(dict(state_dict=MODELS.build(model).state_dict(), meta={}), folder / 'teacher.pth')
    return dict(config=str(folder / 'teacher.py'), checkpoint=str(folder / 'teacher.pth'))


def _write_lut(cfg: Config, folder: Path) -> dict:
    identities = DATASETS.build(cfg.train_dataloader.dataset).metainfo['identities']
    rows = torch.nn.functional.normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(3)), dim=1)
    table = LookUpTable(rows, 'CUHK-SYSU', identities_sha256(identities), 'memory', 'teacher.py', '0' * 64)
    save_lut(folder / 'lut.safetensors', table)
    return dict(type='LUTDistiller', lut_file=str(folder / 'lut.safetensors'), thaw_epoch=1)


@pytest.fixture(scope='session')
def run_configs(repo_root: Path, tiny_cuhk_sysu: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Config files by what they train; everything that has a state of its own is in one of them."""
    init_default_scope('mmdet')
    folder = tmp_path_factory.mktemp('resume')
    plain = _plain(repo_root, tiny_cuhk_sysu)
    lut, detector, ema, everything = (copy.deepcopy(plain) for _ in range(4))
    lut.model.update(type='PersonSearchDistiller', lut=_write_lut(plain, folder))
    detector.model.update(
        type='PersonSearchDistiller',
        teacher=_write_teacher(_narrow(copy.deepcopy(plain.model), 12), folder),
        distillation=[
            dict(
                at='backbone.0',
                adapter='conv3x3_relu',
                mask='fine_grained',
                loss=dict(type='FeatureImitationLoss', mode='fine_grained', warmup_iters=3),
            ),
            dict(at='rpn.cls', hard_weight=0.5, loss=dict(type='LogitDistillationLoss', loss_weight=0.5)),
            dict(at='roi.bbox', loss=dict(type='BoundedRegressionLoss')),
        ],
    )
    ema.custom_hooks.append(dict(type='EMAHook'))
    everything.model.update(detector.model, lut=lut.model.lut)
    everything.custom_hooks.append(dict(type='EMAHook'))
    configs = dict(plain=plain, lut=lut, detector=detector, ema=ema, everything=everything)
    for name, cfg in configs.items():
        cfg.dump(folder / f'{name}.py')
    return {name: folder / f'{name}.py' for name in configs}


class Runs:
    """Runs of tools/train.py in processes of their own, and where they end."""

    def __init__(self, root: Path, configs: dict[str, Path], folder: Path) -> None:
        self.root = root
        self.configs = configs
        self.folder = folder
        self.uninterrupted: dict[tuple, Path] = {}

    def train(
        self,
        part: str,
        work_dir: Path,
        options: Sequence[str] = (),
        resume: bool = False,
        kill: dict | None = None,
        before: Callable[[], None] | None = None,
        ranks: int = 1,
    ) -> SimpleNamespace:
        """Train a config: the process's exit code (-9 where SIGKILL ended it) and what it printed.

        Args:
            part: Name of the config.
            work_dir: Of the run.
            options: For ``--cfg-options``; validation is left out unless they say otherwise.
            resume: Go on from the newest checkpoint.
            kill: A plan of :class:`KillAt`.
            before: See :func:`forked_tool.run`; of a single rank only.
            ranks: One is forked, to spare it the imports; several are started by tools/dist_train.sh.
        """
        log = self.folder / f'log{len(list(self.folder.glob("log*")))}.txt'
        arguments = [str(self.configs[part]), '--work-dir', str(work_dir), *(['--resume'] if resume else [])]
        arguments += ['--cfg-options', 'train_cfg.val_begin=9', *options]
        environment = dict(KILL_AT=json.dumps(kill), PYTHONPATH=str(HERE))
        if ranks == 1:
            code = forked_tool.run(str(self.root / 'tools/train.py'), arguments, log, environment, before)
        else:
            code = self._launched(arguments, log, ranks, environment)
        return SimpleNamespace(code=code, output=log.read_text())

    def _launched(self, arguments: list[str], log: Path, ranks: int, environment: dict[str, str]) -> int:
        path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
        env = {**os.environ, **environment, 'PATH': path, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
        config, *options = arguments
        with open(log, 'w') as out:
            command = [self.root / 'tools/dist_train.sh', config, str(ranks), *options]
            return subprocess.run(command, env=env, stdout=out, stderr=out, check=False).returncode

    def straight(self, part: str, options: Sequence[str] = (), ranks: int = 1) -> Path:
        """Work dir of a run that nothing happened to; it is trained once."""
        key = (part, ranks, *options)
        if key not in self.uninterrupted:
            work_dir = self.folder / f'straight{len(self.uninterrupted)}'
            done = self.train(part, work_dir, options, ranks=ranks)
            assert done.code == 0, done.output
            self.uninterrupted[key] = work_dir
        return self.uninterrupted[key]

    @staticmethod
    def differences(ours: Path, theirs: Path) -> list[str]:
        """Where the last checkpoints of two work dirs are not equal bit for bit."""
        return _differences(*map(_final_state, (ours, theirs)))


def _final_state(work_dir: Path) -> dict:
    checkpoint = read_checkpoint((work_dir / 'last_checkpoint').read_text())
    parts = ('state_dict', 'optimizer', 'param_schedulers', 'ema_state_dict', 'position')
    return {name: checkpoint[name] for name in parts if name in checkpoint}


def _differences(ours, theirs, path: str = '') -> list[str]:
    if isinstance(ours, list) and isinstance(theirs, list):
        ours, theirs = dict(enumerate(ours)), dict(enumerate(theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f'{path}.{key}' for key in ours.keys() ^ theirs.keys()]
        for key in ours.keys() & theirs.keys():
            found += _differences(ours[key], theirs[key], f'{path}.{key}')
        return found
    equal = torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    return [] if equal else [path]


@pytest.fixture(scope='session')
def runs(repo_root: Path, run_configs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Small runs that can be killed and resumed."""
    return Runs(repo_root, run_configs, tmp_path_factory.mktemp('runs'))
