"""Turn tracking annotations of the MOTChallenge form into the JSON of a custom data set.

A sequence is a folder with gt/gt.txt (or gt.txt) and its frames: the folder img1 (seqinfo.ini may name another), or one
video. Lines of gt.txt: frame, id, left, top, width, height, flag, class, visibility; or, as in MOT15, without class and
visibility. Each sequence is a camera of its own.
"""

import argparse
import configparser
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from mmps_kd.datasets.image_files import stored_size
from mmps_kd.errors import UserError, run_tool

PEDESTRIAN = 1
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')


@dataclass
class Track:
    """One line of gt.txt.

    Attributes:
        frame: From 1.
        number: Identity in the sequence.
        box: Left, top, width, height in pixels.
        kind: Class, 1 for pedestrians; where the file names none, 1.
        visibility: In 0..1; 1 where the file names none.
        counts: Whether the flag says that the entry is to be considered.
    """

    frame: int
    number: int
    box: tuple[float, float, float, float]
    kind: int
    visibility: float
    counts: bool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sequences', nargs='+', type=Path, help='folders of the sequences')
    parser.add_argument(
        '--out', type=Path, required=True, help='JSON to write; frames come to images/SEQUENCE beside it, as links'
    )
    parser.add_argument('--stride', type=int, default=1, help='take each n-th frame (default: %(default)s)')
    parser.add_argument(
        '--min-visibility', type=float, default=0.0, help='people who are less visible become ignored regions'
    )
    parser.add_argument(
        '--ignore-classes',
        nargs='*',
        type=int,
        default=[2, 7, 8, 12, 13],
        help='classes that become ignored regions (default: on a vehicle, static, distractor, reflection, crowd)',
    )
    parser.add_argument(
        '--merge', type=Path, help='identities that return: each line names one person, SEQUENCE:ID SEQUENCE:ID ...'
    )
    parser.add_argument(
        '--queries',
        action='store_true',
        help='for a test set: who is in several sequences is searched from each of them, by the most visible box',
    )
    args = parser.parse_args()
    if args.stride < 1:
        parser.error('--stride is at least 1')
    return args


def main() -> None:
    """Write the JSON, and the frames of videos."""
    args = parse_args()
    names = [sequence.resolve().name for sequence in args.sequences]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f'two sequences are called {twice}: the name is the camera, rename a folder')
    folder = args.out.parent / 'images'
    folder.mkdir(parents=True, exist_ok=True)
    tracks = {name: read_tracks(sequence) for name, sequence in zip(names, args.sequences, strict=True)}
    person_of = number_people(tracks, args.merge)

    images, annotations, best = [], [], {}
    for name, sequence in zip(names, args.sequences, strict=True):
        by_frame = defaultdict(list)
        for track in tracks[name]:
            by_frame[track.frame].append(track)
        for frame, file, height, width in frames_of(sequence.resolve(), folder / name, args.stride):
            image = dict(id=len(images), file_name=f'{name}/{file}', height=height, width=width)
            images.append({**image, 'camera': name, 'frame': frame})
            for track in by_frame[frame]:
                left, top, w, h = track.box
                x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
                if x2 <= x1 or y2 <= y1 or track.kind not in (PEDESTRIAN, *args.ignore_classes):
                    continue
                entry = dict(id=len(annotations), image_id=image['id'], category_id=1, bbox=[x1, y1, x2 - x1, y2 - y1])
                if track.kind == PEDESTRIAN and track.counts and track.visibility >= args.min_visibility:
                    entry['person_id'] = person_of[name, track.number]
                    # The most visible box, of these the largest, then the earliest.
                    rank = (-track.visibility, -(x2 - x1) * (y2 - y1), entry['id'])
                    key = entry['person_id'], name
                    best[key] = min(best.get(key, rank), rank)
                else:
                    entry['ignore'] = 1
                annotations.append(entry)
    content = dict(images=images, categories=[dict(id=1, name='person')], annotations=annotations)
    if args.queries:
        content['queries'] = list_queries(best, args.out)
    args.out.write_text(json.dumps(content))
    people = {entry['person_id'] for entry in annotations if 'person_id' in entry}
    print(f'{args.out}: {len(images)} images, {len(annotations)} boxes, {len(people)} people, images in {folder}')


