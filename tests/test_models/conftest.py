"""A SeqNet that runs in milliseconds."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config


@pytest.fixture
def seqnet_cfg(model_cfg: dict, repo_root: Path) -> dict:
    """The demo's SeqNet on the small model's backbone."""
    cfg = Config.fromfile(repo_root / 'configs/demo/seqnet_r18-quarter_mini.py').model
    small = copy.deepcopy(model_cfg)
    cfg.backbone, cfg.rpn_head = small.backbone, small.rpn_head
    cfg.roi_head.bbox_roi_extractor = small.roi_head.bbox_roi_extractor
    cfg.roi_head.bbox_head.update(in_channels=32, fc_out_channels=16)
    cfg.roi_head.second_bbox_head.update(in_channels=32, fc_out_channels=16)
    cfg.roi_head.reid_head.update(in_channels=32, feat_channels=16)
    cfg.roi_head.reid_head.loss_oim = small.roi_head.reid_head.loss_oim
    return cfg


@pytest.fixture
def build_seqnet(seqnet_cfg: dict) -> Callable:
    """Build the small SeqNet with seeded weights; keyword arguments override its config."""

    def build(seed: int = 0, **overrides):
        torch.manual_seed(seed)
        model = MODELS.build({**seqnet_cfg, **overrides})
        model.init_weights()
        return model

    return build
