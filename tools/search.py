"""Search for a person, given by a box in an image, in a folder of images, a video or a gallery.

Several boxes, after one --query or after several, show one person; with --each every box is a search of its own.
"""

import argparse
import re
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmps_kd.apis import PersonSearchInferencer, SearchResult, read_match
from mmps_kd.apis.init_model import load_config
from mmps_kd.apis.inputs import read_time
from mmps_kd.deployment import add_backend_options
from mmps_kd.errors import UserError, interrupt_at_signals, run_tool
from mmps_kd.evaluation.functional import NUM_RERANKED
from mmps_kd.gallery import Gallery, is_gallery

LISTED = 10


class InOrder(argparse.Action):
    """Collect --query and --box in ``queries``, in the order in which they are given."""

    def __call__(self, parser: argparse.ArgumentParser, args: argparse.Namespace, values: str | list, _: str) -> None:
        """Append the option's name and value."""
        args.queries = [*getattr(args, 'queries', []), (self.dest, values)]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or name of one that comes with the package')
    parser.add_argument('checkpoint', help='trained weights, of a plain or a distilled model')
    parser.add_argument(
        '--query',
        action=InOrder,
        required=True,
        metavar='IMAGE',
        help='image with the person, frame of a video such as cam.mp4#250, or a match of an earlier search such as '
        'results.json#3, which has its box; repeat it for more images of the same person',
    )
    parser.add_argument(
        '--box',
        action=InOrder,
        type=float,
        nargs=4,
        metavar=('X1', 'Y1', 'X2', 'Y2'),
        help='around the person in the --query before it, in pixels as stored: a turn by EXIF is not in it; repeat it '
        'for more boxes of the same person',
    )
    parser.add_argument(
        '--each', action='store_true', help='search for each box by itself; the answers are in OUT/1, OUT/2, ...'
    )
    parser.add_argument(
        '--gallery',
        nargs='+',
        required=True,
        help='where to search: folders with all below them, images, videos, patterns in quotes; or one gallery that '
        'tools/gallery.py has filled, a folder or an address such as s3://bucket/name, which is searched as it is',
    )
    parser.add_argument('--camera', nargs='+', metavar='NAME', help='of a gallery, only these cameras')
    parser.add_argument(
        '--after',
        type=read_time,
        metavar='TIME',
        help='of a gallery, only images of this time or later, such as 2024-05-06T07:08:09, or a number of seconds',
    )
    parser.add_argument('--before', type=read_time, metavar='TIME', help='of a gallery, only images before this time')
    parser.add_argument('--topk', type=int, default=10, help='people in the answer')
    parser.add_argument('--min-similarity', type=float, help='least similarity of people in the answer, -1 to 1')
    parser.add_argument(
        '--rerank',
        nargs='?',
        type=int,
        const=NUM_RERANKED,
        metavar='N',
        help=f're-rank the N most similar people by their k-reciprocal neighbours; without a number {NUM_RERANKED}',
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='folder for results.json, results.csv, ranking.png, report.html'
    )
    parser.add_argument('--no-report', action='store_true', help='do not write report.html')
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
    add_backend_options(parser)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    rest = parser.parse_known_args()[1]
    if rest and not rest[0].startswith('-'):
        raise UserError(f'{rest[0]} belongs to no option: each --query takes one image, followed by its --box')
    return parser.parse_args()


