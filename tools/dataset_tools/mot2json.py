"""Turn tracking annotations of the MOTChallenge form into the JSON of a custom data set.

A sequence is a folder with gt/gt.txt (or gt.txt) and its frames: the folder img1 (seqinfo.ini may name another), or one
video. Lines of gt.txt: frame, id, left, top, width, height, flag, class, visibility; or, as in MOT15, without class and
visibility. Frames and pixels are counted from 1. Each sequence is a camera of its own, unless --cameras names them.
"""

import argparse
import configparser
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from mmps_kd.apis.inputs import video_frames
from mmps_kd.datasets.image_files import DamagedImageError, stored_size
from mmps_kd.errors import UserError, run_tool
from mmps_kd.fileio import atomic_write
from mmps_kd.gallery import is_video

PEDESTRIAN = 1


@dataclass
class Track:
    """One line of gt.txt.

    Attributes:
        line: Its number in the file, from 1.
        frame: Number of the image file, or of the video's frame from 1.
        number: Identity in the sequence; below 0: not known.
        box: Left, top, width, height in pixels; left and top count from 0.
        kind: Class, 1 for pedestrians; where the file names none, 1.
        visibility: In 0..1; 1 where the file names none.
        counts: Whether the flag says that the entry is to be considered.
    """

    line: int
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
    parser.add_argument(
        '--cameras', nargs='+', metavar='CAMERA', help='camera of each sequence, in their order (default: its name)'
    )
    parser.add_argument(
        '--zero-based', action='store_true', help='left and top count pixels from 0, not from 1 as in MOTChallenge'
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
        help='for a test set: who is seen by several cameras is searched from each of them, by the most visible box',
    )
    args = parser.parse_args()
    if args.stride < 1:
        parser.error('--stride is at least 1')
    if args.out.suffix != '.json':
        parser.error(f'--out is the JSON to write, such as {args.out / "train.json"}')
    if args.cameras and len(args.cameras) != len(args.sequences):
        parser.error(f'--cameras names {len(args.cameras)} cameras for {len(args.sequences)} sequences')
    return args


def main() -> None:
    """Write the JSON, and the frames of videos."""
    args = parse_args()
    names = [sequence.resolve().name for sequence in args.sequences]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f'two sequences are called {twice}: their images go to images/{twice}, rename one')
    folder = args.out.parent / 'images'
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: find_gt(sequence) for name, sequence in zip(names, args.sequences, strict=True)}
    tracks = {name: read_tracks(file, 0 if args.zero_based else 1) for name, file in files.items()}
    person_of = number_people(tracks, args.merge)

    images, annotations, best = [], [], {}
    for name, sequence, camera in zip(names, args.sequences, args.cameras or names, strict=True):
        by_frame = defaultdict(list)
        for track in tracks[name]:
            if (track.frame - 1) % args.stride == 0:
                by_frame[track.frame].append(track)
        for frame, file, height, width in frames_of(sequence.resolve(), folder / name, args.stride):
            image = dict(id=len(images), file_name=f'{name}/{file}', height=height, width=width)
            images.append({**image, 'camera': camera, 'frame': frame})
            for track in by_frame.pop(frame, []):
                left, top, w, h = track.box
                x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
                if x2 <= x1 or y2 <= y1 or track.kind not in (PEDESTRIAN, *args.ignore_classes):
                    continue
                entry = dict(id=len(annotations), image_id=image['id'], category_id=1, bbox=[x1, y1, x2 - x1, y2 - y1])
                if track.kind == PEDESTRIAN and track.counts and track.visibility >= args.min_visibility:
                    if track.number >= 0:
                        entry['person_id'] = person_of[name, track.number]
                        # The most visible box, of these the largest, then the earliest.
                        rank = (-track.visibility, -(x2 - x1) * (y2 - y1), entry['id'])
                        key = entry['person_id'], camera
                        best[key] = min(best.get(key, rank), rank)
                else:
                    entry['ignore'] = 1
                annotations.append(entry)
        if left := sorted((track for frame in by_frame.values() for track in frame), key=lambda track: track.line):
            print(
                f'note: {files[name]}, line {left[0].line}: there is no image of frame {left[0].frame}; left out '
                f'{len(left)} such lines'
            )
    content = dict(images=images, categories=[dict(id=1, name='person')], annotations=annotations)
    if args.queries:
        content['queries'] = list_queries(best, args.out)
    with atomic_write(args.out) as file:
        file.write(json.dumps(content).encode())
    people = {entry['person_id'] for entry in annotations if 'person_id' in entry}
    print(f'{args.out}: {len(images)} images, {len(annotations)} boxes, {len(people)} people, images in {folder}')


def find_gt(sequence: Path) -> Path:
    """The annotations of a sequence.

    Raises:
        UserError: If there are none.
    """
    file = next((file for file in (sequence / 'gt/gt.txt', sequence / 'gt.txt') if file.is_file()), None)
    if file is None:
        raise UserError(f'{sequence} has no gt/gt.txt: a sequence of the MOTChallenge form is needed')
    return file


