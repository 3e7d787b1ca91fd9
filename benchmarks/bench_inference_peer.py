"""Inference beside torchvision's Faster R-CNN with the same layers and weights, in turns in one run on a CPU.

The peer is torchvision's ``FasterRCNN``: ResNet-50 up to conv4, RoIAlign, conv5, its box predictor and beside it a
linear layer of 256 dimensions for the final boxes. Ours is ``oim_r50_20e_cuhk-sysu`` with torchvision's stride, anchors
and RoIAlign. Weights are random, the same in both. torchvision is no requirement of this project: install a build that
fits the torch that is there.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmps_kd.apis.inferencer import SearchModel
from mmps_kd.apis.init_model import init_model, load_config

CONFIG = Path(__file__).resolve().parents[1] / 'configs/oim/oim_r50_20e_cuhk-sysu.py'
BACKENDS = [('torch', 'fp32'), ('torch', 'bf16'), ('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16')]


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', type=int, nargs=2, default=(600, 1000), metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--clock', choices=('wall', 'cpu'), default='wall', help='cpu: where other work takes turns')
    parser.add_argument('--backends', nargs='+', default=['-'.join(way) for way in BACKENDS])
    return parser.parse_args()


def own_config(size: tuple[int, int]) -> object:
    """The config with torchvision's stride, anchors and RoIAlign; no threshold of scores, few detections."""
    cfg = load_config(CONFIG)
    cfg.model.backbone.update(style='pytorch', init_cfg=None)
    cfg.model.roi_head.shared_head.update(style='pytorch', init_cfg=None)
    cfg.model.rpn_head.anchor_generator.type = 'RoundedAnchorGenerator'
    cfg.model.roi_head.bbox_roi_extractor.roi_layer.update(sampling_ratio=0, aligned=False)
    cfg.model.test_cfg.rpn.update(nms_pre=1000, max_per_img=300)
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    cfg.test_dataloader.dataset.pipeline[2].scale = (max(size), min(size))
    return cfg


def write_weights(cfg: object, path: Path) -> None:
    """Random weights, with scores that differ clearly."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for name, weight in model.named_parameters():
        if any(layer in name for layer in ('rpn_cls.weight', 'rpn_reg.weight', 'fc_cls.weight', 'fc_reg.weight')):
            nn.init.normal_(weight, std=0.02)
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)


class Embedding(nn.Module):
    """torchvision's box predictor, and an embedding beside it that is kept for the detections' RoIs."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.cls, self.reg, self.reid = own.bbox_head.fc_cls, own.bbox_head.fc_reg, own.reid_head.fc

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, 2), background first as in torchvision, and deltas (R, 8)."""
        return self.cls(x).flip(1), self.reg(x).repeat(1, 2)


class BoxHead(nn.Module):
    """conv5 and the mean over cells."""

    def __init__(self, conv5: nn.Module) -> None:
        super().__init__()
        self.conv5 = conv5

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (R, 2048) of RoI features (R, 1024, 14, 14)."""
        return self.conv5(x).mean(dim=(2, 3))


