"""A config and its trained model: what every tool and notebook starts from."""

import difflib
import os
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

import mmps_kd
from mmps_kd.compat import type_name
from mmps_kd.errors import UserError
from mmps_kd.models.utils.checkpoint_io import load_weights, read_checkpoint

TEACHING = ('teacher', 'distillation', 'lut', 'box_lut', 'enabled')
"""What a distiller takes beside its student's config."""
STUDENTS = {'PersonSearchDistiller': 'PersonSearchRCNN', 'QEEPSDistiller': 'QEEPS'}
"""A distiller's student."""


def load_config(config: str | os.PathLike | Config, cfg_options: dict | None = None) -> Config:
    """Read a config.

    Args:
        config: A file, the name of one that comes with the package, such as ``oim_r50_20e_cuhk-sysu``, or a config.
        cfg_options: Overrides by key, such as ``{'model.test_cfg.rcnn.score_thr': 0.1}``.

    Returns:
        The config, overrides merged, with mmdet's scope if it names none.

    Raises:
        UserError: If there is none of that name.
    """
    if not isinstance(config, Config):
        file = Path(config)
        if not file.is_file():
            shipped = {path.stem: path for path in Path(mmps_kd.__file__).with_name('.mim').glob('configs/[!_]*/*.py')}
            if str(config) not in shipped:
                similar = difflib.get_close_matches(file.stem, shipped, n=3)
                hint = f'; did you mean {", ".join(similar)}?' if similar else ''
                raise UserError(f'there is no config file {config}, and none of that name in the package{hint}')
            file = shipped[str(config)]
        config = Config.fromfile(file)
    config.merge_from_dict(cfg_options or {})
    config.default_scope = config.get('default_scope') or 'mmdet'
    return config


def init_model(
    config: str | os.PathLike | Config, checkpoint: str | os.PathLike, device: str | torch.device | None = None
) -> nn.Module:
    """Build the model of a config with trained weights, for inference; of a distilled student without its teachers.

    LUTs and queues of OIM are for training alone and left aside: they may have any size, or be absent.

    Args:
        config: See :func:`load_config`.
        checkpoint: Trained weights, see :func:`read_checkpoint`.
        device: Where the model goes, such as ``cuda:1``; None for the GPU if there is one.

    Returns:
        The model in eval mode.

    Raises:
        UserError: If there is no such config, checkpoint or device, or they do not fit.
    """
    cfg, device = load_config(config), find_device(device)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(plain_student(cfg.model))
    state = {key: value for key, value in read_checkpoint(checkpoint)['state_dict'].items() if not _of_oim(key)}
    own = {key: value for key, value in model.state_dict().items() if _of_oim(key)}
    load_weights(model, {**state, **own}, str(checkpoint))
    return model.to(device).eval()


def plain_student(model_cfg: dict) -> dict:
    """The config of a distiller's student alone; any other config is given back as it is.

    Args:
        model_cfg: ``cfg.model``; left as it is.

    Returns:
        Config of a detector that reads no file of a teacher.
    """
    name = type_name(model_cfg['type'])
    if name not in STUDENTS:
        return model_cfg
    student = {key: value for key, value in model_cfg.items() if key not in TEACHING}
    return {**student, 'type': STUDENTS[name]}


def require_search_model(cfg: Config) -> None:
    """Refuse models that give no embedding of their own to a person.

    Raises:
        UserError: For a query-guided model and for a plain detector.
    """
    name = Path(cfg.filename or 'the config').name
    model = type_name(cfg.model['type'])
    if STUDENTS.get(model, model) == 'QEEPS':
        raise UserError(
            f'{name} is a query-guided model, which looks at query and gallery together: use tools/test.py, or '
            'search with a student that learnt from it'
        )
    if 'reid_head' not in (cfg.model.get('roi_head') or {}):
        raise UserError(f'{name} has no re-identification head (model.roi_head.reid_head): it cannot search')


def find_device(name: str | torch.device | None) -> torch.device:
    """The device of that name; None for the GPU if there is one, else the CPU.

    Raises:
        UserError: If it is not there.
    """
    if name is None:
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'device {name} cannot be used: {str(error).splitlines()[0]}') from None


def test_pipeline(cfg: Config) -> list[dict]:
    """Steps that prepare an image for the model in a test: of ``test_dataloader``, else of ``val_dataloader``.

    Raises:
        UserError: If the config has neither.
    """
    for key in ('test_dataloader', 'val_dataloader'):
        if cfg.get(key):
            return unwrapped(cfg[key].dataset).pipeline
    raise UserError(
        f'{Path(cfg.filename or "the config").name} has no test_dataloader, whose pipeline says how images are '
        'prepared: to train without a test set, set it to None by --cfg-options of tools/train.py alone'
    )


def unwrapped(dataset: dict) -> dict:
    """Config of the data set inside wrappers such as ``RepeatDataset`` and :class:`QueryGalleryPairDataset`."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _of_oim(key: str) -> bool:
    return '.loss_oim.' in key
