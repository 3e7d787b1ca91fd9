"""Search for a person, given by a box in an image, in a folder of images or a video."""

import argparse
import signal
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmps_kd.apis import PersonSearchInferencer, SearchResult
from mmps_kd.apis.named_configs import read_config
from mmps_kd.errors import run_tool

LISTED = 10


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or name of one that comes with the package')
    parser.add_argument('checkpoint', help='trained weights, of a plain or a distilled model')
    parser.add_argument('--query', required=True, help='image with the person')
    parser.add_argument(
        '--box',
        type=float,
        nargs=4,
        required=True,
        metavar=('X1', 'Y1', 'X2', 'Y2'),
        help='around the person, in pixels of the image as stored: a turn by EXIF is not in it',
    )
    parser.add_argument(
        '--gallery',
        nargs='+',
        required=True,
        help='where to search: folders with all below them, images, videos, patterns in quotes',
    )
    parser.add_argument('--topk', type=int, default=10, help='people in the answer')
    parser.add_argument('--out', type=Path, required=True, help='folder for ranking.png and results.json')
    parser.add_argument(
        '--index-dir',
        type=Path,
        help='folder that keeps what is found in the gallery, for this search if it is interrupted and for later ones; '
        'default: OUT',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.5,
        help="detections with a lower score take no part; lower than the config's: the model is run with it",
    )
    parser.add_argument('--frame-stride', type=int, default=1, help='of a video every so many frames')
    parser.add_argument('--batch-size', type=int, default=1, help='images that are run at a time')
    parser.add_argument('--device', help='such as cuda:1; default: the GPU if there is one')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    return parser.parse_args()


def interrupt(number: int, frame: object) -> None:
    """Stop at a signal as at Ctrl-C; a shell may have started this process with Ctrl-C ignored."""
    raise KeyboardInterrupt(signal.Signals(number))


def report(result: SearchResult, out: Path) -> None:
    """Print the ranking, and what was skipped."""
    for rank, match in enumerate(result.matches, start=1):
        box = ' '.join(f'{x:.0f}' for x in match.box)
        print(f'{rank:3d}  similarity {match.similarity:.3f}  score {match.score:.2f}  box {box}  {match.name}')
    if result.skipped:
        total = result.num_scenes + len(result.skipped)
        print(f'skipped {len(result.skipped)} of {total} scenes:', file=sys.stderr)
        for scene in result.skipped[:LISTED]:
            print(f'  {scene.reason}', file=sys.stderr)
        if len(result.skipped) > LISTED:
            print(f'  and {len(result.skipped) - LISTED} more, see results.json', file=sys.stderr)
    if result.turned:
        names = ', '.join(Path(scene.name).name for scene in result.turned[:LISTED])
        more = ', ...' if len(result.turned) > LISTED else ''
        print(f'turned upright by EXIF, boxes in pixels as stored: {names}{more}', file=sys.stderr)
    print(f'{out / "ranking.png"}: {result.num_people} people in {result.num_scenes} scenes searched')


def main() -> None:
    """Search."""
    args = parse_args()
    cfg = read_config(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    inferencer = PersonSearchInferencer(cfg, args.checkpoint, args.device)
    index = inferencer.open_index(args.index_dir or args.out)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        result = inferencer.search(
            args.query,
            args.box,
            args.gallery,
            args.topk,
            batch_size=args.batch_size,
            score_thr=args.score_thr,
            frame_stride=args.frame_stride,
            index=index,
            out_dir=args.out,
        )
    except KeyboardInterrupt as stopped:
        print(f'\n{index.path} keeps {len(index)} scenes: the same command goes on from there', file=sys.stderr)
        sys.exit(128 + stopped.args[0])
    report(result, args.out)


if __name__ == '__main__':
    run_tool(main)
