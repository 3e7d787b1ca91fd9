"""OIM's forward pass, backward pass and update beside the bare products and softmax, measured in turn in one run.

The size is CUHK-SYSU's: 5,532 identities, a queue of 5,000, embeddings of 256 dimensions, one labelled person in four.
Before each measurement the caches are overwritten, as the layers of a network do before OIM's turn comes.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from mmps_kd.models.losses import OIMLoss


def main() -> None:
    """Print the times and OIM's ratio to the bare products and softmax."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', default=[64, 128, 512], nargs='+', type=int, help='people in a batch')
    parser.add_argument('--repeats', default=50, type=int)
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    torch.set_num_threads(1)
    for rows in args.rows:
        times = measure(steps(rows, args.device), args.repeats, args.device)
        print(
            f'{rows} people, {rows // 4} labelled: OIM {times[0]:.2f} ms, {times[3]:.2f} of it the update; products '
            f'and softmax {times[1]:.2f} ms, of unlabelled people too {times[2]:.2f} ms; '
            f'ratios {times[0] / times[1]:.2f} and {times[0] / times[2]:.2f}'
        )


def steps(rows: int, device: str) -> list[Callable[[], None]]:
    """OIM; products and softmax of the labelled people; the same of all people, as usually written; OIM's update."""
    generator = torch.Generator().manual_seed(0)
    loss = OIMLoss(num_identities=5532, feat_channels=256, queue_size=5000)
    for buffer in (loss.lut, loss.queue):
        buffer.copy_(F.normalize(torch.randn(buffer.shape, generator=generator), dim=1))
    loss.to(device)
    embeddings = F.normalize(torch.randn(rows, 256, generator=generator), dim=1).to(device).requires_grad_()
    pids = torch.randint(0, 5532, (rows,), generator=generator).to(device)
    pids[rows // 4 :] = -1
    table = torch.cat([loss.lut, loss.queue])
    few = embeddings.detach()[: rows // 4].clone().requires_grad_()

    def oim() -> None:
        loss(embeddings, pids).backward()

    def bare() -> None:
        F.cross_entropy((few * 30) @ table.t(), pids[: rows // 4]).backward()

    def bare_of_all() -> None:
        F.cross_entropy(embeddings @ table.t() / (1 / 30), pids, ignore_index=-1).backward()

    def update() -> None:
        loss.update(embeddings, pids)

    return [oim, bare, bare_of_all, update]


def measure(functions: list[Callable[[], None]], repeats: int, device: str) -> list[float]:
    """Median milliseconds of each function; they take turns, so that other work on the machine meets all of them."""
    times: list[list[float]] = [[] for _ in functions]
    caches = torch.zeros(2**26, device=device)  # 256 MiB
    for turn in range(repeats + 3):
        for function, taken in zip(functions, times, strict=True):
            caches += 1
            if device != 'cpu':
                torch.cuda.synchronize()
            start = time.perf_counter()
            function()
            if device != 'cpu':
                torch.cuda.synchronize()
            if turn >= 3:  # the first turns warm up
                taken.append(1000 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times]


if __name__ == '__main__':
    main()
