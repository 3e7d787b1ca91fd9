"""A page in the browser: search a gallery for people in uploaded photographs, and mark what is found."""

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmps_kd.datasets.image_files import (
    DamagedImageError,
    stored_boxes,
    stored_size,
    upright_boxes,
)
from mmps_kd.errors import UserError
from mmps_kd.fileio import keep_log_files
from mmps_kd.gallery import Detections, Gallery, split_frame
from mmps_kd.visualization.draw import BLUE, EMPTY, GREEN, MUTED, RED, LabelledBox, draw_boxes
from mmps_kd.visualization.report import crop_box, rounded_box

from .inferencer import SCORE_THR, SearchModel, fuse
from .inputs import Source, Sources, read_one, read_time
from .pictures import to_rgb

SIDE, CROP_HEIGHT = 1000, 320
"""Largest side of pictures that are shown, and height of crops, in pixels."""
MAX_PIXELS = 100_000_000
"""Pixels of an uploaded photograph: a small file can stand for a huge picture."""
COLOURS = {None: BLUE, 'right': GREEN, 'wrong': RED}
SIGNS = {None: '', 'right': ' ✓', 'wrong': ' ✗'}


@dataclass(eq=False)
class Photo:
    """An uploaded photograph with N people.

    Attributes:
        name: Name of its file.
        people: Boxes in pixels as stored.
        picture: (H, W, 3) uint8 RGB, upright and scaled down.
        boxes: (N, 4) in pixels of ``picture``.
        crops: N.
        selected: Numbers of those who are searched for.
    """

    name: str
    people: Detections
    picture: np.ndarray
    boxes: np.ndarray
    crops: list[Image.Image]
    selected: set[int] = field(default_factory=set)

    def draw(self) -> np.ndarray:
        """The picture under a heading, with a frame around each person, blue if it is selected."""
        people = [
            LabelledBox(box, BLUE if i in self.selected else MUTED, f'{"✓ " if i in self.selected else ""}{score:.2f}')
            for i, (box, score) in enumerate(zip(self.boxes, self.people.scores, strict=True))
        ]
        heading = f'{len(people)} found, {len(self.selected)} selected: click into the boxes of one person'
        return draw_boxes(self.picture, people, heading if people else 'nobody was found')

    def click(self, x: float, y: float) -> None:
        """Select, or deselect, the smallest box around a point in pixels of what :meth:`draw` gives."""
        height, width = self.draw().shape[:2]
        factor = width / self.picture.shape[1]
        point = np.array([x, y - (height - self.picture.shape[0] * factor)]) / factor  # the heading is above
        around = ((self.boxes[:, :2] <= point) & (point <= self.boxes[:, 2:])).all(axis=1)
        if around.any():
            areas = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
            self.selected ^= {int(np.where(around, areas, np.inf).argmin())}


@dataclass(eq=False)
class Hit:
    """A person of the gallery; the box (4,) is in pixels as stored, ``mark`` is ``right``, ``wrong`` or None."""

    name: str
    camera: str
    time: float
    box: np.ndarray
    similarity: float
    mark: str | None = None

    @property
    def key(self) -> tuple:
        """Image and box, as marks have them."""
        return self.name, *rounded_box(self.box)


class View(NamedTuple):
    """What is shown of a hit: its image (H, W, 3) uint8 RGB scaled down, the box (4,) in that, and the person alone."""

    picture: np.ndarray
    box: np.ndarray
    crop: Image.Image


@dataclass(eq=False)
class Session:
    """What one visitor has done.

    Attributes:
        photos: Uploaded.
        current: Number of the one that is shown.
        searches: Hits of all searches by the boxes of their query, for the marks.
        hits: Those of the last search.
        views: Of them, where the image could be read.
        opened: Number of the hit that is shown in its image.
    """

    photos: list[Photo] = field(default_factory=list)
    current: int = 0
    searches: dict[tuple, list[Hit]] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    views: dict[Hit, View] = field(default_factory=dict)
    opened: int | None = None


