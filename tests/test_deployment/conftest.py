"""Small models whose scores differ clearly, so that rounding does not change an order."""

from collections.abc import Callable

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmps_kd.models.detectors import PersonSearchRCNN


@pytest.fixture(scope='session')
def spread_model(repo_root, shrink) -> Callable:
    """Build a config's model, made narrow, with seeded weights; keyword arguments go into its RoI head's test_cfg."""

    def build(config: str, **test_cfg) -> PersonSearchRCNN:
        init_default_scope('mmdet')
        cfg = Config.fromfile(repo_root / 'configs' / config)
        shrink(cfg)
        cfg.model.test_cfg.rcnn.update(max_per_img=7, **test_cfg)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
        for name, weight in model.named_parameters():
            if any(layer in name for layer in ('rpn_cls.', 'rpn_reg.', 'fc_cls.', 'fc_reg.')):
                nn.init.normal_(weight, std=0.1)
        return model.eval()

    return build


@pytest.fixture
def noise() -> Callable:
    """An image (H, W, 3) of noise."""

    def make(height: int, width: int) -> Tensor:
        generator = torch.Generator().manual_seed(height)
        return torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)

    return make


@pytest.fixture(scope='session')
def predict() -> Callable:
    """What a model itself finds in an image: boxes, scores, embeddings."""

    def run(model: PersonSearchRCNN, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        meta = dict(img_shape=image.shape[:2], ori_shape=image.shape[:2], scale_factor=(1.0, 1.0))
        batch = dict(inputs=[image.permute(2, 0, 1)], data_samples=[DetDataSample(metainfo=meta)])
        with torch.inference_mode():
            found = model.test_step(batch)[0].pred_instances
        return found.bboxes, found.scores, found.embeddings

    return run
