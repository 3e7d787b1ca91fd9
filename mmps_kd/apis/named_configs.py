"""Configs by their names."""

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