def build_peer(own: nn.Module, size: tuple[int, int]) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """The peer on an image (3, H, W) float RGB in 0..1, with the weights of ``own``."""
    from torchvision.models import resnet50
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.rpn import RPNHead
    from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

    net = resnet50(norm_layer=FrozenBatchNorm2d)
    state = {f'layer4.{k.split("layer4.")[1]}': v for k, v in own.roi_head.shared_head.state_dict().items()}
    net.load_state_dict({**own.backbone.state_dict(), **state}, strict=False)
    backbone = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3)
    backbone.out_channels = 1024
    scales = own.rpn_head.prior_generator.scales.tolist()
    rpn_head = RPNHead(1024, 15)
    rpn_head.load_state_dict(
        {
            f'{theirs}.{kind}': getattr(getattr(own.rpn_head, name), kind)
            for theirs, name in (('conv.0.0', 'rpn_conv'), ('cls_logits', 'rpn_cls'), ('bbox_pred', 'rpn_reg'))
            for kind in ('weight', 'bias')
        }
    )
    peer = FasterRCNN(
        backbone,
        min_size=min(size),
        max_size=max(size),
        image_mean=[0, 0, 0],
        image_std=[1 / 255] * 3,
        rpn_anchor_generator=AnchorGenerator((tuple(int(16 * s) for s in scales),), ((0.5, 1.0, 2.0),)),
        rpn_head=rpn_head,
        rpn_pre_nms_top_n_test=1000,
        rpn_post_nms_top_n_test=300,
        box_roi_pool=MultiScaleRoIAlign(['0'], 14, 0),
        box_head=BoxHead(net.layer4),
        box_predictor=Embedding(own.roi_head),
        box_score_thresh=0.0,
        box_nms_thresh=own.roi_head.test_cfg.nms.iou_threshold,
        box_detections_per_img=5,
    ).eval()

    def run(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept = {}
        # As SeqNet does at test time, final boxes are embedded from the same maps.
        handle = peer.backbone.register_forward_hook(lambda *hook: kept.update(feats=hook[2]))
        (found,) = peer([image])
        handle.remove()
        boxes = found['boxes']
        pooled = peer.roi_heads.box_roi_pool({'0': kept['feats']}, [boxes], [image.shape[-2:]])
        embeddings = F.normalize(peer.roi_heads.box_predictor.reid(peer.roi_heads.box_head(pooled)), dim=1)
        return boxes, found['scores'], embeddings

    return run


def main() -> None:
    """Time everything in turns and print medians, ratios to the peer, and how many of the peer's boxes each gives."""
    args = parse_args()
    torch.set_num_threads(1)
    clock = time.perf_counter if args.clock == 'wall' else time.process_time
    cfg = own_config(args.size)
    image = np.random.default_rng(0).integers(0, 256, (*args.size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / 'random.pth'
        write_weights(cfg, weights)
        peer = build_peer(init_model(cfg, weights, 'cpu'), args.size)
        models = {'plain torch-fp32': SearchModel(cfg, weights, 'cpu')}
        models['plain torch-fp32'].model = init_model(cfg, weights, 'cpu')
        for name in args.backends:
            models[name] = SearchModel(cfg, weights, 'cpu', *name.split('-'))
        # The peer's pixels are divided by 255 and multiplied again; its channels are in the order of the weights.
        pixels = (torch.from_numpy(image).permute(2, 0, 1).float() - mean_of(models)) / 255
        tasks = {'torchvision': lambda: peer(pixels)}
        tasks |= {name: lambda model=model: model.detect([image])[0] for name, model in models.items()}
        times, answers = {name: [] for name in tasks}, {}
        with torch.inference_mode():
            for turn in range(args.repeats + 1):
                for name, task in tasks.items():
                    start = clock()
                    answers[name] = task()
                    if turn:  # the first turn warms up
                        times[name].append(clock() - start)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    boxes, scores, embeddings = (value.numpy() for value in answers.pop('torchvision'))
    print(f'torchvision: {1000 * medians["torchvision"]:.0f} ms')
    for name, own in answers.items():
        faster = medians['torchvision'] / medians[name]
        box, embedding = differences(own, boxes, embeddings)
        print(f'{name}: {1000 * medians[name]:.0f} ms, {faster:.2f} times as fast; {box}, {embedding}')


def mean_of(models: dict[str, SearchModel]) -> Tensor:
    """The preprocessor's mean, (3, 1, 1)."""
    return next(iter(models.values())).model.data_preprocessor.mean


def differences(own: object, boxes: np.ndarray, embeddings: np.ndarray) -> tuple[str, str]:
    """Of the nearest box of the peer's: distance in pixels and between embeddings, the largest of all detections."""
    distances = np.abs(own.boxes[:, None] - boxes[None]).max(axis=2)
    nearest = distances.argmin(axis=1)
    return (
        f'boxes within {distances.min(axis=1).max():.2g} pixels',
        f'embeddings within {np.abs(own.embeddings - embeddings[nearest]).max():.2g}',
    )


if __name__ == '__main__':
    main()
