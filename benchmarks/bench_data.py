"""Cost of loading training images at the size of CUHK-SYSU: annotations, pipeline, workers, their memory, padding.

The annotations are those of a synthetic data set of size `full`: 11,206 training images, 5,532 identities. The image
files are links to a few rendered ones. Times are processor time of one thread, unless they say otherwise. The part
`photographs` compares ``ResizeFromFile`` with ``LoadScene`` and ``Resize`` on larger images; with ``--checkpoint`` of
the demo's teacher also what its detections and embeddings make of the difference.
"""

import argparse
import itertools
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.datasets.transforms import Resize
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmps_kd.apis.inferencer import SearchModel
from mmps_kd.apis.init_model import load_config
from mmps_kd.datasets import LoadScene, PersonSearchDataSample, ResizeFromFile
from mmps_kd.structures import UNLABELLED
from mmps_kd.testing.synthetic import cuhk_sysu
from mmps_kd.testing.synthetic.image import render_image
from mmps_kd.testing.synthetic.person import sample_appearance
from mmps_kd.testing.synthetic.plan import ImageRecord, PersonBox, dataset_size, plan_images

CONFIG = Path(__file__).resolve().parents[1] / 'configs/_base_/datasets/cuhk-sysu.py'
SIZES = ((800, 600), (800, 600), (600, 800), (1280, 720))
"""Width and height of the images, in turn."""
RENDERED = 12
QUALITY = 90
PARTS = ('annotations', 'steps', 'workers', 'memory', 'padding', 'photographs')
PHOTOGRAPHS = ((1280, 720), (1920, 1080), (2048, 1536), (4000, 3000))
DEMO_SCALE, DEMO_IMAGES = (400, 300), 20


def render(path: Path, size: tuple[int, int], seed: int) -> np.ndarray:
    """Write an image of four people; returns their boxes (4, 4) x1, y1, x2, y2."""
    rng = np.random.default_rng(seed)
    people = [(identity, sample_appearance(rng)) for identity in range(4)]
    image, boxes = render_image(rng, rng.spawn(1)[0], people, 0, size)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    boxes = np.array([box.xywh for box in boxes], dtype=float)
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def write_data(root: Path) -> None:
    """Write annotations of size `full` with made-up boxes, and links to rendered images. The test set is tiny."""
    config = dataset_size('cuhk-sysu', 'full')._replace(test=dataset_size('cuhk-sysu', 'tiny').test)
    plans = plan_images(config, cuhk_sysu.image_names(config, 0), 0)
    folder, rng = root / cuhk_sysu.IMAGE_FOLDER, np.random.default_rng(0)
    folder.mkdir(parents=True)
    for k in range(RENDERED):
        render(root / f'{k}.jpg', SIZES[k % len(SIZES)], k)
    records = []
    for plan in plans:
        os.link(root / f'{plan.index % RENDERED}.jpg', folder / plan.name)
        width, height = SIZES[plan.index % RENDERED % len(SIZES)]
        identities = [*plan.identities, *[UNLABELLED] * rng.integers(*config.unlabelled, endpoint=True)]
        places = rng.integers(0, (width - 100, height - 250), (len(identities), 2)).tolist()
        people = [PersonBox(who, (x, y, 100, 250), 1.0) for who, (x, y) in zip(identities, places, strict=True)]
        records.append(ImageRecord(plan.name, plan.split, tuple(people)))
    cuhk_sysu.write_annotations(root, records, config, 0)


def timed(task: Callable) -> tuple[float, object]:
    """Seconds of processor time, and what the task gives."""
    start = time.process_time()
    result = task()
    return time.process_time() - start, result


def measure_steps(dataset, count: int) -> None:
    """Print what each step of the pipeline takes, over the same images."""
    steps = {'annotations of the image': lambda index: dataset.get_data_info(index)}
    steps |= {type(step).__name__: step for step in dataset.pipeline.transforms}
    seconds = dict.fromkeys(steps, 0.0)
    for index in range(count):
        value = index
        for name, step in steps.items():
            spent, value = timed(lambda step=step, value=value: step(value))
            seconds[name] += spent
    total = sum(seconds.values())
    print(f'one image: {1e3 * total / count:.1f} ms, {count / total:.0f} images a second')
    for name, spent in seconds.items():
        print(f'    {name}: {1e3 * spent / count:.2f} ms, {spent / total:.0%}')


