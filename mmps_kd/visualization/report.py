"""HTML reports of a search and of an evaluation: one file that needs no server and loads nothing from elsewhere."""

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from mmps_kd.datasets.image_files import upright_boxes
from mmps_kd.structures import RankedBoxes

MAX_EMBEDDED = 50_000
"""Detections of a gallery whose embeddings go into a report."""
MAX_IMAGES = 50
"""Images that are embedded whole; further ones are looked for beside the report."""
MAX_CROPS = 500
"""Crops for searches in the browser, beside those of the hits."""
CROP_HEIGHT, SMALL_CROP_HEIGHT, IMAGE_SIDE = 320, 160, 800
_TEMPLATE = Path(__file__).with_name('report.html')

ReadImages = Callable[[set[str]], Iterable[tuple[str, np.ndarray, int]]]
"""Reads images by their names, in any order: name, (H, W, 3) uint8 RGB turned upright, and EXIF orientation of each.
Images that cannot be read are left out."""


@dataclass(frozen=True, eq=False)
class QueryImage:
    """An image with boxes of the person who is searched for.

    Attributes:
        name: Path.
        image: (H, W, 3) uint8 RGB, upright.
        boxes: (N, 4) x1, y1, x2, y2 in pixels as stored.
        orientation: EXIF orientation.
    """

    name: str
    image: np.ndarray
    boxes: np.ndarray
    orientation: int = 1


@dataclass(frozen=True, eq=False)
class GalleryPeople:
    """Detections in the images that were searched: N in G images.

    Attributes:
        image_names: (G,) str, paths.
        image_of_box: (N,) int, index into ``image_names``.
        boxes: (N, 4) x1, y1, x2, y2 in pixels as stored.
        embeddings: (N, D) float of unit length; None: nobody can be searched for in the browser.
        cameras: (G,) str, empty where it is not known.
        times: (G,) str, empty where it is not known.
    """

    image_names: Sequence[str]
    image_of_box: np.ndarray
    boxes: np.ndarray
    embeddings: np.ndarray | None
    cameras: Sequence[str]
    times: Sequence[str]


@dataclass(eq=False)
class _Content:
    """What the page's script knows. Paths are relative to ``folder``, crops are by the position of a person."""

    folder: Path
    images: list[dict] = field(default_factory=list)
    people: list[list] = field(default_factory=list)
    rankings: list[dict] = field(default_factory=list)
    crops: dict[int, str] = field(default_factory=dict)
    upright: dict[int, list[float]] = field(default_factory=dict)

    def add_image(self, name: str, camera: str = '', time: str = '') -> int:
        """Add an image; returns its index."""
        known = {key: value for key, value in (('camera', camera), ('time', time)) if value}
        self.images.append(dict(path=os.path.relpath(name, self.folder), **known))
        return len(self.images) - 1

    def add_pixels(self, index: int, image: np.ndarray) -> None:
        """Embed an image, scaled down."""
        height, width = image.shape[:2]
        self.images[index].update(src=_jpeg(image, IMAGE_SIDE, IMAGE_SIDE), width=width, height=height)