class SearchApp:
    """What the page does, without the page.

    Images of the gallery are read here and drawn anew: a visitor gets pictures of hits, and can name no file.

    Args:
        model: Finds the people of photographs.
        gallery: Made by it.
        score_thr: Detections with a lower score take no part.
        roots: Only images in or below these folders are shown, links followed; None: all images of the gallery.
    """

    def __init__(
        self,
        model: SearchModel,
        gallery: Gallery,
        score_thr: float = SCORE_THR,
        roots: Sequence[str | os.PathLike] | None = None,
    ) -> None:
        self.model, self.gallery, self.score_thr = model, gallery, score_thr
        self.roots = None if roots is None else [os.path.realpath(os.path.expanduser(root)) for root in roots]
        model.set_score_thr(score_thr)

    def add_photo(self, session: Session, path: str) -> None:
        """Find the people of a photograph, and show it.

        Raises:
            UserError: If it cannot be read, or is too large.
        """
        height, width = stored_size(path)
        if height * width > MAX_PIXELS:
            raise UserError(f'{Path(path).name} has {height * width / 1e6:.0f} megapixels: at most 100 are read')
        source, image = read_one(path)
        (people,) = self.model.detect([image])
        people = people[people.scores >= self.score_thr]
        stored = stored_boxes(people.boxes, source.orientation, image.shape[:2])
        picture, factor = scale_down(to_rgb(image))
        crops = [crop_picture(image, box) for box in people.boxes]
        found = Detections(stored, people.scores, people.embeddings)
        session.photos.append(Photo(Path(path).name, found, picture, people.boxes * factor, crops))
        session.current = len(session.photos) - 1

    def search(
        self,
        session: Session,
        cameras: Collection[str] | None = None,
        after: str | None = None,
        before: str | None = None,
        least: float = -1.0,
        topk: int = 20,
    ) -> None:
        """Search for the person in the boxes that are selected; a repeated search keeps its marks.

        Args:
            session: Has the boxes, and gets the hits.
            cameras: Only these; empty: all.
            after: Time, ISO 8601 or seconds; empty: any.
            before: Likewise.
            least: Similarity of a hit.
            topk: Hits.

        Raises:
            UserError: If nobody is selected, or a condition cannot be fulfilled.
        """
        asked = [(photo, number) for photo in session.photos for number in sorted(photo.selected)]
        if not asked:
            raise UserError('nobody is selected: add a photograph, then click into the box of a person')
        embedding = fuse(np.stack([photo.people.embeddings[number] for photo, number in asked]))
        (found,) = self.gallery.search(
            embedding[None],
            int(topk),
            camera=cameras or None,
            after=parse_time(after),
            before=parse_time(before),
            score_thr=self.score_thr,
        )
        query = tuple((photo.name, *rounded_box(photo.people.boxes[number])) for photo, number in asked)
        known = {hit.key: hit.mark for hit in session.searches.get(query, ())}
        columns = found.images, found.cameras, found.times, found.detections.boxes, found.similarities
        hits = [Hit(*row) for row in zip(*columns, strict=True) if row[-1] >= least]
        for hit in hits:
            hit.mark = known.get(hit.key)
        session.searches[query] = session.hits = hits
        session.opened, session.views = None, {}
        for source in self._find_images({hit.name for hit in hits}):
            with suppress(DamagedImageError):
                image = source.read()
                picture, factor = scale_down(to_rgb(image))
                for hit in hits:
                    if hit.name == source.name:
                        (box,) = upright_boxes(hit.box[None], source.orientation, image.shape[:2])
                        session.views[hit] = View(picture, box * factor, crop_picture(image, box))

    def _find_images(self, names: Collection[str]) -> Iterator[Source]:
        """Those images that may be shown and whose files are here."""
        files = {split_frame(name)[0] for name in names}
        here = sorted(file for file in files if os.path.isfile(file) and not self._is_outside(file))
        return Sources(here).named(names) if here else iter(())

    def _is_outside(self, file: str) -> bool:
        real = Path(os.path.realpath(file))
        return self.roots is not None and not any(real.is_relative_to(root) for root in self.roots)

    def open_hit(self, session: Session, number: int) -> tuple[np.ndarray | None, dict[str, str]]:
        """A hit in its image, (H, W, 3) uint8 RGB, None if that cannot be read; and what is known of it, as text."""
        session.opened, hit = number, session.hits[number]
        known = {
            'Similarity': f'{hit.similarity:.3f}',
            'Image': hit.name,
            'Camera': hit.camera,
            'Time': format_time(hit.time),
            'Box': ' '.join(f'{side:g}' for side in rounded_box(hit.box)),
        }
        known = {key: value for key, value in known.items() if value}
        if hit not in session.views:
            file = split_frame(hit.name)[0]
            reason = 'it cannot be read' if os.path.isfile(file) else 'its file is gone'
            return None, known | {'Not shown': 'it is in no folder of --root' if self._is_outside(file) else reason}
        view = session.views[hit]
        person = LabelledBox(view.box, COLOURS[hit.mark], f'{number + 1}{SIGNS[hit.mark]}')
        return draw_boxes(view.picture, [person], Path(hit.name).name), known

    def marks(self, session: Session) -> dict:
        """The searches with a mark, as report.html saves them.

        Images of the gallery have their absolute paths, photographs the names of their files. The identifier that
        stands for the report is a hash of queries and hits, so that files with the same one can be joined.
        """

        def describe(name: str, *box: float) -> dict:
            return dict(image=name, box=list(box))

        marked = {query: hits for query, hits in session.searches.items() if any(hit.mark for hit in hits)}
        asked = [[query, [hit.key for hit in hits]] for query, hits in marked.items()]
        queries = [
            dict(
                query=[describe(*box) for box in query],
                hits=[
                    dict(rank=rank, **describe(*hit.key), similarity=round(float(hit.similarity), 6), mark=hit.mark)
                    for rank, hit in enumerate(hits, start=1)
                ],
            )
            for query, hits in marked.items()
        ]
        known = self.gallery.read({hit.name for hits in marked.values() for hit in hits})
        people = [
            describe(name, *rounded_box(box))
            for name, found in known.items()
            for box in found.boxes[found.scores >= self.score_thr]
        ]
        report = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        return dict(format='mmps_kd marks 1', report=report, queries=queries, people=people)


