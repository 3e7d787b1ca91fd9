"""Turn marks that were set in reports of tools/search.py into annotations, for CustomPersonSearchDataset."""

import argparse
import json
import os
from pathlib import Path

from mmps_kd.datasets.image_files import read_sizes
from mmps_kd.errors import UserError, run_tool
from mmps_kd.evaluation.functional import Marks, read_marks
from mmps_kd.fileio import atomic_write


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('marks', nargs='+', help='JSON files that a report saved')
    parser.add_argument('--images', type=Path, required=True, help='folder that holds the images')
    parser.add_argument(
        '--report', type=Path, help='report.html that the marks are of; default: it is in the folder of the first file'
    )
    parser.add_argument('--out', type=Path, required=True, help='JSON to write')
    return parser.parse_args()


def join_identities(marks: Marks) -> tuple[dict, list]:
    """Who is the same person.

    Args:
        marks: Of one report.

    Returns:
        Number of the identity of each box that has one, and the boxes that are people without identity.

    Raises:
        UserError: If a hit that is marked wrong is the same person by other marks.
    """
    parent = {}
    queries = [query for query in marks.queries if any(mark is not None for mark in query.marks)]

    def root(box: tuple) -> tuple:
        parent.setdefault(box, box)
        while parent[box] != box:
            box = parent[box]
        return box

    for query in queries:
        right = [hit for hit, mark in zip(query.hits, query.marks, strict=True) if mark]
        for box in (*query.query[1:], *right):
            parent[root(box)] = root(query.query[0])
        root(query.query[0])
    numbers = {}
    identities = {box: numbers.setdefault(root(box), len(numbers)) for box in list(parent)}
    wrong = []
    for query in queries:
        for hit, mark in zip(query.hits, query.marks, strict=True):
            if mark is False and identities.get(hit) == identities[query.query[0]]:
                box = ' '.join(f'{side:g}' for side in hit[1])
                raise UserError(
                    f'contradictory marks: {hit[0]}, box {box} is marked wrong for the query in {query.query[0][0]}, '
                    'and the same person by other marks: correct one of them'
                )
            if mark is False and hit not in identities:
                wrong.append(hit)
    return identities, list(dict.fromkeys(wrong))


def main() -> None:
    """Write the annotations."""
    args = parse_args()
    found = read_marks(args.marks, args.report)
    if len(found) > 1:
        raise UserError('the files have marks of several reports: turn those of each report into a JSON of its own')
    (marks,) = found
    folder = (args.report or Path(args.marks[0])).resolve().parent
    identities, wrong = join_identities(marks)
    if not identities:
        raise UserError(f'{args.marks[0]} has no marked hit: mark some in the report, and save again')
    images = {box[0] for box in (*identities, *wrong)}
    unmarked = [box for box in marks.people if box[0] in images and box not in identities and box not in set(wrong)]
    boxes = [(box, dict(person_id=identities[box])) for box in identities]
    boxes += [(box, dict(person_id=-1)) for box in wrong] + [(box, dict(ignore=1)) for box in unmarked]
    names = {image: os.path.relpath(folder / image, args.images.resolve()) for image in sorted(images)}
    for image, name in names.items():
        if name.startswith('..') or not (args.images / name).is_file():
            raise UserError(
                f'{image} of the marks is not in {args.images}: name the folder of the images, and with --report the '
                'report where it was written'
            )
    searched = {image for image, _ in marks.people}
    sizes = read_sizes(args.images, list(names.values())).tolist()
    ids = {image: number for number, image in enumerate(names)}
    content = dict(
        images=[
            dict(id=ids[image], file_name=name.replace(os.sep, '/'), height=height, width=width)
            for (image, name), (height, width) in zip(names.items(), sizes, strict=True)
        ],
        categories=[dict(id=1, name='person')],
        annotations=[
            dict(id=number, image_id=ids[image], category_id=1, bbox=[x1, y1, x2 - x1, y2 - y1], **more)
            for number, ((image, (x1, y1, x2, y2)), more) in enumerate(
                sorted(boxes, key=lambda entry: (ids[entry[0][0]], entry[0][1]))
            )
        ],
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out) as file:
        file.write(json.dumps(content).encode())
    print(
        f'{args.out}: {len(set(identities.values()))} identities in {len(identities)} boxes, {len(wrong)} people '
        f'without identity and {len(unmarked)} ignored regions in {len(images)} images'
    )
    if unknown := len(images - searched):
        print(f'note: in {unknown} images of queries, which were not searched, only the query is annotated')


if __name__ == '__main__':
    run_tool(main)