def read_tracks(file: Path, first_pixel: int) -> list[Track]:
    """The lines of a gt.txt.

    Args:
        file: The gt.txt.
        first_pixel: What the file calls the leftmost and topmost pixel, 0 or 1.

    Raises:
        UserError: If a line is of another form, or an identity is in a frame twice.
    """
    tracks, seen = [], {}
    for number, line in enumerate(file.read_text('utf-8-sig', 'replace').splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(value) for value in line.split(',')]
            frame, identity, left, top, width, height, flag = values[:7]
            # MOT15 has world coordinates, three numbers, where later ones have class and visibility.
            kind, visibility = values[7:9] if len(values) in (8, 9) else (PEDESTRIAN, 1.0)
            if not (all(map(math.isfinite, values)) and frame.is_integer() and identity.is_integer()):
                raise ValueError
        except ValueError:
            raise UserError(
                f'{file}, line {number}: expected frame, id, left, top, width, height, flag, class, visibility; got '
                f'"{line}"'
            ) from None
        key = int(frame), int(identity)
        if identity >= 0 and seen.setdefault(key, number) != number:
            raise UserError(
                f'{file}, line {number}: identity {key[1]} is in frame {key[0]} already, line {seen[key]}: remove one'
            )
        box = (left - first_pixel, top - first_pixel, width, height)
        tracks.append(Track(number, *key, box, int(kind), visibility, flag != 0))
    return tracks


def number_people(tracks: dict[str, list[Track]], merge: Path | None) -> dict[tuple[str, int], int]:
    """Person id of each identity of each sequence; those on one line of the merge file are one person.

    Raises:
        UserError: If the merge file is missing, of another form, or names an identity that is not there, or one twice.
    """
    numbers = {name: sorted({track.number for track in tracks[name] if track.number >= 0}) for name in tracks}
    identities = [(name, number) for name in tracks for number in numbers[name]]
    first = {identity: identity for identity in identities}
    seen = set()
    if merge is not None:
        if not merge.is_file():
            raise UserError(f'there is no merge file {merge}')
        for line_number, line in enumerate(merge.read_text('utf-8-sig', 'replace').splitlines(), 1):
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
    info = configparser.ConfigParser(interpolation=None)
    try:
        info.read(sequence / 'seqinfo.ini', 'utf-8-sig')
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UserError(f'{sequence / "seqinfo.ini"} cannot be read: {error}') from None
    settings = dict(info['Sequence']) if info.has_section('Sequence') else {}
    frames = sequence / settings.get('imdir', 'img1')
    if frames.is_dir():
        extension = settings.get('imext', '.jpg').lower()
        names = [file.name for file in frames.iterdir() if file.suffix.lower() == extension and file.name[0] != '.']
        if not names:
            raise UserError(f'{frames} has no {extension} files: correct imExt of seqinfo.ini')
        if wrong := sorted(name for name in names if not Path(name).stem.isdecimal()):
            raise UserError(f'{frames / wrong[0]}: the name is no frame number, such as 000001: rename or remove it')
        if not link.is_symlink() and not link.exists():
            link.symlink_to(frames, target_is_directory=True)
        if link.resolve() != frames.resolve():
            raise UserError(f'{link} is there already and is not {frames}: remove it, or write the JSON elsewhere')
        files = {int(Path(name).stem): name for name in names}
        size = stored_size(frames / files[min(files)])
        for number in sorted(files):
            if (number - 1) % stride == 0:
                yield number, files[number], *size
        return
    videos = [file for file in sorted(sequence.iterdir()) if is_video(file.name)]
    if len(videos) != 1:
        raise UserError(f'{sequence} has no folder {frames.name} and {len(videos)} videos: one of both is needed')
    if link.is_symlink():
        raise UserError(f'{link} is a link to other images: remove it, or write the JSON elsewhere')
    link.mkdir(exist_ok=True)
    for number, read in video_frames(str(videos[0]), stride):
        try:
            pixels = read()
        except DamagedImageError as error:
            if number == 0:
                raise
            print(f'note: {error}')
            continue
        name = f'{number + 1:06d}.jpg'
        cv2.imwrite(str(link / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
        yield number + 1, name, *pixels.shape[:2]


def list_queries(best: dict[tuple[int, str], tuple], out: Path) -> list[dict]:
    """A query for each person and camera, of people seen by at least two cameras.

    Raises:
        UserError: If there is nobody.
    """
    people = [person for person, _ in best]
    queries = [dict(annotation_id=rank[-1]) for (person, _), rank in sorted(best.items()) if people.count(person) > 1]
    if not queries:
        raise UserError(
            f'{out}: nobody is seen by two cameras: name who returns in a --merge file, or leave --queries out'
        )
    return queries


if __name__ == '__main__':
    run_tool(main)
