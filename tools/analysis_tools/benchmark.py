"""Measure how fast a trained model finds and describes people, and what memory it takes.

With --backends several ways to run it are measured in turns, each beside plain PyTorch in fp32, as one table.
"""

import argparse
import itertools
import resource
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from terminaltables import AsciiTable

from mmps_kd.apis.inferencer import SearchModel
from mmps_kd.apis.init_model import init_model, load_config, unwrapped
from mmps_kd.apis.inputs import Sources
from mmps_kd.datasets.image_files import decode_image
from mmps_kd.deployment import PRECISIONS
from mmps_kd.errors import UserError, run_tool
from mmps_kd.evaluation.functional import evaluate_search
from mmps_kd.evaluation.metrics.search_metric import collate_results

PLAIN = 'plain'
"""PyTorch in fp32, with the model as it was trained."""
BACKENDS = [f'{backend}-{precision}' for backend, precisions in PRECISIONS.items() for precision in precisions]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or name of one that comes with the package')
    parser.add_argument('checkpoint', help='trained weights')
    parser.add_argument('images', nargs='+', help='folders, images, videos, patterns in quotes; kept in memory')
    parser.add_argument(
        '--num-images', type=int, default=200, help='images that are measured; the first ones again if there are fewer'
    )
    parser.add_argument('--num-warmup', type=int, default=5, help='batches before that')
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--device', help='such as cuda:1; default: the GPU if there is one')
    parser.add_argument(
        '--backends', nargs='+', choices=BACKENDS, default=[], help='measured in turns beside plain PyTorch in fp32'
    )
    parser.add_argument('--export-dir', help="of the graphs for onnxruntime and OpenVINO; default: the checkpoint's")
    parser.add_argument(
        '--evaluate', action='store_true', help="with --backends: search mAP of each on the config's test set"
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    args = parser.parse_args()
    if args.evaluate and not args.backends:
        raise UserError('--evaluate compares backends: name them with --backends')
    return args


def measure(model: SearchModel, batches: list[list[np.ndarray]], num_warmup: int) -> tuple[np.ndarray, int]:
    """Run batches of images, resizing and preparation included.

    Returns:
        Seconds that each batch took, without those of the warm-up, and number of people found.
    """
    ((seconds, people),) = measure_in_turns([model], batches, num_warmup)
    return seconds, people


def measure_in_turns(
    models: Sequence[SearchModel], batches: list[list[np.ndarray]], num_warmup: int
) -> list[tuple[np.ndarray, int]]:
    """:func:`measure` of several models, each batch by all of them: other work on the machine meets all alike."""
    for batch in itertools.islice(itertools.cycle(batches), num_warmup):
        for model in models:
            model.detect(batch)
    seconds, people = [[] for _ in models], [0 for _ in models]
    for batch in batches:
        for index, model in enumerate(models):
            start = time.perf_counter()
            # Answers are on the CPU: a GPU has finished.
            found = model.detect(batch)
            seconds[index].append(time.perf_counter() - start)
            people[index] += sum(len(source.boxes) for source in found)
    return [(np.array(taken), count) for taken, count in zip(seconds, people, strict=True)]


def compare(args: argparse.Namespace, cfg: Config, batches: list[list[np.ndarray]]) -> str:
    """Median milliseconds an image of each backend, its ratio to plain PyTorch, and the change of search mAP."""
    models = {PLAIN: SearchModel(cfg, args.checkpoint, args.device)}
    models[PLAIN].model = init_model(cfg, args.checkpoint, args.device)
    for name in args.backends:
        models[name] = SearchModel(cfg, args.checkpoint, args.device, *name.split('-'), args.export_dir)
    measured = measure_in_turns(list(models.values()), batches, args.num_warmup)
    milliseconds = [1000 * np.median(seconds) / args.batch_size for seconds, _ in measured]
    rows = [
        [name, f'{taken:.1f}', f'{taken / milliseconds[0]:.2f}', str(people)]
        for name, taken, (_, people) in zip(models, milliseconds, measured, strict=True)
    ]
    header = ['backend', 'ms an image', 'of plain', 'people']
    if args.evaluate:
        header += ['search mAP (%)', 'change']
        mean_aps = [100 * search_map(model, cfg) for model in models.values()]
        for row, mean_ap in zip(rows, mean_aps, strict=True):
            row += [f'{mean_ap:.2f}', f'{mean_ap - mean_aps[0]:+.2f}']
    return AsciiTable([header, *rows]).table


def search_map(model: SearchModel, cfg: Config) -> float:
    """Search mAP, a fraction, under the main protocol of the config's test set."""
    init_default_scope('mmdet')
    dataset = DATASETS.build(unwrapped(cfg.test_dataloader.dataset))
    results = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        image, queries = decode_image(info['img_path']), info.get('queries')
        (found,) = model.detect([image])
        results.append(
            dict(
                img_name=info['img_name'],
                boxes=np.column_stack([found.boxes, found.scores]),
                embeddings=found.embeddings,
                query_ids=np.zeros(0, int) if queries is None else queries['ids'],
                query_embeddings=None if queries is None else model.embed(image, queries['boxes']),
            )
        )
    protocol = dataset.metainfo['evaluation'].main
    score_thr = cfg.test_evaluator.get('score_thr', 0.5)
    return evaluate_search(collate_results(results, protocol), protocol, score_thr=score_thr).mAP


def peak_memory(device: torch.device) -> float:
    """Most memory taken so far, in MiB: of the process, or of the GPU for tensors."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2**20
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10)


def main() -> None:
    """Measure."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    sources = [source.read() for source in itertools.islice(Sources(args.images), args.num_images)]
    images = list(itertools.islice(itertools.cycle(sources), args.num_images))
    batches = [images[i : i + args.batch_size] for i in range(0, len(images), args.batch_size)]
    if args.backends:
        print(f'{len(images)} images, {torch.get_num_threads()} CPU threads, median of a batch of {args.batch_size}')
        print(compare(args, cfg, batches))
        return
    model = SearchModel(cfg, args.checkpoint, args.device)
    seconds, people = measure(model, batches, args.num_warmup)
    median, p95, p99 = np.percentile(1000 * seconds, [50, 95, 99])
    device = next(model.model.parameters()).device
    print(f'device        {device}, {torch.get_num_threads()} CPU threads')
    print(f'parameters    {sum(p.numel() for p in model.model.parameters()) / 1e6:.2f} M')
    print(f'images/s      {len(images) / seconds.sum():.2f}')
    print(f'latency (ms)  {median:.1f} median, {p95:.1f} 95%, {p99:.1f} 99%, of a batch of {args.batch_size}')
    print(f'peak memory   {peak_memory(device):.0f} MiB')
    print(f'people/image  {people / len(images):.2f}')


if __name__ == '__main__':
    run_tool(main)
