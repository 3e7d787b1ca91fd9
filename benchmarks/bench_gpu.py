"""Training and inference on a GPU: images a second, peak memory, and the waits of the host in a training step.

Images are noise with eight people each, teachers are untrained: what a model has learned makes no difference to its
time, but for the number of its detections, which is fixed here. ``--toy`` takes the demo's models and small images, so
that the whole run can be tried on a CPU.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import mmdet
import torch
from bench_train_step import build
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import mmps_kd

CONFIGS = {
    'plain': 'oim/oim_r50_20e_cuhk-sysu.py',
    'LUT KD': 'kd/lut_oim-r50_oim_r50_20e_cuhk-sysu.py',
    'detector KD': 'kd/det_detector-r101_oim_r50_20e_cuhk-sysu.py',
}
TOY = {
    'plain': 'demo/oim_r18-quarter_mini.py',
    'LUT KD': 'demo/lut_oim-r18-narrow_oim_r18-quarter_mini.py',
    'detector KD': 'demo/det_oim-r18-narrow_oim_r18-quarter_mini.py',
}
PEOPLE = 8


def noise_batch(batch: int, height: int, width: int, identities: int) -> dict:
    """Images (3, height, width) uint8 with people at random places."""
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for index in range(batch):
        images.append(torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8))
        corners = torch.rand(PEOPLE, 2, generator=generator) * torch.tensor([0.8 * width, 0.5 * height])
        boxes = torch.cat([corners, corners + torch.tensor([0.15 * width, 0.45 * height])], dim=1)
        pids = torch.randint(-1, identities, (PEOPLE,), generator=generator)
        shape = (height, width)
        meta = dict(img_id=index, img_name=f'{index}.jpg', img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(PEOPLE, dtype=torch.long), pids=pids)
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def training_step(model: nn.Module, batch: dict, autocast: Callable) -> Callable[[], None]:
    """Forward, backward and update; losses stay on their device."""
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-6, momentum=0.9)

    def step() -> None:
        data = model.data_preprocessor(batch, training=True)
        with autocast():
            losses = model(**data, mode='loss')
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def inference_step(model: nn.Module, batch: dict, autocast: Callable) -> Callable[[], None]:
    """Images to detections with embeddings."""

    @torch.no_grad()
    def step() -> None:
        data = model.data_preprocessor(batch, training=False)
        with autocast():
            model(**data, mode='predict')

    return step


def seconds(step: Callable[[], None], device: str, repeats: int) -> float:
    """Median of ``repeats`` after two steps that do not count."""
    times = []
    for number in range(repeats + 2):
        if device == 'cuda':
            torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        if device == 'cuda':
            torch.cuda.synchronize()
        if number >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


class WaitCounter(TorchDispatchMode):
    """Counts operations for which a host would wait for its GPU, by the innermost line of mmps_kd or mmdet.

    Those are the ones that give a number to Python, or a tensor whose size depends on values: seen on a CPU too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ('index', 'index_put', 'index_put_') and any(
            x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]
        )
        if by_mask or name in ('_local_scalar_dense', 'nonzero', 'masked_select', '_unique2'):
            frames = [frame for frame in traceback.extract_stack() if short(frame.filename)]
            frame = frames[-1] if frames else None
            self.lines['elsewhere' if frame is None else f'{short(frame.filename)}:{frame.lineno} {frame.name}'] += 1
        return func(*args, **(kwargs or {}))


def short(file: str) -> str | None:
    """The path of a file of mmps_kd or mmdet from its package on; None of any other file."""
    for package in (mmps_kd, mmdet):
        folder = Path(package.__file__).parent
        if Path(file).is_relative_to(folder):
            return str(Path(file).relative_to(folder.parent))
    return None


def peer(device: str, height: int, width: int, rois: int = 128, proposals: int = 300) -> nn.Module | None:
    """Faster R-CNN of torchvision with ResNet-50 C4 and 256 numbers a box beside its classes; None without it.

    As in the configs, stem and first stage are not trained, nor is any batch norm.
    """
    try:
        from torchvision.models import resnet50
        from torchvision.models.detection import FasterRCNN
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
    except ImportError:
        return None
    resnet = resnet50(weights=None, norm_layer=FrozenBatchNorm2d, zero_init_residual=True)
    for layer in (resnet.conv1, resnet.layer1):
        layer.requires_grad_(False)
    backbone = nn.Sequential(*list(resnet.children())[:-3])
    backbone.out_channels = 1024

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer4 = resnet.layer4

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer4(x).mean(dim=(2, 3))

    class Predictor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classes, self.boxes = nn.Linear(2048, 2), nn.Linear(2048, 8)
            self.embedding = nn.Linear(2048, 256)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            # The embedding has a part in the loss, so that its gradient is computed.
            return self.classes(x) + 1e-6 * self.embedding(x).mean(), self.boxes(x)

    anchors = AnchorGenerator(sizes=((32, 64, 128, 256, 512),), aspect_ratios=((0.5, 1.0, 2.0),))
    model = FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        box_roi_pool=MultiScaleRoIAlign(['0'], output_size=14, sampling_ratio=2),
        box_head=Head(),
        box_predictor=Predictor(),
        min_size=min(height, width),
        max_size=max(height, width),
        rpn_post_nms_top_n_test=proposals,
        box_batch_size_per_image=rois,
    )
    return model.to(device)


