"""Render a synthetic person-search dataset in an official layout."""

import argparse
import os
from pathlib import Path

from mmps_kd.errors import run_tool
from mmps_kd.testing.synthetic.plan import SIZES
from mmps_kd.testing.synthetic.writer import LAYOUTS, is_complete, summary, write_dataset


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='folder to write: new or empty')
    parser.add_argument('--layout', choices=list(LAYOUTS), default='cuhk-sysu', help='whose layout to write')
    parser.add_argument('--size', choices=sorted({size for _, size in SIZES}), default='mini', help='how much of it')
    parser.add_argument('--seed', type=int, default=0, help='another seed gives other persons and images')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='number of processes')
    return parser.parse_args()


def main() -> None:
    """Write the dataset, or say that it is there."""
    args = parse_args()
    if is_complete(args.out, args.layout, args.size, args.seed):
        print(f'already there: {summary(args.out)}')
        return
    write_dataset(args.out, args.layout, args.size, args.seed, args.jobs)
    print(f'written: {summary(args.out)}')


if __name__ == '__main__':
    run_tool(main)
