"""What distillation adds to a training step: ratios to the plain student's step, measured in turn in one run.

The teacher is an untrained model of the demo's config: what it has learned makes no difference to its time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmps_kd.models.distillers import LookUpTable, TeacherCache, identities_sha256, save_lut

ROOT = Path(__file__).resolve().parents[1]
STUDENTS = {
    'plain': 'demo/oim_r18-quarter_mini.py',
    'LUT KD': 'demo/lut_oim-r18-narrow_oim_r18-quarter_mini.py',
    'detector KD': 'demo/det_oim-r18-narrow_oim_r18-quarter_mini.py',
    'detector KD, cached': 'demo/det_oim-r18-narrow_oim_r18-quarter_mini.py',
}


def build(name: str, folder: Path) -> torch.nn.Module:
    """A student, with the files that its config names made up."""
    cfg = Config.fromfile(ROOT / 'configs' / name)
    drop_pretrained(cfg.model)
    if 'teacher' in cfg.model:
        teacher = MODELS.build(Config.fromfile(ROOT / cfg.model.teacher.config).model)
        torch.save(dict(state_dict=teacher.state_dict(), meta={}), folder / 'teacher.pth')
        cfg.model.teacher = dict(config=str(ROOT / cfg.model.teacher.config), checkpoint=str(folder / 'teacher.pth'))
    if 'lut' in cfg.model:
        head = cfg.model.roi_head.reid_head
        count = head.loss_oim.num_identities
        rows = torch.nn.functional.normalize(torch.randn(count, head.feat_channels), dim=1)
        cfg.model.lut.lut_file = str(folder / 'lut.safetensors')
        save_lut(cfg.model.lut.lut_file, LookUpTable(rows, 'any', identities_sha256(range(count)), 'memory', 't', ''))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.train()


def drop_pretrained(cfg: dict) -> None:
    """Take out what would be downloaded."""
    if (cfg.get('init_cfg') or {}).get('type') == 'Pretrained':
        cfg['init_cfg'] = None
    for value in cfg.values():
        if isinstance(value, dict):
            drop_pretrained(value)


def training_step(model: torch.nn.Module, batch: dict) -> Callable[[], None]:
    """Forward, backward and update on one batch, always with the same random numbers."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        torch.manual_seed(0)
        losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def teacher_forward(model: torch.nn.Module, batch: dict) -> Callable[[], None]:
    """The teacher's bare forward pass: backbone, RPN, box head on the student's RoIs."""
    data = model.data_preprocessor(batch, training=True)
    rois = model.forward_train(data['inputs'], data['data_samples']).roi.rois

    def forward() -> None:
        x = model.teacher.extract_feat(data['inputs'])
        model.teacher.forward_rpn(x)
        model.teacher.forward_rois(x, rois)

    return forward


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=30)
    parser.add_argument('--data-root', default=str(ROOT / 'data/synthetic/cuhk-sysu-mini') + '/')
    parser.add_argument('--cache-dir', type=Path, default=ROOT / 'work_dirs/bench_train_step', help="the teacher's")
    return parser.parse_args()


def main() -> None:
    """Time everything in turn and print medians and ratios."""
    args = parse_args()
    init_default_scope('mmdet')
    MMLogger.get_instance('bench_train_step', log_level='WARNING')
    loader = Config.fromfile(ROOT / 'configs' / STUDENTS['plain']).train_dataloader
    loader.dataset.data_root = args.data_root
    loader.update(num_workers=0, persistent_workers=False)
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    with tempfile.TemporaryDirectory() as folder:
        models = {name: build(config, Path(folder)) for name, config in STUDENTS.items()}
    cached = models['detector KD, cached'].teacher
    cached.cache = TeacherCache(str(args.cache_dir), cached.sha256)
    tasks = {name: training_step(model, batch) for name, model in models.items()}
    tasks['teacher forward'] = teacher_forward(models['detector KD'], batch)
    times = {name: [] for name in tasks}
    for round_number in range(args.repeats + 2):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if round_number >= 2:
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f'{name}: {1000 * seconds:.1f} ms, {seconds / medians["plain"]:.3f} of a plain step')
    extra = medians['detector KD'] - medians['plain']
    print(f"detector KD adds {extra / medians['teacher forward']:.2f} of the teacher's bare forward pass")


if __name__ == '__main__':
    main()