def peer_training_step(model: nn.Module, batch: dict, device: str, autocast: Callable) -> Callable[[], None]:
    """As :func:`training_step`."""
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-6, momentum=0.9)

    def step() -> None:
        images = [image.to(device).float() / 255 for image in batch['inputs']]
        targets = [
            dict(boxes=s.gt_instances.bboxes.to(device), labels=s.gt_instances.labels.to(device) + 1)
            for s in batch['data_samples']
        ]
        with autocast():
            losses = model(images, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    return step


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', choices=['cuda', 'cpu'])
    parser.add_argument('--sizes', nargs='+', default=['600x1000', '900x1500'], help='height x width')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=20)
    parser.add_argument('--compile', action='store_true', help='rows with a compiled backbone too')
    parser.add_argument('--toy', action='store_true', help="the demo's models at 96x128, batch of 2, 2 repeats")
    parser.add_argument('--out', type=Path, help='write all figures (JSON) to this file')
    return parser.parse_args()


def main() -> None:
    """Measure and print a table for each size, then the lines where the host waits."""
    args = parse_args()
    if args.toy:
        args.sizes, args.batch, args.repeats = ['96x128'], 2, 2
    init_default_scope('mmdet')
    MMLogger.get_instance('bench_gpu', log_level='WARNING')
    torch.backends.cudnn.benchmark = True
    kinds = [('fp32', False, False), ('bf16', False, False), ('bf16', True, False)]
    kinds += [('bf16', True, True)] if args.compile else []
    figures = []
    print(f'{torch.cuda.get_device_name() if args.device == "cuda" else "CPU"}, torch {torch.__version__}')
    for size in args.sizes:
        height, width = map(int, size.split('x'))
        print(f'\n{size}, batch of {args.batch}\n')
        print('| model | precision | training, images/s | peak memory, GB | inference, images/s |')
        print('| --- | --- | --- | --- | --- |')
        for name in [*CONFIGS, 'torchvision']:
            for precision, channels_last, compiled in kinds:
                if name == 'torchvision' and compiled:
                    continue
                row = measure(name, args, height, width, precision, channels_last, compiled)
                if row is not None:
                    figures.append(dict(size=size, batch=args.batch, **row))
                    memory = '' if row['memory'] is None else f'{row["memory"]:.2f}'
                    kind = precision + ', channels last' * channels_last + ', compiled' * compiled
                    print(
                        f'| {name} | {kind} | {row["training"]:.2f} | {memory} | {row["inference"]:.2f} |', flush=True
                    )
    waits = count_waits(args)
    print('\nwhere the host waits in a training step, by the operations that were called:\n')
    print('| model | waits | of them in mmps_kd |\n| --- | --- | --- |')
    for name, lines in waits.items():
        own = sum(count for line, count in lines.items() if line.startswith('mmps_kd/'))
        print(f'| {name} | {sum(lines.values())} | {own} |')
    for line, count in waits['detector KD'].most_common(12):
        print(f'{count:4d}  {line}')
    if args.out is not None:
        args.out.write_text(json.dumps(dict(figures=figures, waits=waits), indent=1))


def make_model(name: str, args: argparse.Namespace) -> nn.Module:
    """A model by its row's name."""
    with tempfile.TemporaryDirectory() as folder:
        return build((TOY if args.toy else CONFIGS)[name], Path(folder)).to(args.device)


def measure(
    name: str, args: argparse.Namespace, height: int, width: int, precision: str, channels_last: bool, compiled: bool
) -> dict | None:
    """Images a second and peak memory of one row; None for torchvision's where it is not installed."""

    def autocast() -> object:
        return torch.autocast(args.device, torch.bfloat16) if precision == 'bf16' else nullcontext()

    torch.manual_seed(0)
    if name == 'torchvision':
        model = peer(args.device, height, width, **(dict(rois=8, proposals=8) if args.toy else {}))
    else:
        model = make_model(name, args)
    if model is None:
        return None
    if channels_last:
        model.to(memory_format=torch.channels_last)
    if compiled:
        model.backbone.compile()
    batch = noise_batch(args.batch, height, width, identities=100)
    if args.device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    if name == 'torchvision':
        step = peer_training_step(model.train(), batch, args.device, autocast)
    else:
        step = training_step(model.train(), batch, autocast)
    training = args.batch / seconds(step, args.device, args.repeats)
    memory = torch.cuda.max_memory_allocated() / 1e9 if args.device == 'cuda' else None
    model.eval()
    if name == 'torchvision':
        images = [image.to(args.device).float() / 255 for image in batch['inputs']]

        @torch.no_grad()
        def step() -> None:
            with autocast():
                model(images)
    else:
        step = inference_step(model, batch, autocast)
    inference = args.batch / seconds(step, args.device, args.repeats)
    kind = dict(model=name, precision=precision, channels_last=channels_last, compiled=compiled)
    return dict(**kind, training=training, memory=memory, inference=inference)


def count_waits(args: argparse.Namespace) -> dict[str, Counter]:
    """Operations of one training step that make the host wait, of each model; on a GPU as PyTorch reports them."""
    height, width = map(int, args.sizes[0].split('x'))
    batch, found = noise_batch(args.batch, height, width, identities=100), {}
    for name in CONFIGS:
        step = training_step(make_model(name, args).train(), batch, nullcontext)
        step()
        if args.device == 'cpu':
            with WaitCounter() as counter:
                step()
            # RoIAlign of a CPU: on a GPU it is mmcv's.
            found[name] = Counter({line: n for line, n in counter.lines.items() if 'roi_extractor.py' not in line})
            continue
        torch.cuda.set_sync_debug_mode('warn')
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            step()
        torch.cuda.set_sync_debug_mode('default')
        found[name] = Counter(
            f'{short(w.filename) or Path(w.filename).name}:{w.lineno}' for w in caught if 'synchroniz' in str(w.message)
        )
    return found


if __name__ == '__main__':
    sys.exit(main())