def search_report(
    folder: str | os.PathLike,
    queries: Sequence[QueryImage],
    gallery: GalleryPeople,
    hits: Sequence[int],
    similarities: Sequence[float],
    read_images: ReadImages,
    *,
    num_people: int,
    num_images: int,
    topk: int,
    min_similarity: float | None = None,
    reranked: bool = False,
) -> str:
    """Report of a search: the ranked crops, each to be shown in its image and to be marked right or wrong.

    The same input gives the same file.

    Args:
        folder: Where the report will be; paths in it are relative to that.
        queries: The person searched for; boxes are in pixels as stored.
        gallery: All detections that took part, or those of the hits' images where there are more than
            ``MAX_EMBEDDED``.
        hits: (K,) positions in ``gallery``, most similar first.
        similarities: (K,) in -1..1.
        read_images: Reads the images that are shown.
        num_people: Detections searched.
        num_images: Images searched.
        topk: Hits that a search in the browser gives.
        min_similarity: Least similarity of a hit; None if there was no limit.
        reranked: Whether ``hits`` are in another order than that of their similarities.

    Returns:
        HTML.
    """
    content = _Content(Path(os.path.abspath(folder)))
    for name, camera, time in zip(gallery.image_names, gallery.cameras, gallery.times, strict=True):
        content.add_image(name, camera, time)
    rows = zip(gallery.image_of_box.tolist(), gallery.boxes, strict=True)
    content.people = [[image, *rounded_box(box)] for image, box in rows]
    owners = gallery.image_of_box[np.asarray(hits, dtype=np.int64)].tolist()
    whole = set(list(dict.fromkeys(owners))[:MAX_IMAGES])
    large = set(hits)
    small = set() if gallery.embeddings is None else set(_reachable(gallery, whole, topk)) - large
    _read_gallery(content, gallery, whole, large, small, read_images)

    asked, cards = [], []
    for query in queries:
        image = content.add_image(query.name)
        content.add_pixels(image, query.image)
        for stored, box in zip(
            query.boxes, upright_boxes(query.boxes, query.orientation, query.image.shape[:2]), strict=True
        ):
            turned = {} if query.orientation == 1 else dict(stored=rounded_box(stored))
            asked.append(dict(image=image, box=rounded_box(box), **turned))
            cards.append(_card('Query', _crop(query.image, box, CROP_HEIGHT), content.images[image], 'asked'))
    content.rankings = [
        dict(queries=asked, hits=[[hit, round(s, 6)] for hit, s in zip(hits, similarities, strict=True)])
    ]
    crops = content.crops
    ranked = [
        _card(str(place), crops.pop(hit, None), content.images[owner], '', hit, similarity, _MARKS)
        for place, (hit, owner, similarity) in enumerate(zip(hits, owners, similarities, strict=True), start=1)
    ]
    title = Path(queries[0].name).name
    people = f'{num_people:,} people in {num_images:,} images'
    limit = '' if min_similarity is None else f' with a similarity of at least {min_similarity:g}'
    heading = f'The {len(hits)} most similar people{limit}, {"re-ranked" if reranked else "most similar first"}'
    right = _list('hits', heading, ranked)
    if not hits:
        right = f'<p class="empty">Not found: of {people} nobody has a similarity of at least {min_similarity:g}.</p>'
    lead = f'<p class="lead">{people} searched. Mark each hit as right or wrong, then save the marks.</p>'
    if gallery.embeddings is None:
        lead += (
            f'<p class="lead">This report does not hold the embeddings: the gallery has more than {MAX_EMBEDDED:,} '
            'people. Other people are searched with tools/search.py.</p>'
        )
    elif hits:
        lead += '<p class="lead">A click on a crop shows its image, a click on any person in it searches again.</p>'
    left = _list('query', 'Query' if len(asked) == 1 else f'Query: {len(asked)} boxes of one person', cards)
    main = f'<section class="ranking" id="ranking-0" aria-label="Search">\n{left}\n{right}\n</section>'
    return _page(
        'search', f'Person search: {title}', f'Search for a person in {title}', lead, main, content, gallery, topk
    )


@dataclass(frozen=True, eq=False)
class EvaluatedQuery:
    """A query of a test set and what was found for it.

    Attributes:
        number: Position in the protocol.
        name: Path of its image.
        box: (4,) x1, y1, x2, y2 in its pixels.
        ap: Average precision, 0..1.
        first_hit: Rank of the first true positive, from 1; 0 if none was found.
        ranked: The boxes shown.
        missed: Path, true box (4,) and rank (None: not detected) of true boxes that are not among them.
    """

    number: int
    name: str
    box: np.ndarray
    ap: float
    first_hit: int
    ranked: RankedBoxes
    missed: Sequence[tuple[str, np.ndarray, int | None]]


