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
    """The demo's SeqNet on the small model's backbone, without layers between RoI features and heads."""
    cfg = Config.fromfile(repo_root / 'configs/demo/seqnet_r18-quarter_mini.py').model
    small = copy.deepcopy(model_cfg)
    cfg.backbone, cfg.rpn_head = small.backbone, small.rpn_head
    cfg.roi_head.bbox_roi_extractor = small.roi_head.bbox_roi_extractor
    cfg.roi_head.update(shared_head=None, second_shared_head=None, embed_final_boxes=True)
    heads = dict(
        type='Shared2FCBBoxHead', in_channels=32, fc_out_channels=16, with_avg_pool=False, roi_feat_size=(8, 4)
    )
    cfg.roi_head.bbox_head.update(heads)
    cfg.roi_head.second_bbox_head.update(heads, reg_predictor_cfg=dict(type='Linear'))
    cfg.roi_head.reid_head.update(in_channels=32, before_channels=None, num_convs=1, with_avg_pool=False)
    cfg.roi_head.reid_head.update(roi_feat_size=(8, 4), feat_channels=16)
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
