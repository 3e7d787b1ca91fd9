"""Fill and maintain a gallery: the people of many images, stored for searching."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import DictAction

from mmps_kd.apis.indexing import index_images
from mmps_kd.apis.inferencer import SearchModel
from mmps_kd.apis.init_model import load_config
from mmps_kd.apis.inputs import Sources, read_time
from mmps_kd.deployment import add_backend_options
from mmps_kd.engine.launch import RANKS, read_rank
from mmps_kd.errors import UserError, interrupt_at_signals, run_tool
from mmps_kd.gallery import Gallery, read_npz_gallery

LISTED = 10


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    index = commands.add_parser('index', help='run new and changed images, and add them')
    index.add_argument('config', help='config file, or name of one that comes with the package')
    index.add_argument('checkpoint', help='trained weights, of a plain or a distilled model')
    index.add_argument(
        'sources',
        nargs='+',
        metavar='SOURCE',
        help='folders with all below them, images, videos, patterns in quotes; a .txt file lists further ones by line',
    )
    index.add_argument(
        '--gallery', required=True, metavar='URI', help='folder, s3://bucket/name, milvus://host:port/name'
    )
    index.add_argument(
        '--score-thr', type=float, help="detections with a lower score are not stored; default: the config's own"
    )
    index.add_argument(
        '--camera-folders', action='store_true', help='a folder below a SOURCE has the images of the camera of its name'
    )
    index.add_argument('--frame-stride', type=int, default=1, help='of a video every so many frames')
    index.add_argument(
        '--video-start',
        type=read_time,
        default=0.0,
        metavar='TIME',
        help='when the videos start, such as 2024-05-06T07:08:09; default: the time of a frame counts from its video',
    )
    index.add_argument('--batch-size', type=int, default=1, help='images of one size that are run at a time')
    index.add_argument('--num-workers', type=int, default=2, help='processes that decode images, for each rank')
    index.add_argument('--commit-seconds', type=float, default=30, help='add what was found at least this often')
    index.add_argument('--device', help='such as cuda:1; default: a GPU for each rank of a machine, if there are GPUs')
    add_backend_options(index)
    index.add_argument('--launcher', choices=list(RANKS), default='none')
    index.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    index.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')

    for name, text in (
        ('info', 'show what a gallery holds, as JSON'),
        ('optimize', 'join files and build indexes, after many images were added'),
        ('prune', 'remove images and videos whose file is gone'),
    ):
        commands.add_parser(name, help=text).add_argument('gallery', metavar='URI')
    remove = commands.add_parser('remove', help='remove images, videos with all frames, folders with all below them')
    remove.add_argument('gallery', metavar='URI')
    remove.add_argument('images', nargs='+', metavar='IMAGE')
    export = commands.add_parser('export', help='write a gallery to a file')
    export.add_argument('gallery', metavar='URI')
    export.add_argument('out', help='name that ends with .npz (the interchange format), .parquet or .csv')
    importing = commands.add_parser('import', help='read an npz gallery, of an earlier release or an export')
    importing.add_argument('file', help='.npz')
    importing.add_argument('gallery', metavar='URI')
    return parser.parse_args()


def read_lists(sources: list[str]) -> list[str]:
    """Sources, with those that text files list."""
    found = []
    for source in sources:
        try:
            found += Path(source).read_text().split('\n') if source.endswith('.txt') else [source]
        except OSError as error:
            raise UserError(f'{source} cannot be read: {error.strerror}') from None
    return [source for source in found if source.strip()]


def camera_folders(sources: list[str]) -> Callable[[str], str]:
    """A function that gives the name of the folder directly below a source in which a file lies, or nothing."""
    roots = [os.path.abspath(os.path.expanduser(source)) for source in sources]
    roots = [root for root in roots if os.path.isdir(root)]

    def camera_of(file: str) -> str:
        for root in roots:
            folder, slash, _ = file.removeprefix(f'{root}/').partition('/')
            if file.startswith(f'{root}/') and slash:
                return folder
        return ''

    return camera_of


def index(args: argparse.Namespace) -> None:
    """Run images and add them; each process of a launcher takes a share of the files."""
    rank, world, local = read_rank(args.launcher)
    device = args.device
    if device is None and args.backend == 'torch' and torch.cuda.is_available():
        device = f'cuda:{local % torch.cuda.device_count()}'
    if args.batch_size < 1:
        raise UserError(f'--batch-size must be at least 1, not {args.batch_size}')
    names = read_lists(args.sources)
    sources = Sources(names, args.frame_stride)
    cfg = load_config(args.config, args.cfg_options)
    model = SearchModel(cfg, args.checkpoint, device, args.backend, args.precision)
    score_thr = model.score_thr if args.score_thr is None else min(model.score_thr, max(args.score_thr, 0))
    gallery = Gallery(args.gallery, model.key, model.dim, score_thr=score_thr)
    interrupt_at_signals()
    added = 0

    def count(committed: list[str]) -> None:
        nonlocal added
        added += len(committed)
        print(f'rank {rank} of {world}: {added} images added', flush=True)

    try:
        skipped = index_images(
            model,
            sources,
            gallery,
            share=(rank, world),
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            camera_of=camera_folders(names) if args.camera_folders else lambda file: '',
            video_start=args.video_start,
            commit_seconds=args.commit_seconds,
            on_commit=count,
        )
    except KeyboardInterrupt as stopped:
        print(f'\n{gallery.uri} keeps {added} new images: the same command goes on from there', file=sys.stderr)
        sys.exit(128 + stopped.args[0])
    for source in skipped[:LISTED]:
        print(f'skipped: {source.reason}', file=sys.stderr)
    if len(skipped) > LISTED:
        print(f'skipped: {len(skipped) - LISTED} more', file=sys.stderr)
    if world == 1:
        gallery.optimize()
        print(f'{gallery.uri}: {len(gallery)} images, {gallery.count()} detections')


def main() -> None:
    """Run a subcommand."""
    args = parse_args()
    if args.command == 'index':
        index(args)
    elif args.command == 'import':
        model = str(read_npz_gallery(args.file)['model'])
        number = Gallery(args.gallery, model).import_npz(args.file)
        print(f'{number} images read')
    else:
        gallery = Gallery(args.gallery)
        if args.command == 'info':
            print(json.dumps(gallery.info(), indent=1))
        elif args.command == 'optimize':
            gallery.optimize()
        elif args.command == 'export':
            gallery.export(args.out)
        else:
            removed = gallery.prune() if args.command == 'prune' else gallery.remove(args.images)
            print(f'{len(removed)} images removed, {len(gallery)} kept')


if __name__ == '__main__':
    run_tool(main)