def evaluation_report(
    folder: str | os.PathLike,
    title: str,
    figures: dict[str, float],
    curves: Sequence[tuple[str, str, str, np.ndarray, np.ndarray]],
    queries: Sequence[EvaluatedQuery],
    num_queries: int,
    read_images: ReadImages,
) -> str:
    """Report of an evaluation: figures, curves, and queries with their rankings and the ground truth.

    The same input gives the same file.

    Args:
        folder: Where the report will be.
        title: What was evaluated.
        figures: Fractions in 0..1 by name.
        curves: Heading, names of both axes, x (N,) and y (N,) in 0..1 of each.
        queries: Those to show, in the order to show them. Image names of ``ranked`` are paths.
        num_queries: Queries evaluated.
        read_images: Reads the images.

    Returns:
        HTML.
    """
    content = _Content(Path(os.path.abspath(folder)))
    wanted: dict[str, list[tuple]] = {}  # the boxes of each image: query, kind, place, box
    for place, query in enumerate(queries):
        wanted.setdefault(query.name, []).append((place, 'query', 0, query.box))
        for rank, (name, box) in enumerate(zip(query.ranked.image_names, query.ranked.boxes, strict=True)):
            wanted.setdefault(str(name), []).append((place, 'hit', rank, box))
        for rank, (name, box, _) in enumerate(query.missed):
            wanted.setdefault(name, []).append((place, 'missed', rank, box))
    order = {name: index for index, name in enumerate(wanted)}
    for name in wanted:
        content.add_image(name)
    cards: dict[tuple[int, str, int], str] = {}
    for name, image, _ in _in_order(read_images, wanted):
        if order[name] < MAX_IMAGES:
            content.add_pixels(order[name], image)
        for place, kind, rank, box in wanted[name]:
            content.people.append([order[name], *rounded_box(box)])
            crop, person = _crop(image, box, CROP_HEIGHT * 2 // 3), len(content.people) - 1
            cards[place, kind, rank] = _evaluated_card(
                queries[place], kind, rank, crop, content.images[order[name]], person
            )
    sections = []
    for place, query in enumerate(queries):
        content.rankings.append(
            dict(
                queries=[dict(image=order[query.name], box=rounded_box(query.box))],
                hits=[],  # the cards hold what the page's script needs
            )
        )
        of = {
            kind: [cards[key] for key in sorted(cards) if key[:2] == (place, kind)]
            for kind in ('query', 'hit', 'missed')
        }
        found = int(query.ranked.is_match.sum())
        first = f'first right hit at rank {query.first_hit}' if query.first_hit else 'no right hit'
        heading = (
            f'<h2>Query {query.number} in {escape(Path(query.name).name)} <span class="figures">'
            f'AP {100 * query.ap:.1f} %, {first}, {found} of {query.ranked.num_truths} found among the '
            f'{len(query.ranked.boxes)} most similar</span></h2>'
        )
        right = _list('hits', 'Most similar first', of['hit'] + of['missed'])
        left = _list('query', 'Query', of['query'])
        sections.append(f'<section class="ranking" id="ranking-{place}">\n{heading}\n{left}\n{right}\n</section>')
    tiles = ''.join(
        f'<div class="tile"><dt>{escape(name)}</dt><dd>{100 * value:.1f}<small> %</small></dd></div>'
        for name, value in figures.items()
    )
    plots = ''.join(
        f'<figure><figcaption>{escape(heading)}</figcaption>{_plot(*curve)}</figure>' for heading, *curve in curves
    )
    main = (
        f'<dl class="tiles">{tiles}</dl>\n<div class="curves">{plots}</div>\n'
        f'<h2>Queries, the worst first: {len(queries)} of {num_queries}</h2>\n' + '\n'.join(sections)
    )
    lead = (
        '<p class="lead">Right hits are green, wrong ones red; true boxes that are not among the hits follow in amber. '
        'A click on a crop shows its image.</p>'
    )
    return _page('evaluation', title, title, lead, main, content, None, 0)


def _evaluated_card(query: EvaluatedQuery, kind: str, rank: int, crop: str, image: dict, person: int) -> str:
    if kind == 'query':
        return _card('Query', crop, image, 'asked', person)
    if kind == 'missed':
        at = query.missed[rank][2]
        verdict = 'not detected' if at is None else f'rank {at}'
        return _card('', crop, image, 'missed', person, verdict=verdict)
    is_match = bool(query.ranked.is_match[rank])
    classes, verdict = ('right', '✓') if is_match else ('wrong', '✗')
    return _card(str(rank + 1), crop, image, classes, person, float(query.ranked.similarities[rank]), verdict=verdict)


def _reachable(gallery: GalleryPeople, images: set[int], topk: int) -> list[int]:
    """The people that one click finds: the most similar ones of all people in ``images``, those of rank 1 first."""
    clickable = np.flatnonzero(np.isin(gallery.image_of_box, list(images)))
    topk = min(topk, len(gallery.boxes))
    best = np.empty((len(clickable), topk), dtype=np.int64)
    for place, person in enumerate(clickable):
        similarities = gallery.embeddings @ gallery.embeddings[person]
        similarities[gallery.image_of_box == gallery.image_of_box[person]] = -np.inf
        best[place] = np.argsort(-similarities, kind='stable')[:topk]
    return list(dict.fromkeys([*clickable.tolist(), *best.T.ravel().tolist()]))[:MAX_CROPS]


def _read_gallery(
    content: _Content,
    gallery: GalleryPeople,
    whole: set[int],
    large: set[int],
    small: set[int],
    read_images: ReadImages,
) -> None:
    """Embed images, and crops of people."""
    people_of: dict[int, list[int]] = {}
    for person in sorted(large | small):
        people_of.setdefault(int(gallery.image_of_box[person]), []).append(person)
    index_of = {gallery.image_names[index]: index for index in sorted(whole | people_of.keys())}
    for name, image, orientation in _in_order(read_images, index_of):
        index = index_of[name]
        if index in whole:
            content.add_pixels(index, image)
        boxes = upright_boxes(gallery.boxes, orientation, image.shape[:2]) if orientation != 1 else gallery.boxes
        if orientation != 1:
            own = np.flatnonzero(gallery.image_of_box == index).tolist()
            content.upright.update({person: rounded_box(boxes[person]) for person in own})
        for person in people_of.get(index, []):
            height = CROP_HEIGHT if person in large else SMALL_CROP_HEIGHT
            content.crops[person] = _crop(image, boxes[person], height)


def _in_order(read_images: ReadImages, wanted: dict[str, object]) -> Iterator[tuple[str, np.ndarray, int]]:
    """Each wanted image once."""
    seen = set()
    for name, image, orientation in read_images(set(wanted)):
        if name not in seen:
            seen.add(name)
            yield name, image, orientation


def rounded_box(box: np.ndarray) -> list[float]:
    """A box (4,) as marks and reports have it, to the hundredth of a pixel."""
    return [round(float(side), 2) for side in box]


def _jpeg(image: np.ndarray, width: int, height: int) -> str:
    """A data URI of an image (H, W, 3) uint8 RGB, scaled down into a size."""
    picture = Image.fromarray(image)
    picture.thumbnail((width, height), Image.LANCZOS)
    file = io.BytesIO()
    picture.save(file, 'JPEG', quality=80)
    return f'data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}'


def crop_box(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The person in a box (4,) of an image (H, W, 3), with a little context."""
    x1, y1, x2, y2 = box
    pad = 0.08 * max(x2 - x1, y2 - y1)
    # A box can be thinner than a pixel or lie at the border; the crop has a pixel at least.
    left, top = int(np.clip(x1 - pad, 0, image.shape[1] - 1)), int(np.clip(y1 - pad, 0, image.shape[0] - 1))
    right, bottom = int(max(np.ceil(x2 + pad), left + 1)), int(max(np.ceil(y2 + pad), top + 1))
    return np.ascontiguousarray(image[top:bottom, left:right])


def _crop(image: np.ndarray, box: np.ndarray, height: int) -> str:
    """A data URI of the person; tall crops are whole."""
    return _jpeg(crop_box(image, box), 2 * height, height)


_MARKS = (
    '<div class="marks script" role="group" aria-label="Is it the person?">'
    '<button type="button" data-mark="right" aria-pressed="false">✓ Right</button>'
    '<button type="button" data-mark="wrong" aria-pressed="false">✗ Wrong</button></div>'
)


def _card(
    label: str,
    crop: str | None,
    image: dict,
    classes: str = '',
    person: int | None = None,
    similarity: float | None = None,
    marks: str = '',
    verdict: str = '',
) -> str:
    """A crop with what is known of it."""
    name = Path(image['path']).name
    where = ' · '.join(image[key] for key in ('camera', 'time') if key in image)
    shown = f'<img src="{crop}" alt="">' if crop else '<span class="lost">image cannot be read</span>'
    described = escape(f'{label or verdict} in {name}: show the image')
    known = '' if person is None else f' data-person="{person}"'
    number = '' if similarity is None else f'{similarity:.3f}'
    return (
        f'<li class="{f"card {classes}".strip()}" data-label="{escape(label)}"{known}>'
        f'<button type="button" class="crop" aria-label="{described}">{shown}</button>'
        f'<div class="text"><p class="first"><b>{escape(label)}</b><span class="similarity">{number}</span>'
        f'<span class="verdict">{escape(verdict)}</span></p>'
        f'<p class="name" title="{escape(image["path"])}">{escape(name)}</p>'
        f'<p class="where"{"" if where else " hidden"}>{escape(where)}</p></div>{marks}</li>'
    )


def _list(name: str, heading: str, cards: list[str]) -> str:
    style = '' if name == 'hits' else ' style="grid-template-columns: minmax(0, 1fr)"'
    joined = '\n'.join(cards)
    return f'<div class="{name}"><h3>{escape(heading)}</h3>\n<ol class="cards"{style}>\n{joined}\n</ol></div>'


def _plot(x_name: str, y_name: str, x: np.ndarray, y: np.ndarray) -> str:
    """A curve as SVG; y is 0..1, x from its first to its last value."""
    left, top, width, height = 44, 8, 300, 170
    low, high = float(x[0]), float(x[-1])
    across = left + width * (np.asarray(x, float) - low) / max(high - low, 1e-9)
    down = top + height * (1 - np.asarray(y, float))
    grid = ''.join(
        f'<line class="grid" x1="{left}" x2="{left + width}" y1="{top + height * (1 - level):g}" '
        f'y2="{top + height * (1 - level):g}"/><text x="{left - 6}" y="{top + height * (1 - level) + 4:g}" '
        f'text-anchor="end">{level:g}</text>'
        for level in (0, 0.25, 0.5, 0.75, 1)
    )
    middle = (low + high) / 2
    middle = round(middle) if np.asarray(x).dtype.kind == 'i' else middle
    ticks = ''.join(
        f'<text x="{left + width * (value - low) / max(high - low, 1e-9):.1f}" y="{top + height + 16}" '
        f'text-anchor="middle">{value:.3g}</text>'
        for value in (low, middle, high)
    )
    points = ' '.join(f'{a:.1f},{b:.1f}' for a, b in zip(across, down, strict=True))
    label = escape(f'{y_name} against {x_name}')
    return (
        f'<svg viewBox="0 0 {left + width + 12} {top + height + 36}" role="img" aria-label="{label}">{grid}{ticks}'
        f'<text x="{left + width / 2}" y="{top + height + 32}" text-anchor="middle">{escape(x_name)}</text>'
        f'<polyline class="curve" points="{points}"/></svg>'
    )


def _page(
    kind: str,
    title: str,
    heading: str,
    lead: str,
    main: str,
    content: _Content,
    gallery: GalleryPeople | None,
    topk: int,
) -> str:
    """Fill the template."""
    data = dict(
        images=content.images,
        people=content.people,
        rankings=content.rankings,
        crops=content.crops,
        upright=content.upright,
        topk=topk,
    )
    embeddings = ''
    if gallery is not None and gallery.embeddings is not None:
        vectors, scales = quantize(gallery.embeddings)
        data.update(dims=vectors.shape[1], scales=base64.b64encode(scales.astype('<f4').tobytes()).decode())
        embeddings = base64.b64encode(vectors.tobytes()).decode()
    # Neither an end of the script nor a comment can be in it.
    text = (
        json.dumps(data, separators=(',', ':')).replace('&', '\\u0026').replace('<', '\\u003c').replace('>', '\\u003e')
    )
    parts = dict(
        kind=kind,
        title=escape(title),
        heading=escape(heading),
        lead=lead,
        main=main,
        card=_card('', None, dict(path=''), marks=_MARKS),
        data=text,
        embeddings=embeddings,
    )
    digest = hashlib.sha256('\0'.join(parts.values()).encode(errors='surrogatepass')).hexdigest()
    parts['report'] = digest[:16]
    return re.sub(r'\{\{(\w+)\}\}', lambda match: parts[match[1]], _TEMPLATE.read_text(encoding='utf-8'))


def quantize(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring embeddings (N, D) to int8: (N, D) int8 and a scale (N,) float32 each; their product is the embedding."""
    scales = np.abs(embeddings).max(axis=1, initial=0) / 127
    vectors = np.rint(embeddings / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8)
    return vectors, scales.astype(np.float32)


def write_report(path: str | os.PathLike, html: str) -> None:
    """Write a report; what no UTF-8 can hold in a file's name becomes a question mark."""
    Path(path).write_bytes(html.encode(errors='replace'))