def used_seconds(pid: int) -> float:
    """Processor time of another process so far."""
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def measure_workers(loader_cfg: dict, count: int) -> None:
    """Print images a second, and what workers and the training process spend on each image."""
    reducers = ForkingPickler._extra_reducers
    for workers, as_files in ((0, False), (1, False), (2, False), (2, True)):
        # Without our reducer a sample is sent as mmdet's are: each tensor as a file in shared memory.
        own_reducer = reducers.pop(PersonSearchDataSample) if as_files else None
        cfg = {**loader_cfg, 'num_workers': workers, 'persistent_workers': False}
        loader = iter(Runner.build_dataloader(cfg, seed=0))
        next(loader)
        pids = [worker.pid for worker in getattr(loader, '_workers', ())]
        start, own, others = time.perf_counter(), time.process_time(), sum(map(used_seconds, pids))
        images = sum(len(batch['inputs']) for batch in itertools.islice(loader, count // cfg['batch_size']))
        seconds, own = time.perf_counter() - start, time.process_time() - own
        others = sum(map(used_seconds, pids)) - others
        print(
            f'{workers} workers{", each tensor a file" if as_files else ""}: {images / seconds:.0f} images a second by '
            f'the clock; an image takes {1e3 * own / images:.2f} ms of the training process, '
            f'{1e3 * others / images:.1f} ms of workers'
        )
        del loader
        if as_files:
            reducers[PersonSearchDataSample] = own_reducer


def private_megabytes(pid: int) -> float:
    """Memory that a process shares with no other."""
    text = Path(f'/proc/{pid}/smaps_rollup').read_text()
    return sum(map(int, re.findall(r'Private_\w+: +(\d+) kB', text))) / 1024


def measure_memory(dataset_cfg: dict) -> None:
    """Print the private memory of a worker that has read the annotations of all images."""
    cases = {
        'annotations of one image': dict(indices=1),
        'all, serialised': {},
        'all, as Python objects': dict(serialize_data=False),
    }
    for name, changes in cases.items():
        dataset = DATASETS.build({**dataset_cfg, **changes, 'pipeline': []})
        order = list(range(len(dataset))) * (11206 // len(dataset))
        loader = iter(DataLoader(dataset, batch_size=16, sampler=order, num_workers=1, collate_fn=len))
        (worker,) = loader._workers
        next(loader)
        first = private_megabytes(worker.pid)
        read = sum(itertools.islice(loader, len(order) // 16 - 4))
        last = private_megabytes(worker.pid)
        print(f'{name}: a worker has {first:.1f} MiB of its own, {last:.1f} after {read} images')
        del loader


def padding(batches: Iterator[list[int]], shapes: np.ndarray) -> float:
    """Share of a batch's pixels that are padding, over an epoch."""
    used = padded = 0
    for batch in batches:
        sides = shapes[batch]
        used, padded = used + sides.prod(axis=1).sum(), padded + len(batch) * sides.max(axis=0).prod()
    return 1 - used / padded


def measure_padding(loader_cfg: dict, dataset, scale: tuple[int, int]) -> None:
    """Print how much padding there is with and without groups of one orientation, and what forming them takes."""
    sizes = np.array([[info['height'], info['width']] for info in map(dataset.get_data_info, range(len(dataset)))])
    factors = np.minimum(max(scale) / sizes.max(axis=1), min(scale) / sizes.min(axis=1))
    shapes = np.round(sizes * factors[:, None]).astype(int)
    for name, batch_sampler in (('in any order', None), ('of one orientation', dict(type='AspectRatioBatchSampler'))):
        cfg = {**loader_cfg, 'dataset': dataset, 'batch_sampler': batch_sampler, 'num_workers': 0}
        loader = Runner.build_dataloader(cfg | dict(persistent_workers=False), seed=0)
        seconds, batches = timed(lambda loader=loader: list(loader.batch_sampler))
        print(f'batches {name}: {padding(batches, shapes):.1%} padding; {seconds:.2f} s to form the epoch')


def load_both_ways(path: Path, size: tuple[int, int], scale: tuple[int, int]) -> list[tuple[float, np.ndarray]]:
    """Least time of five, and pixels: by ``LoadScene`` and ``Resize``, and by ``ResizeFromFile``."""
    found = []
    for steps in ([LoadScene(), Resize(scale, keep_ratio=True)], [ResizeFromFile(scale)]):
        pipeline, source = Compose(steps), dict(img_path=str(path), width=size[0], height=size[1])
        runs = [timed(lambda pipeline=pipeline, source=source: pipeline(dict(source))['img']) for _ in range(5)]
        found.append((min(seconds for seconds, _ in runs), runs[0][1]))
    return found


def measure_photographs(folder: Path, scale: tuple[int, int]) -> None:
    """Print time and difference of pixels for images of several sizes."""
    for size in PHOTOGRAPHS:
        render(folder / 'photograph.jpg', size, 0)
        (full, expected), (reduced, got) = load_both_ways(folder / 'photograph.jpg', size, scale)
        change = np.abs(got.astype(int) - expected)
        print(
            f'{size[0]}x{size[1]} to {expected.shape[1]}x{expected.shape[0]}: {1e3 * full:.1f} ms, from file '
            f'{1e3 * reduced:.1f} ms, {reduced / full:.2f}; pixels differ by {change.mean():.2f}, at most by '
            f'{change.max()}'
        )


def measure_answers(folder: Path, checkpoint: str) -> None:
    """Print what a difference of pixels changes in the answers of the demo's teacher."""
    model = SearchModel(load_config('oim_r18-narrow_mini'), checkpoint)
    for by in (2, 4):
        size = DEMO_SCALE[0] * by, DEMO_SCALE[1] * by
        similarities, counts = [], []
        for k in range(DEMO_IMAGES):
            boxes = render(folder / 'photograph.jpg', size, k)
            images = [image for _, image in load_both_ways(folder / 'photograph.jpg', size, DEMO_SCALE)]
            first, second = (model.embed(image, boxes / by) for image in images)
            similarities.append((first * second).sum(axis=1))
            counts.append([sum(found.scores > 0.5) for found in model.detect(images)])
        similarities, counts = np.concatenate(similarities), np.sum(counts, axis=0)
        print(
            f'{size[0]}x{size[1]} to {DEMO_SCALE[0]}x{DEMO_SCALE[1]}: cosine of the embeddings of a box '
            f'{similarities.mean():.4f}, least {similarities.min():.4f}; people found: '
            f'{counts[0]}, from file {counts[1]}'
        )


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS, help='default: all')
    parser.add_argument('--images', type=int, default=200, help='images that are timed')
    parser.add_argument('--checkpoint', help="weights of the demo's teacher, configs/demo/oim_r18-narrow_mini.py")
    return parser.parse_args()


def main() -> None:
    """Measure everything in turn."""
    args = parse_args()
    init_default_scope('mmdet')
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    cfg = Config.fromfile(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        if 'photographs' in args.parts:
            measure_photographs(Path(folder), cfg.scale)
            if args.checkpoint:
                measure_answers(Path(folder), args.checkpoint)
        if set(args.parts) == {'photographs'}:
            return
        os.environ['MMPS_CACHE'] = str(Path(folder, 'cache'))
        root = Path(folder, 'data')
        write_data(root)
        train = cfg.train_dataloader
        train.dataset.data_root = str(root)
        parsing, _ = timed(lambda: DATASETS.build(train.dataset))
        cached, dataset = timed(lambda: DATASETS.build(train.dataset))
        identities = len(dataset.metainfo['identities'])
        if 'annotations' in args.parts:
            print(
                f'{len(dataset)} images, {identities} identities: {parsing:.1f} s to read, '
                f'{cached:.1f} s from the cache'
            )
            print(f'serialised annotations: {dataset.data_bytes.nbytes / 2**20:.1f} MiB')
        if 'steps' in args.parts:
            measure_steps(dataset, args.images)
        if 'workers' in args.parts:
            measure_workers(dict(train), args.images)
        if 'memory' in args.parts:
            measure_memory(dict(train.dataset))
        if 'padding' in args.parts:
            measure_padding(dict(train), dataset, cfg.scale)


if __name__ == '__main__':
    main()