def scale_down(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) uint8 that is at most 1000 pixels wide and high, and the factors (4,) for its boxes."""
    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE), Image.LANCZOS)
    return np.asarray(picture), np.tile([picture.width / image.shape[1], picture.height / image.shape[0]], 2)


def crop_picture(image: np.ndarray, box: np.ndarray) -> Image.Image:
    """The person in a box (4,) of an image (H, W, 3) uint8 BGR, at most 320 pixels high."""
    crop = Image.fromarray(to_rgb(crop_box(image, box)))
    crop.thumbnail((2 * CROP_HEIGHT, CROP_HEIGHT), Image.LANCZOS)
    return crop


def parse_time(text: str | None) -> float | None:
    """Seconds, see :func:`read_time`; None of an empty text."""
    text = (text or '').strip()
    try:
        return read_time(text) if text else None
    except ValueError:
        raise UserError(f'{text} is no time: write 2024-05-06T07:08:09, or a number of seconds') from None


def format_time(seconds: float) -> str:
    """A date, or seconds since the start of a video whose start is not known; empty if nothing is known (NaN)."""
    if np.isnan(seconds):
        return ''
    if seconds < 1e8:  # 1973
        return f'{seconds:.1f} s after the start of the video'
    return datetime.fromtimestamp(seconds, timezone.utc).strftime('%Y-%m-%d %H:%M:%S')


CSS = """
#hits .grid-container { grid-template-columns: repeat(auto-fill, minmax(5.5rem, 1fr)); }
#query .grid-container { grid-template-columns: repeat(auto-fill, 4.5rem); }
#hits .thumbnail-item, #query .thumbnail-item { display: flex; flex-direction: column; aspect-ratio: 5 / 11; }
#hits .thumbnail-item img, #query .thumbnail-item img { flex: 1; min-height: 0; }
#hits .caption-label { position: static; width: 100%; max-width: none; border: 0; text-align: center; }
#known dl { display: grid; grid-template-columns: auto 1fr; gap: .2rem .8rem; margin: 0; overflow-wrap: anywhere; }
#known dt { opacity: .7; }
#known dd { margin: 0; }
"""


def build_page(app: SearchApp) -> object:
    """The page as ``gr.Blocks``, for :func:`launch`."""
    import gradio as gr

    def shows_errors(handler: Callable) -> Callable:
        @functools.wraps(handler)
        def handle(*args: object) -> object:
            try:
                return handler(*args)
            except UserError as error:
                raise gr.Error(escape(str(error)), print_exception=False) from None

        return handle

    def show_photo(session: Session) -> tuple:
        """Photograph and query."""
        selected = [photo.crops[number] for photo in session.photos for number in sorted(photo.selected)]
        drawn = session.photos[session.current].draw() if session.photos else None
        return drawn, gr.Gallery(selected, visible=bool(selected))

    def show_hits(session: Session) -> object:
        lost = Image.new('RGB', (CROP_HEIGHT // 2, CROP_HEIGHT), EMPTY)
        crops = []
        for rank, hit in enumerate(session.hits, start=1):
            crop = session.views[hit].crop if hit in session.views else lost
            crops.append((crop, f'{rank} · {hit.similarity:.3f}{SIGNS[hit.mark]}'))
        return gr.Gallery(crops, visible=bool(crops))

    def show_hit(session: Session) -> tuple:
        picture, known = app.open_hit(session, session.opened)
        items = ''.join(f'<dt>{key}</dt><dd>{escape(value)}</dd>' for key, value in known.items())
        return gr.Image(picture, visible=picture is not None), f'<dl>{items}</dl>'

    @shows_errors
    def add(session: Session, paths: list[str]) -> tuple:
        for path in paths:
            try:
                app.add_photo(session, path)
            except UserError as error:
                gr.Warning(escape(str(error).replace(path, Path(path).name)))
        names = [(photo.name, number) for number, photo in enumerate(session.photos)]
        return gr.Radio(names, value=session.current, visible=len(names) > 1), *show_photo(session)

    def choose(session: Session, number: int) -> tuple:
        session.current = number
        return show_photo(session)

    def click(session: Session, event: gr.SelectData) -> tuple:
        session.photos[session.current].click(*event.index)
        return show_photo(session)

    def clear(session: Session) -> tuple:
        session.photos, session.current = [], 0
        return gr.Radio([], visible=False), *show_photo(session)

    @shows_errors
    def search(session: Session, *conditions: object) -> tuple:
        app.search(session, *conditions)
        found = f'The {len(session.hits)} most similar people; a click shows one in its image.'
        found = found if session.hits else 'Nobody fulfils these conditions.'
        return found, show_hits(session), gr.Column(visible=False)

    def open_hit(session: Session, event: gr.SelectData) -> tuple:
        session.opened = event.index
        return gr.Column(visible=True), *show_hit(session), session.hits[session.opened].mark or 'not marked'

    def mark(session: Session, value: str) -> tuple:
        session.hits[session.opened].mark = None if value == 'not marked' else value
        marks = app.marks(session)
        number = sum(hit['mark'] is not None for query in marks['queries'] for hit in query['hits'])
        file = Path(tempfile.mkdtemp(dir=page.GRADIO_CACHE), 'marks.json')
        file.write_text(json.dumps(marks, indent=1) + '\n')
        button = gr.DownloadButton(f'Save marks ({number})', value=str(file), interactive=number > 0)
        return show_hits(session), *show_hit(session), button

    cameras, has_times = app.gallery.cameras(), app.gallery.count(after=-np.finfo(np.float64).max) > 0
    picture_options = dict(show_label=False, interactive=False, format='jpeg', buttons=[])
    # Without 'contain' Gradio cuts crops square.
    crop_options = dict(
        show_label=False, visible=False, object_fit='contain', allow_preview=False, format='jpeg', buttons=[]
    )
    with gr.Blocks(title='Person search', analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        session = gr.State(Session())
        number = app.gallery.count(score_thr=app.score_thr)
        gr.Markdown(f'# Person search\n{number:,} people in {len(app.gallery):,} images are searched.')
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                upload = gr.UploadButton(
                    'Add photographs', variant='primary', file_count='multiple', file_types=['image']
                )
                photo = gr.Radio(label='Photograph', visible=False)
                picture = gr.Image(label='Photograph', **picture_options)
            with gr.Column(scale=2, min_width=320):
                query = gr.Gallery(label='Query', elem_id='query', height=190, **crop_options)
                camera = gr.Dropdown(cameras, multiselect=True, label='Cameras', visible=bool(cameras))
                with gr.Row(visible=has_times):
                    after = gr.Textbox(label='From', placeholder='2024-05-06T07:08:09')
                    before = gr.Textbox(label='Before', placeholder='2024-05-06T08:00:00')
                least = gr.Slider(-1, 1, -1, step=0.01, label='Least similarity')
                topk = gr.Slider(1, 100, 20, step=1, label='People to find')
                with gr.Row():
                    start = gr.Button('Search', variant='primary')
                    forget = gr.Button('Remove photographs')
        found = gr.Markdown()
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                hits = gr.Gallery(label='Most similar people', elem_id='hits', height=640, **crop_options)
            with gr.Column(scale=2, min_width=320, visible=False, elem_id='hit') as opened:
                image = gr.Image(label='Image', **picture_options)
                known = gr.HTML(elem_id='known')
                verdict = gr.Radio(['right', 'wrong', 'not marked'], label='Is it the person?')
                save = gr.DownloadButton('Save marks', interactive=False)

        upload.upload(add, [session, upload], [photo, picture, query])
        photo.input(choose, [session, photo], [picture, query])
        picture.select(click, [session], [picture, query])
        forget.click(clear, [session], [photo, picture, query])
        start.click(search, [session, camera, after, before, least, topk], [found, hits, opened])
        show = "() => document.getElementById('hit').scrollIntoView({behavior: 'smooth', block: 'nearest'})"
        hits.select(open_hit, [session], [opened, image, known, verdict]).then(None, js=show)
        verdict.input(mark, [session, verdict], [hits, image, known, save])
    return page


def launch(page: object, host: str, port: int, max_upload_mb: int) -> None:
    """Serve a page in the background, from ``page.local_url``; it loads nothing from elsewhere.

    Raises:
        UserError: If the address is not free.
    """
    import gradio as gr

    fonts = dict(font=['system-ui', 'sans-serif'], font_mono=['monospace'])
    try:
        with keep_log_files():
            page.launch(
                server_name=host,
                server_port=port,
                max_file_size=f'{max_upload_mb}mb',
                theme=gr.themes.Default(primary_hue='blue', **fonts),
                css=CSS,
                footer_links=[],
                run_history=False,
                share=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                quiet=True,
                prevent_thread_lock=True,
            )
    except OSError:
        raise UserError(
            f'cannot listen at {host}, port {port}: choose another port, or an address of this machine'
        ) from None
