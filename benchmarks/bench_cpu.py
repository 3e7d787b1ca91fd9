"""RoIAlign and a training step on a CPU: mmcv's RoIAlign, this package's, and bfloat16; in turns, processor time.

RoIAlign: RoIs of 14x14 cells on a map of 1024 channels, as for ``oim_r50_20e_cuhk-sysu``. Training step: that model,
untrained, on one image of noise with eight people; beside it torchvision's Faster R-CNN with the same backbone, where
that is installed. bfloat16 is left out on a processor without instructions for it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from bench_gpu import noise_batch, peer, peer_training_step, training_step
from bench_train_step import drop_pretrained
from mmcv.ops import RoIAlign
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from mmps_kd.apis.init_model import load_config
from mmps_kd.compat import cpu_has_bfloat16
from mmps_kd.models.roi_heads.roi_extractor import SparseRoIAlign

CONFIG = 'oim_r50_20e_cuhk-sysu'


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, nargs=2, default=(600, 1000), metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--rois', type=int, default=300)
    parser.add_argument('--repeats', type=int, default=3)
    return parser.parse_args()


def roi_align_tasks(height: int, width: int, count: int, points: int) -> dict[str, Callable]:
    """RoIAlign on a stride of 16; ``points`` a side in each cell, 0 for as many as feature cells."""
    torch.manual_seed(0)
    feats = torch.randn(1, 1024, -(-height // 16), -(-width // 16))
    corners = torch.rand(count, 2) * torch.tensor([0.7 * width, 0.5 * height])
    sizes = (0.1 + 0.2 * torch.rand(count, 1)) * torch.tensor([[0.7 * height, 1.4 * height]])
    rois = torch.cat([torch.zeros(count, 1), corners, corners + sizes], dim=1)
    layers = {'mmcv': RoIAlign((14, 14), 1 / 16, points), 'SparseRoIAlign': SparseRoIAlign((14, 14), 1 / 16, points)}
    tasks = {name: lambda layer=layer: layer(feats, rois) for name, layer in layers.items()}
    if cpu_has_bfloat16():
        half = feats.to(torch.bfloat16)
        tasks['SparseRoIAlign, bfloat16 map'] = lambda: layers['SparseRoIAlign'](half, rois)
    return tasks


def training_tasks(height: int, width: int) -> dict[str, Callable]:
    """A training step of the same model in several ways, after torchvision's where that is installed."""
    tasks, network = {}, peer('cpu', height, width)
    if network is not None:
        batch = noise_batch(1, height, width, 100)
        tasks['torchvision, fp32'] = peer_training_step(network.train(), batch, 'cpu', nullcontext)
    tasks["fp32, mmcv's RoIAlign"] = training_task(height, width, dict(type='SingleRoIExtractor'))
    tasks['fp32'] = training_task(height, width, {})
    if cpu_has_bfloat16():
        tasks['bfloat16, channels last'] = training_task(height, width, {}, bfloat16=True)
    return tasks


def training_task(height: int, width: int, extractor: dict, bfloat16: bool = False) -> Callable:
    """Build the model; losses are computed under autocast or not."""
    cfg = Config(dict(model=load_config(CONFIG).model))
    drop_pretrained(cfg.model)
    cfg.model.roi_head.bbox_roi_extractor.update(extractor)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    if bfloat16:
        model.to(memory_format=torch.channels_last)
    autocast = (lambda: torch.autocast('cpu', torch.bfloat16)) if bfloat16 else nullcontext
    return training_step(model, noise_batch(1, height, width, 100), autocast)


def compare(title: str, tasks: dict[str, Callable], repeats: int) -> None:
    """Run the tasks in turns after one turn that does not count; print medians and ratios to the first."""
    times = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            if turn:
                times[name].append(time.process_time() - start)
    first = statistics.median(next(iter(times.values())))
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f'{title}, {name}: {1000 * median:.0f} ms, {first / median:.2f} times as fast', flush=True)


def main() -> None:
    """Print both comparisons."""
    args = parse_args()
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    MMLogger.get_instance('bench_cpu', log_level='WARNING')
    with torch.no_grad():
        for points, name in ((0, 'points as feature cells'), (2, '2x2 points')):
            compare(f'RoIAlign, {name}', roi_align_tasks(*args.size, args.rois, points), args.repeats)
    compare('training step', training_tasks(*args.size), args.repeats)


if __name__ == '__main__':
    main()
