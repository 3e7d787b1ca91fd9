"""Write a trained model, plain or distilled, as ONNX or as a program of torch.export.

With --task embed the file embeds people in given boxes, such as a query's; otherwise it detects and embeds people.
"""

import argparse
import logging
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.registry import init_default_scope

from mmps_kd.apis.init_model import init_model, load_config, require_search_model
from mmps_kd.deployment import export_program, write_onnx
from mmps_kd.errors import UserError, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or name of one that comes with the package')
    parser.add_argument('checkpoint', help='trained weights')
    parser.add_argument('out', type=Path, help='file to write: .onnx for ONNX, .pt2 for torch.export')
    parser.add_argument(
        '--task',
        choices=('detect', 'embed'),
        default='detect',
        help='detect: from an image to boxes, scores and embeddings; embed: from an image and boxes to embeddings',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    return parser.parse_args()


def main() -> None:
    """Export."""
    args = parse_args()
    if args.out.suffix not in ('.onnx', '.pt2'):
        raise UserError(f'the exported file must end in .onnx or .pt2, not {args.out.name}')
    cfg = load_config(args.config, args.cfg_options)
    require_search_model(cfg)
    init_default_scope('mmdet')
    program = export_program(init_model(cfg, args.checkpoint, 'cpu'), args.task)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.out.suffix == '.onnx':
        # It notes each operator of torchvision, which is not used, as missing.
        logging.getLogger('torch.onnx').setLevel(logging.ERROR)
        write_onnx(program, args.out, args.task)
    else:
        torch.export.save(program, args.out, extra_files=dict(task=args.task))
    print(f'{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB')


if __name__ == '__main__':
    run_tool(main)
