"""A SeqNet that runs in milliseconds; teachers as files, and their students."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn


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


@pytest.fixture
def write_teacher(tmp_path: Path) -> Callable:
    """Write a model's config and weights; returns how a student names them."""

    def write(cfg: dict, model: nn.Module) -> dict:
        Config(dict(model=cfg)).dump(tmp_path / 'teacher.py')
        torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'teacher.pth')
        return dict(config=str(tmp_path / 'teacher.py'), checkpoint=str(tmp_path / 'teacher.pth'))

    return write


@pytest.fixture
def build_taught(build_model: Callable, model_cfg: dict, write_teacher: Callable) -> Callable:
    """Build a student whose teacher has its config, but for what is changed, and the weights of a seed."""

    def build(terms: list[dict], seed: int = 7, answers: str = 'heads', **changes):
        cfg = Config(dict(model=copy.deepcopy(model_cfg)))
        cfg.merge_from_dict(changes)
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model)
        model.init_weights()
        teacher = dict(**write_teacher(cfg.model, model), answers=answers)
        return build_model(type='PersonSearchDistiller', teacher=teacher, distillation=terms)

    return build
