"""Configs by their names, and the pipeline for tests that they hold."""

import difflib
import os
from pathlib import Path

from mmengine.config import Config

import mmps_kd
from mmps_kd.errors import UserError


def read_config(config: str | os.PathLike | Config) -> Config:
    """Read a config.

    Args:
        config: A file, the name of one that comes with the package, such as ``oim_r50_20e_cuhk-sysu``, or a config,
            which is given back.

    Raises:
        UserError: If there is none of that name.
    """
    if isinstance(config, Config):
        return config
    if Path(config).is_file():
        return Config.fromfile(config)
    shipped = {path.stem: path for path in Path(mmps_kd.__file__).with_name('.mim').glob('configs/[!_]*/*.py')}
    if str(config) not in shipped:
        similar = difflib.get_close_matches(Path(config).stem, shipped, n=3)
        hint = f'; did you mean {", ".join(similar)}?' if similar else ''
        raise UserError(f'there is no config file {config}, and none of that name in the package{hint}')
    return Config.fromfile(shipped[str(config)])


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
