"""Turn detections of any detector into annotations without identities, to learn from unlabelled images.

Detections are COCO results (JSON): a list of image_id, bbox, score and category_id, where image_id is the image's file
name; or a dict of such annotations and of images (id, file_name).
"""

import argparse
import json
import os
from pathlib import Path

from mmps_kd.datasets.image_files import read_sizes
from mmps_kd.errors import UserError, run_tool
from mmps_kd.fileio import atomic_write
from mmps_kd.models.distillers import DetectionFile


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('detections', help='COCO results')
    parser.add_argument('images', type=Path, help='folder that their file names are relative to')
    parser.add_argument('--out', type=Path, required=True, help='JSON to write')
    parser.add_argument('--category-id', type=int, help='which detections are people (default: all)')
    parser.add_argument('--score-thr', type=float, default=0.5, help='least score of a person (default: %(default)s)')
    parser.add_argument(
        '--ignore-thr', type=float, default=0.2, help='least score of an ignored region (default: %(default)s)'
    )
    return parser.parse_args()


def main() -> None:
    """Write one annotation for each person; what may be one becomes an ignored region."""
    args = parse_args()
    found = DetectionFile(args.detections, args.category_id).detections
    names = sorted(found)
    if missing := [name for name in names if not (args.images / name).is_file()]:
        raise UserError(
            f'{args.images} lacks {len(missing)} of the {len(names)} images detected in, first {missing[0]}'
        )
    images, annotations = [], []
    for name, (height, width) in zip(names, read_sizes(args.images, names).tolist(), strict=True):
        images.append(dict(id=len(images), file_name=name.replace(os.sep, '/'), height=height, width=width))
        for x1, y1, x2, y2, score in found[name].tolist():
            if score < min(args.score_thr, args.ignore_thr):
                continue
            box = dict(id=len(annotations), image_id=images[-1]['id'], category_id=1, bbox=[x1, y1, x2 - x1, y2 - y1])
            annotations.append(box | (dict(ignore=1) if score < args.score_thr else {}))
    people = sum('ignore' not in annotation for annotation in annotations)
    if not people:
        raise UserError(f'{args.detections} has no detection of a score of {args.score_thr} or more: lower --score-thr')
    content = dict(images=images, categories=[dict(id=1, name='person')], annotations=annotations)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out) as file:
        file.write(json.dumps(content).encode())
    print(f'{args.out}: {people} people and {len(annotations) - people} ignored regions in {len(images)} images')


if __name__ == '__main__':
    run_tool(main)
