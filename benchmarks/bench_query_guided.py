"""What a (query, gallery image) pair costs a query-guided model, beside a full forward pass of the same model.

QEEPS with ResNet-50 as configured for CUHK-SYSU, untrained; by default at 600x400 pixels, where a CPU gets by. Times
are processor time of one thread; a full forward pass is image in, detections out, without a query. What a pair costs
without QSSE depends on how many proposals the queries of an image have in common: the untrained QRPN is given more
and more of a say. How many they have in common in a trained model: ``--trained CONFIG CHECKPOINT``.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor

import mmps_kd  # noqa: F401  registers the parts
from mmps_kd.engine.loops.query_guided_loop import queries_by_image, query_blocks
from mmps_kd.models.detectors import QEEPS

CONFIG = Path(__file__).resolve().parents[1] / 'configs/qeeps/qeeps_r50_20e_cuhk-sysu.py'
PEOPLE = 10
"""Detections of an image, all of which are embedded."""


class Counter:
    """Boxes that went through the RoI head."""

    def __init__(self, model: QEEPS) -> None:
        self.boxes = 0
        self.forward = model.roi_head._bbox_forward
        model.roi_head._bbox_forward = self

    def __call__(self, x: tuple[Tensor], rois: Tensor) -> dict:
        """Run the RoI head."""
        self.boxes += len(rois)
        return self.forward(x, rois)


def build(qsse: dict | None, say: float = 0.0) -> QEEPS:
    """An untrained model that finds ten people; ``say`` is a factor on the objectness that its QRPN adds."""
    cfg = Config.fromfile(CONFIG).model
    cfg.backbone.update(qsse=qsse, init_cfg=None)
    cfg.roi_head.shared_head.init_cfg = None
    cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=PEOPLE)
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    model.init_weights()
    with torch.no_grad():
        model.qrpn.excite.weight.mul_(100)  # channel weights near 0 or 1, others for each query
        model.qrpn.cls.weight.mul_(say)
    return model


def timed(function: Callable, repeats: int) -> float:
    """Shortest processor time in seconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def make_image(width: int, height: int) -> tuple[Tensor, DetDataSample]:
    """Noise, and its meta information."""
    meta = dict(img_shape=(height, width), ori_shape=(height, width), batch_input_shape=(height, width))
    sample = DetDataSample(metainfo=dict(**meta, pad_shape=(height, width), scale_factor=(1.0, 1.0)))
    return torch.randn(1, 3, height, width), sample


@torch.no_grad()
def measure(name: str, model: QEEPS, queries: int, scale: tuple[int, int], repeats: int) -> None:
    """Time one model and print a line."""
    image, sample = make_image(*scale)
    query_image, _ = make_image(*scale)
    corners = torch.rand(queries, 2) * torch.tensor(scale) * 0.7
    boxes = torch.cat([corners, corners + torch.tensor([50.0, 120.0])], dim=1)
    states = model.encode_queries(query_image, boxes)
    if not model.backbone.is_guided:
        # Untrained features of any two boxes are all but equal; those of different people are not.
        for state in states:
            state.vector = torch.randn_like(state.vector).relu()
    full = timed(lambda: model.predict(image, [sample]), repeats)
    once = timed(lambda: model.encode_gallery(image), repeats)
    gallery = model.encode_gallery(image)
    counter = Counter(model)
    model.predict_pairs(gallery, sample, states)
    boxes_a_pair = counter.boxes / queries
    pair = timed(lambda: model.predict_pairs(gallery, sample, states), repeats) / queries
    print(
        f'{name}, {queries} queries an image: full pass {full:.2f} s; once an image {once / full:.3f}, '
        f'a pair {pair / full:.3f} of it ({boxes_a_pair:.0f} boxes in the RoI head), '
        f'with its share of the image {(pair + once / queries) / full:.3f}',
        flush=True,
    )


@torch.no_grad()
def measure_trained(config: str, checkpoint: str, overrides: dict) -> None:
    """Time the whole evaluation of a trained model beside plain prediction of its test images."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(overrides)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.update(load_from=checkpoint, work_dir=tempfile.mkdtemp(), log_level='WARNING')
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    runner.model.eval()
    full = timed(lambda: [runner.model.test_step(batch) for batch in runner.test_dataloader], 1)
    counter = Counter(runner.model)
    guided = timed(runner.test, 1)
    images, protocol = len(runner.test_dataloader.dataset), runner.test_loop.protocol
    pairs = sum(map(len, queries_by_image(protocol, query_blocks(protocol, None)[0]).values()))
    print(
        f'{Path(config).stem}: {pairs / images:.1f} queries an image, {counter.boxes / pairs:.1f} boxes a pair in the '
        f'RoI head; a full pass {1000 * full / images:.0f} ms, evaluation {1000 * guided / pairs:.1f} ms a pair, '
        f'{guided / pairs / full * images:.3f} of it'
    )


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--queries', type=int, default=30, help='queries an image without QSSE; PRW-mini has 30')
    parser.add_argument('--scale', type=int, nargs=2, default=(600, 400), metavar=('WIDTH', 'HEIGHT'))
    parser.add_argument('--say', type=float, nargs='+', default=(0.0, 1.0, 4.0), help='factors on the untrained QRPN')
    parser.add_argument('--repeats', type=int, default=2, help='the shortest of so many times counts')
    parser.add_argument('--trained', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='measure this model instead')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, help='overrides of its config')
    return parser.parse_args()


def main() -> None:
    """Run what is asked for."""
    args = parse_args()
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='WARNING')
    torch.set_num_threads(1)
    if args.trained:
        measure_trained(*args.trained, args.cfg_options)
        return
    for say in args.say:
        measure(f'QRPN x {say:g}, QSimNet', build(None, say), args.queries, args.scale, args.repeats)
    measure('QRPN, QSimNet', build(None), 1, args.scale, args.repeats)
    for at in ('stage', 'block'):
        qsse = dict(ratio=16, at=at, stages=(1, 2))
        measure(f'QSSE in each {at}, QRPN, QSimNet', build(qsse), 1, args.scale, args.repeats)


if __name__ == '__main__':
    main()
