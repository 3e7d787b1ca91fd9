"""Measure how fast a trained model finds and describes people, and what memory it takes."""

import argparse
import itertools
import resource
import sys
import time

import numpy as np
import torch
from mmengine.config import DictAction

from mmps_kd.apis.inferencer import SearchModel
from mmps_kd.apis.init_model import load_config
from mmps_kd.apis.inputs import Sources
from mmps_kd.errors import run_tool


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
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    return parser.parse_args()


def measure(model: SearchModel, batches: list[list[np.ndarray]], num_warmup: int) -> tuple[np.ndarray, int]:
    """Run batches of images, resizing and preparation included.

    Returns:
        Seconds that each batch took, without those of the warm-up, and number of people found.
    """
    for batch in itertools.islice(itertools.cycle(batches), num_warmup):
        model.detect(batch)
    seconds, people = [], 0
    for batch in batches:
        start = time.perf_counter()
        # Answers are on the CPU: a GPU has finished.
        found = model.detect(batch)
        seconds.append(time.perf_counter() - start)
        people += sum(len(source.boxes) for source in found)
    return np.array(seconds), people


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
    model = SearchModel(cfg, args.checkpoint, args.device)
    sources = [source.read() for source in itertools.islice(Sources(args.images), args.num_images)]
    images = list(itertools.islice(itertools.cycle(sources), args.num_images))
    batches = [images[i : i + args.batch_size] for i in range(0, len(images), args.batch_size)]
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