def read_tracks(sequence: Path) -> list[Track]:
    """The lines of a sequence's gt.txt.

    Raises:
        UserError: If there is none, or a line is of another form.
    """
    file = next((file for file in (sequence / 'gt/gt.txt', sequence / 'gt.txt') if file.is_file()), None)
    if file is None:
        raise UserError(f'{sequence} has no gt/gt.txt: a sequence of the MOTChallenge form is needed')
    tracks = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(value) for value in line.split(',')]
            frame, identity, left, top, width, height, flag = values[:7]
            # MOT15 has world coordinates, three numbers, where later ones have class and visibility.
            kind, visibility = values[7:9] if len(values) in (8, 9) else (PEDESTRIAN, 1.0)
            box = (left, top, width, height)
            tracks.append(Track(int(frame), int(identity), box, int(kind), visibility, flag != 0))
        except ValueError:
            raise UserError(
                f'{file}, line {number}: expected frame, id, left, top, width, height, flag, class, visibility; got '
                f'"{line}"'
            ) from None
    return tracks


def number_people(tracks: dict[str, list[Track]], merge: Path | None) -> dict[tuple[str, int], int]:
    """Person id of each identity of each sequence; those on one line of the merge file are one person.

    Raises:
        UserError: If the merge file is missing, of another form, or names an identity that is not there, or one twice.
    """
    identities = [(name, number) for name in tracks for number in sorted({track.number for track in tracks[name]})]
    first = {identity: identity for identity in identities}
    seen = set()
    if merge is not None:
        if not merge.is_file():
            raise UserError(f'there is no merge file {merge}')
        for line_number, line in enumerate(merge.read_text().splitlines(), 1):
            group = []
            for word in line.split('#')[0].split():
                name, _, number = word.rpartition(':')
                identity = (name, int(number) if number.isdecimal() else None)
                if identity not in first:
                    raise UserError(f'{merge}, line {line_number}: {word} is no identity of the sequences: SEQUENCE:ID')
                if identity in seen:
                    raise UserError(f'{merge}, line {line_number}: {word} is on two lines: join them')
                group.append(identity)
                seen.add(identity)
            first.update(dict.fromkeys(group, group[0] if group else None))
    ids = {identity: i for i, identity in enumerate(dict.fromkeys(first.values()))}
    return {identity: ids[first[identity]] for identity in identities}


def frames_of(sequence: Path, link: Path, stride: int) -> Iterator[tuple[int, str, int, int]]:
    """Frame number, file name, height and width of each frame that is taken.

    Raises:
        UserError: If the sequence has neither frames nor a video.
    """
    info = configparser.ConfigParser()
    info.read(sequence / 'seqinfo.ini')
    settings = dict(info['Sequence']) if info.has_section('Sequence') else {}
    frames = sequence / settings.get('imdir', 'img1')
    if frames.is_dir():
        extension = settings.get('imext', '.jpg').lower()
        files = {int(file.stem): file.name for file in frames.iterdir() if file.suffix.lower() == extension}
        if not files:
            raise UserError(f'{frames} has no {extension} files: correct imExt of seqinfo.ini')
        if not link.exists():
            link.symlink_to(frames, target_is_directory=True)
        size = stored_size(frames / files[min(files)])
        for number in sorted(files):
            if (number - 1) % stride == 0:
                yield number, files[number], *size
        return
    videos = [file for file in sorted(sequence.iterdir()) if file.suffix.lower() in VIDEOS]
    if len(videos) != 1:
        raise UserError(f'{sequence} has no folder {frames.name} and {len(videos)} videos: one of both is needed')
    link.mkdir(exist_ok=True)
    video, number = cv2.VideoCapture(str(videos[0])), 0
    while video.grab():
        number += 1
        if (number - 1) % stride == 0:
            pixels = video.retrieve()[1]
            cv2.imwrite(str(link / f'{number:06d}.jpg'), pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
            yield number, f'{number:06d}.jpg', *pixels.shape[:2]
    if not number:
        raise UserError(f'{videos[0]} cannot be read as a video')


def list_queries(best: dict[tuple[int, str], tuple], out: Path) -> list[dict]:
    """A query for each person and sequence, of people in at least two sequences.

    Raises:
        UserError: If there is nobody.
    """
    people = [person for person, _ in best]
    queries = [dict(annotation_id=rank[-1]) for (person, _), rank in sorted(best.items()) if people.count(person) > 1]
    if not queries:
        raise UserError(
            f'{out}: nobody is in two sequences: name who returns in a --merge file, or leave --queries out'
        )
    return queries


if __name__ == '__main__':
    run_tool(main)
