"""Strip a checkpoint to what inference needs, and put a hash into its name."""

import argparse
from pathlib import Path

import torch

from mmps_kd.errors import UserError, run_tool
from mmps_kd.models.utils.checkpoint_io import file_sha256, read_checkpoint


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', type=Path, help='written by tools/train.py, distilled or not')
    parser.add_argument('out', type=Path, help='name.pth becomes name-<first 8 digits of its sha256>.pth')
    return parser.parse_args()


def publish(checkpoint: Path, out: Path) -> Path:
    """Write the student alone: no optimizer, no adaptation layers, no weights of losses.

    Who trained it on what stays (``meta``: data set, identities, config, teachers), so that a published teacher can
    still be asked for its table.

    Returns:
        The file written.
    """
    if out.suffix != '.pth':
        raise UserError(f'the published file must end in .pth, not {out.name}')
    loaded = read_checkpoint(checkpoint)
    student = {name: value for name, value in loaded['state_dict'].items() if not name.startswith('distillation')}
    torch.save(dict(meta=loaded['meta'], state_dict=student), out)
    return out.rename(out.with_stem(f'{out.stem}-{file_sha256(out)[:8]}'))


def main() -> None:
    """Publish."""
    args = parse_args()
    print(publish(args.checkpoint, args.out))


if __name__ == '__main__':
    run_tool(main)
