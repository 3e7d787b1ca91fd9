"""Check a data set's folder: annotations, every image, every box, and the numbers against the official ones."""

import argparse
import json
import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from mmengine.registry import init_default_scope
from terminaltables import AsciiTable

from mmps_kd.datasets.check import LAYOUTS, TURNED, FolderReport, Layout, check_folder
from mmps_kd.errors import UserError, run_tool

LISTED = 20


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog='Exit code 1 if there is a problem, 130 if stopped.')
    parser.add_argument('layout', choices=list(LAYOUTS))
    parser.add_argument('root', type=Path, help="the data set's folder")
    parser.add_argument('--split', choices=['train', 'test'], help='only this one')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='number of threads that decode images')
    parser.add_argument('--out', type=Path, help='write everything that was found to this JSON file')
    custom = parser.add_argument_group('custom')
    custom.add_argument('--train-file', default='train.json', help='default: %(default)s')
    custom.add_argument('--test-file', default='test.json', help='default: %(default)s')
    custom.add_argument('--query-file', help='query list of the test set')
    custom.add_argument('--class', dest='class_name', default='person', help='category to search: %(default)s')
    parser.add_argument(
        '--cross-camera', action='store_true', help="custom, prw: leave the query's own camera out of its gallery"
    )
    parser.add_argument(
        '--skip-absent-queries',
        action='store_true',
        help='custom, prw: leave queries out whose person is nowhere in the gallery, and count them',
    )
    parser.add_argument('--image-folder', help="where the images are, relative to root; default: the layout's own")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error('--jobs must be at least 1')
    return args


def dataset_options(args: argparse.Namespace) -> dict[str, dict]:
    """Arguments of the dataset class for each split that is asked for."""
    options = {'train': {}, 'test': {}}
    if args.layout == 'custom':
        options['train']['ann_file'] = args.train_file
        options['test'].update(ann_file=args.test_file, query_file=args.query_file)
        for more in options.values():
            more['metainfo'] = dict(classes=(args.class_name,))
    if args.cross_camera:
        if args.layout == 'cuhk-sysu':
            raise UserError('--cross-camera is an option of custom and prw: CUHK-SYSU lists its galleries')
        options['test']['cross_camera'] = True
    if args.skip_absent_queries:
        if args.layout == 'cuhk-sysu':
            raise UserError('--skip-absent-queries is an option of custom and prw: CUHK-SYSU lists its galleries')
        options['test']['on_absent_query'] = 'skip'
    for more in options.values():
        if args.image_folder is not None:
            more['data_prefix'] = dict(img=args.image_folder)
    return {split: more for split, more in options.items() if args.split in (None, split)}


def print_report(report: FolderReport, layout: Layout) -> None:
    """Two tables, then every problem on a line of its own."""
    rows = [['split', 'what', 'found', 'official', '']]
    for key, found in report.counts.items():
        official = layout.official.get(key)
        differs = official not in (None, found)
        rows.append([*key, found, official or 'unknown', 'differs from the official data set' if differs else ''])
    print(AsciiTable(rows).table)
    numbers = Counter((finding.split, finding.serious, finding.what) for finding in report.findings)
    first = {(f.split, f.serious, f.what): f for f in reversed(report.findings)}
    rows = [['split', '', 'what', 'number', 'first']]
    for (split, serious, what), number in sorted(numbers.items(), key=lambda item: -item[0][1]):
        example = first[split, serious, what]
        rows.append([split, 'PROBLEM' if serious else 'note', what, number, example.file])
    if len(rows) > 1:
        print(AsciiTable(rows).table)
    if turned := [finding.file for finding in report.findings if finding.what == TURNED]:
        names = ', '.join(turned[:LISTED]) + (f' and {len(turned) - LISTED} more' if len(turned) > LISTED else '')
        print(f'to be turned by EXIF, their boxes must be in pixels as stored: {names}')
    for problem in report.problems:
        print(f'{problem.split}: {problem.file}: {problem.what}{problem.detail and ": "}{problem.detail}')


def write_report(path: Path, report: FolderReport, args: argparse.Namespace) -> None:
    """Everything found, as JSON."""
    official = LAYOUTS[args.layout].official
    counts = [
        dict(split=split, what=what, found=found, official=official.get((split, what)))
        for (split, what), found in report.counts.items()
    ]
    content = dict(layout=args.layout, root=str(args.root), counts=counts, findings=[*map(asdict, report.findings)])
    path.write_text(json.dumps(content, indent=2) + '\n')


def main() -> None:
    """Check, print, write."""
    args = parse_args()
    if args.out is not None and not args.out.parent.is_dir():
        raise UserError(f'there is no folder {args.out.parent} to write {args.out.name} to')
    init_default_scope('mmdet')
    layout = LAYOUTS[args.layout]
    try:
        report = check_folder(layout, args.root, args.jobs, dataset_options(args))
    except KeyboardInterrupt:
        print('stopped: nothing is reported', file=sys.stderr)
        sys.exit(130)
    print_report(report, layout)
    if args.out is not None:
        write_report(args.out, report, args)
    if report.problems:
        print(f'{len(report.problems)} problems')
        sys.exit(1)
    print('no problems')


if __name__ == '__main__':
    run_tool(main)