def pair_boxes(options: list[tuple[str, str | list[float]]]) -> list[tuple[str, list[list[float]]]]:
    """Query images, each with its boxes, from --query and --box in the order given.

    Raises:
        UserError: If images and boxes do not fit together, or a results file does not have the match.
    """
    images = [image for option, image in options if option == 'query']
    if options[0][0] == 'box' and len(images) > 1:
        raise UserError('--box comes before the first --query: give the boxes of each image after its --query')
    boxes, own = [[] for _ in images], -1
    for option, value in options:
        if option == 'query':
            own += 1
        else:
            boxes[max(own, 0)].append(value)  # the box of a single image may come first
    for own, image in enumerate(images):
        match = re.fullmatch(r'(.+\.json)(?:#(\d+))?', image)
        if match and not match[2]:
            raise UserError(f'{image} needs the rank of a match: write {image}#1 for the first')
        if match and boxes[own]:
            raise UserError(f'{image} has its own box: leave out --box')
        if match:
            earlier = read_match(match[1], int(match[2]))
            images[own], boxes[own] = earlier.name, [list(earlier.box)]
        elif not boxes[own]:
            raise UserError(f'--query {image} has no box: write --box X1 Y1 X2 Y2 after it')
    return list(zip(images, boxes, strict=True))


def report(result: SearchResult, out: Path) -> None:
    """Print the ranking, and what was skipped."""
    for rank, match in enumerate(result.matches, start=1):
        box = ' '.join(f'{x:.0f}' for x in match.box)
        print(f'{rank:3d}  similarity {match.similarity:.3f}  score {match.score:.2f}  box {box}  {match.name}')
    if result.queries:
        print(f'{len(result.queries)} boxes show one person; --each searches for each by itself')
    if not result.matches:
        print(f'not found: nobody has a similarity of at least {result.min_similarity:g}')
    if result.skipped:
        total = result.num_scenes + len(result.skipped)
        print(f'skipped {len(result.skipped)} of {total} images:', file=sys.stderr)
        for source in result.skipped[:LISTED]:
            print(f'  {source.reason}', file=sys.stderr)
        if len(result.skipped) > LISTED:
            print(f'  and {len(result.skipped) - LISTED} more, see results.json', file=sys.stderr)
    if result.turned:
        names = ', '.join(Path(source.name).name for source in result.turned[:LISTED])
        more = ', ...' if len(result.turned) > LISTED else ''
        print(f'turned upright by EXIF, boxes in pixels as stored: {names}{more}', file=sys.stderr)
    written = 'results.json' if result.picture is None else 'ranking.png'
    if result.picture is None:
        print('no ranking.png and no report: images of the gallery are not here, or have changed', file=sys.stderr)
    print(f'{out / written}: {result.num_people} people in {result.num_scenes} images searched')


def main() -> None:
    """Search."""
    args = parse_args()
    queries = pair_boxes(args.queries)
    searches = {args.out: queries}
    if args.each:
        singles = [(image, box) for image, boxes in queries for box in boxes]
        searches = {args.out / str(number): [single] for number, single in enumerate(singles, start=1)}
    cfg = load_config(args.config, args.cfg_options)
    inferencer = PersonSearchInferencer(
        cfg, args.checkpoint, args.device, backend=args.backend, precision=args.precision
    )
    gallery, index = args.gallery, None
    if len(gallery) == 1 and is_gallery(gallery[0]):
        if args.index_dir is not None:
            raise UserError(f'--index-dir is for images: leave it out, gallery {gallery[0]} is searched as it is')
        gallery = Gallery(gallery[0])
    else:
        index = inferencer.open_index(args.index_dir or args.out)
    interrupt_at_signals()
    try:
        for image, boxes in queries if args.each else ():
            inferencer.embed(image, boxes)  # a bad query stops here, not after the searches before it
        for out, query in searches.items():
            images, boxes = zip(*query, strict=True)
            result = inferencer.search(
                images,
                boxes,
                gallery,
                args.topk,
                min_similarity=args.min_similarity,
                rerank=args.rerank,
                camera=args.camera,
                after=args.after,
                before=args.before,
                batch_size=args.batch_size,
                score_thr=args.score_thr,
                frame_stride=args.frame_stride,
                index=index,
                out_dir=out,
                report=not args.no_report,
            )
            report(result, out)
    except KeyboardInterrupt as stopped:
        if index is not None:
            print(f'\n{index.uri} keeps {len(index)} images: the same command goes on from there', file=sys.stderr)
        sys.exit(128 + stopped.args[0])


if __name__ == '__main__':
    run_tool(main)
