"""Teachers of the small model, as files."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmps_kd.models.distillers import LookUpTable, identities_sha256, save_lut


@pytest.fixture
def teacher(model_cfg: dict, write_teacher: Callable) -> dict:
    """A teacher with wider features."""
    cfg = copy.deepcopy(model_cfg)
    cfg.backbone.update(base_channels=12, stem_channels=12)
    cfg.rpn_head.update(in_channels=48, feat_channels=48)
    cfg.roi_head.bbox_roi_extractor.out_channels = 48
    cfg.roi_head.bbox_head.in_channels = 48
    cfg.roi_head.reid_head.in_channels = 48
    torch.manual_seed(7)
    return write_teacher(cfg, MODELS.build(cfg))


@pytest.fixture
def lut(tmp_path: Path) -> dict:
    """A table of random rows for the small model."""
    rows = nn.functional.normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(3)), dim=1)
    path = str(tmp_path / 'lut.safetensors')
    save_lut(path, LookUpTable(rows, 'CUHK-SYSU', identities_sha256(range(6)), 'memory', 'teacher.py', '0' * 64))
    return dict(type='LUTDistiller', lut_file=path)
