"""Person search from Python: find people in images, describe them, search for one of them."""

import copy
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from PIL import Image
from tqdm import tqdm

from mmps_kd.compat import type_name
from mmps_kd.datasets.image_files import read_orientation, stored_boxes, turned_size, upright_boxes
from mmps_kd.errors import UserError
from mmps_kd.gallery import Detections, GalleryIndex
from mmps_kd.models.utils.checkpoint_io import file_sha256

from .init_model import init_model, load_config, plain_student, require_search_model, test_pipeline
from .inputs import Input, Source, Sources, batches, read_one, read_sources, require_some
from .pictures import join_queries, picture_detections, picture_search
from .results import Detected, DetectionResult, Match, QueryBox, SearchResult, Skipped, Turned

SCORE_THR = 0.5
"""The field's threshold of the detections that take part in a search."""


class SearchModel:
    """A model and its test pipeline, without the data set: images, upright, and boxes in their pixels go in.

    Attributes:
        key: Hash of model, weights and pipeline: what the answers depend on, beside the score threshold.
        score_thr: The model's own score threshold, below which it drops people, from its config.

    Args:
        cfg: Config with ``model`` and a pipeline for tests, see :func:`test_pipeline`.
        checkpoint: Trained weights.
        device: Such as ``cuda:1``; None for the GPU if there is one.

    Raises:
        UserError: If the model cannot search, there is no such device, or the checkpoint does not fit.
    """

    def __init__(self, cfg: Config, checkpoint: str | os.PathLike, device: str | None = None) -> None:
        require_search_model(cfg)
        self.model = init_model(cfg, checkpoint, device)
        head = self.model.roi_head
        head.test_cfg = copy.deepcopy(head.test_cfg)  # set_score_thr leaves the config as it is
        self.score_thr: float = head.test_cfg.get('score_thr', 0.0)
        # Images come in memory, and nothing is annotated.
        steps = [step for step in test_pipeline(cfg) if not type_name(step['type']).startswith('Load')]
        self.pipeline = Compose(steps)
        # The last part: indexes of earlier releases hold what was found in photographs as stored, lying on their side.
        parts = [file_sha256(checkpoint), repr(plain_student(cfg.model)), repr(steps), 'images are turned upright']
        self.key = hashlib.sha256('\n'.join(parts).encode()).hexdigest()

    def set_score_thr(self, score_thr: float) -> None:
        """Find people with at least this score from now on, or with the model's own threshold if that is lower."""
        # The model keeps scores above its threshold, in single precision: the next lower number keeps equal ones too.
        below = float(np.nextafter(np.float32(score_thr), np.float32(-1)))
        self.model.roi_head.test_cfg.score_thr = below if score_thr < self.score_thr else self.score_thr

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Find and describe the people of images, (H, W, 3) uint8 BGR each.

        Images of one size do not change each other's answer; smaller ones are padded to the largest, which may.
        """
        with torch.inference_mode():
            samples = self.model.test_step(pseudo_collate([self._prepare(image) for image in images]))
        found = [sample.pred_instances.cpu().numpy() for sample in samples]
        return [Detections(each.bboxes, each.scores, each.embeddings) for each in found]

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Describe given people.

        Args:
            image: (H, W, 3) uint8 BGR.
            boxes: (N, 4) x1, y1, x2, y2 in its pixels.

        Returns:
            (N, D) float32 of unit length.

        Raises:
            UserError: If a box has no part in the image.
        """
        require_inside(boxes, image.shape[:2])
        queries = dict(boxes=boxes.astype(np.float32), ids=np.arange(len(boxes)))
        batch = pseudo_collate([self._prepare(image, queries=queries)])
        with torch.inference_mode():
            data = self.model.data_preprocessor(batch, False)
            (sample,) = data['data_samples']
            features = self.model.extract_feat(data['inputs'])
            (embeddings,) = self.model.roi_head.embed(features, [sample.query_instances.bboxes])
        return embeddings.cpu().numpy()

    def _prepare(self, image: np.ndarray, **more) -> dict:
        """What the pipeline makes of an image."""
        return self.pipeline(dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], **more))


class PersonSearchInferencer:
    """Detection, description and search with a trained model, in the manner of mmdet's ``DetInferencer``.

    A config of a :class:`PersonSearchDistiller` is used as its plain student; no file of a teacher is needed. Images
    that cannot be read are skipped and named in the result. Of a video every ``frame_stride``-th frame is an image.
    Images of one size that follow each other are run ``batch_size`` at a time, which changes no answer.

    Photographs are looked at and drawn upright, turned by their EXIF orientation. All boxes, given and returned, are in
    pixels as stored, before that turn.

    Args:
        model: Config file, name of a config of the package, such as ``oim_r50_20e_cuhk-sysu``, or config.
        weights: Checkpoint.
        device: Such as ``cuda:1``; None for the GPU if there is one.
        show_progress: Show a bar, where there is a terminal.

    Raises:
        UserError: If there is no such config, checkpoint or device, they do not fit, or the model cannot search.
    """

    def __init__(
        self,
        model: str | os.PathLike | Config,
        weights: str | os.PathLike,
        device: str | None = None,
        show_progress: bool = True,
    ) -> None:
        self.model = SearchModel(load_config(model), weights, device)
        self.show_progress = show_progress

    def detect(
        self,
        images: Input | Sequence[Input],
        *,
        batch_size: int = 1,
        score_thr: float = SCORE_THR,
        frame_stride: int = 1,
        return_vis: bool = False,
        out_dir: str | os.PathLike | None = None,
    ) -> DetectionResult:
        """Find the people of images.

        Args:
            images: Image and video files, folders, patterns such as ``cam1/*.jpg``, arrays (H, W, 3) uint8 BGR; see
                :class:`Sources`.
            batch_size: Images that are run at a time.
            score_thr: Detections with a lower score are left out. The model is run with it where its own threshold
                (``model.test_cfg.rcnn.score_thr``) is higher.
            frame_stride: See the class.
            return_vis: Draw each image with its people.
            out_dir: Write ``results.json`` and pictures ``vis/*.jpg`` there.

        Raises:
            UserError: If an input is not there, or no image can be read.
        """
        require_positive(batch_size=batch_size)
        sources, skipped, detected = Sources(images, frame_stride), [], []
        folder = None if out_dir is None else make_folder(Path(out_dir, 'vis')).parent
        self.model.set_score_thr(score_thr)
        for source, image, people in self._run(self._watch(sources), batch_size, skipped):
            people = people[people.scores >= score_thr]
            picture = picture_detections(image, people, source.orientation) if return_vis or folder else None
            if folder:
                name = f'{len(detected):05d}_{Path(source.name).stem}.jpg'
                Image.fromarray(picture).save(folder / 'vis' / name, quality=92)
            detected.append(Detected(source.name, people, picture if return_vis else None))
        require_some(detected, skipped)
        result = DetectionResult(detected, skipped, find_turned([source.name for source in detected]))
        if folder:
            result.save(folder / 'results.json')
        return result

    def embed(self, image: Input, boxes: np.ndarray | Sequence) -> np.ndarray:
        """Describe people in one image.

        Args:
            image: Image file or array (H, W, 3) uint8 BGR.
            boxes: (N, 4) or (4,) x1, y1, x2, y2 in its pixels as stored.

        Returns:
            (N, D) float32 of unit length: similarity is the dot product.

        Raises:
            UserError: If the image cannot be read, or a box has no part in it.
        """
        return self._embed(*read_one(image), np.asarray(boxes, dtype=np.float64).reshape(-1, 4))

    def search(
        self,
        query: Input | Sequence[Input],
        query_bbox: np.ndarray | Sequence,
        gallery: Input | Sequence[Input],
        topk: int = 10,
        *,
        min_similarity: float | None = None,
        batch_size: int = 1,
        score_thr: float = SCORE_THR,
        frame_stride: int = 1,
        index: GalleryIndex | None = None,
        return_vis: bool = False,
        out_dir: str | os.PathLike | None = None,
    ) -> SearchResult:
        """Find the people of a gallery that are most similar to a given one.

        Several boxes, in one image or in several, show one person: the query is the mean of their embeddings, brought
        to unit length. To search for several people, call this once for each, with one index: no image is run twice.

        If a query image is in the gallery, it is not searched. What is computed is in the index, also after
        an exception such as ``KeyboardInterrupt``.

        Args:
            query: Image file, frame of a video such as ``cam1.mp4#250``, or array (H, W, 3) uint8 BGR; or a list of
                them.
            query_bbox: x1, y1, x2, y2 of the person in its pixels as stored, (4,), or (N, 4) for several boxes; for a
                list of images a list with the box or boxes of each.
            gallery: Where to search; see :meth:`detect`.
            topk: Detections to return.
            min_similarity: Least similarity of the people wanted, in -1..1; it may be that there is nobody.
            batch_size: Images that are run at a time.
            score_thr: Detections with a lower score take no part. Images that the index has from a run with a higher
                threshold are run again.
            frame_stride: See the class.
            index: What is known of images already, from :meth:`open_index`; by default that of ``out_dir``.
            return_vis: Draw the ranking.
            out_dir: Write ``results.json`` and ``ranking.png`` there.

        Raises:
            UserError: If there is nothing to read or to search, a box has no part in its image, images and boxes do
                not fit together, or nobody is detected.
        """
        require_positive(topk=topk, batch_size=batch_size)
        if min_similarity is not None and not -1 <= min_similarity <= 1:
            raise UserError(f'min_similarity must be in -1..1, not {min_similarity}')
        shown = [(*read_one(image), boxes) for image, boxes in pair_queries(query, query_bbox)]
        embedding = fuse(np.concatenate([self._embed(*query) for query in shown]))
        folder = None if out_dir is None else make_folder(Path(out_dir))
        index = self.open_index(folder) if index is None else index
        sources, skipped = Sources(gallery, frame_stride), []
        index.lower_score_thr(min(self.model.score_thr, max(score_thr, 0)))
        self.model.set_score_thr(index.score_thr)
        names = self._fill(index, sources, [source for source, _, _ in shown], batch_size, skipped)
        least = -np.inf if min_similarity is None else min_similarity
        owners, people, similarities, num_people = index.search(
            embedding, names, score_thr=score_thr, topk=topk, min_similarity=least
        )
        if num_people == 0:
            raise UserError(
                f'nobody was found with a score of at least {score_thr:g} in the {len(names)} images of the gallery: '
                'lower score_thr, or see whether config and weights are those that belong together'
            )
        rows = zip(owners, people.boxes.tolist(), people.scores.tolist(), similarities.tolist(), strict=True)
        matches = [Match(str(name), tuple(box), score, similarity) for name, box, score, similarity in rows]
        queries = [QueryBox(source.name, tuple(box)) for source, _, boxes in shown for box in boxes.tolist()]
        result = SearchResult(
            query=queries[0].name,
            query_box=queries[0].box,
            matches=matches,
            num_scenes=len(names),
            num_people=num_people,
            skipped=skipped,
            queries=queries if len(queries) > 1 else (),
            min_similarity=min_similarity,
            turned=find_turned([*(query.name for query in queries), *(match.name for match in matches)]),
        )
        if return_vis or folder:
            upright = [
                (image, upright_boxes(boxes, source.orientation, image.shape[:2])) for source, image, boxes in shown
            ]
            image, boxes = join_queries(upright)
            result = replace(result, picture=picture_search(image, result, sources, boxes))
        if folder:
            write_search(result, folder)
        return result

    def open_index(self, folder: str | os.PathLike | None) -> GalleryIndex:
        """The people that this model found in images earlier.

        Args:
            folder: Where the file ``gallery_<8 digits of the model's hash>.npz`` is, or will be; None: the index is
                kept in memory alone.
        """
        path = None if folder is None else make_folder(Path(folder)) / f'gallery_{self.model.key[:8]}.npz'
        return GalleryIndex(path, self.model.key, self.model.score_thr)

    def _embed(self, source: Source, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Describe people of an image; their boxes (N, 4) are in pixels as stored, the image is upright."""
        orientation, size = source.orientation, image.shape[:2]
        require_inside(boxes, turned_size(size, orientation))
        return self.model.embed(image, upright_boxes(boxes, orientation, size))

    def _fill(
        self, index: GalleryIndex, sources: Sources, queries: Sequence[Source], batch_size: int, skipped: list[Skipped]
    ) -> list[str]:
        """Run the images that the index lacks; returns the names of all that could be read, without the queries."""
        names, own = [], {identity(query) for query in queries}

        def missing() -> Iterator[Source]:
            for source in self._watch(sources):
                if identity(source) not in own:
                    names.append(source.name)
                    if not index.has(source.name, source.stamp):
                        yield source

        try:
            for source, _, people in self._run(missing(), batch_size, skipped):
                index.add(source.name, source.stamp, people)
        finally:
            index.save()
        if not names:
            raise UserError('the gallery is empty: it holds nothing but the query image')
        lost = {source.name for source in skipped}
        names = [name for name in names if name not in lost]
        require_some(names, skipped)
        return names

    def _run(
        self, sources: Iterable[Source], batch_size: int, skipped: list[Skipped]
    ) -> Iterator[tuple[Source, np.ndarray, Detections]]:
        """Read images and find their people, in pixels as stored; those that cannot be read go to ``skipped``."""
        for batch in batches(read_sources(sources, skipped), batch_size):
            found = self.model.detect([image for _, image in batch])
            for (source, image), people in zip(batch, found, strict=True):
                boxes = stored_boxes(people.boxes, source.orientation, image.shape[:2])
                yield source, image, replace(people, boxes=boxes)

    def _watch(self, sources: Sources) -> Iterable[Source]:
        """Show how far it is."""
        return tqdm(sources, total=len(sources), unit='image', disable=None if self.show_progress else True)


def find_turned(names: Sequence[str]) -> list[Turned]:
    """The images, each once, whose files have an EXIF orientation other than upright."""
    found = [Turned(name, read_orientation(name)) for name in dict.fromkeys(names)]
    return [source for source in found if source.orientation != 1]


def identity(source: Source) -> tuple[str, str]:
    """Equal for two images that are the same image; an array's name is its place in a list."""
    return '' if source.name.startswith('array ') else source.name, source.stamp


def pair_queries(query: Input | Sequence[Input], query_bbox: np.ndarray | Sequence) -> list[tuple[Input, np.ndarray]]:
    """Query images, each with its boxes (N, 4) float64; see :meth:`PersonSearchInferencer.search`.

    Raises:
        UserError: If there is not a box for each image, or one is not four numbers.
    """
    if not isinstance(query, list | tuple):
        query, query_bbox = [query], [query_bbox]
    elif len(query) == 1 and len(query_bbox) == 4 and np.isscalar(query_bbox[0]):
        query_bbox = [query_bbox]
    if not 0 < len(query) == len(query_bbox):
        raise UserError(f'{len(query)} query images, but boxes for {len(query_bbox)}: give each image its box or boxes')
    pairs = []
    for image, given in zip(query, query_bbox, strict=True):
        try:
            boxes = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            boxes = np.empty(0)
        boxes = boxes[None] if boxes.ndim == 1 else boxes
        if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) == 0:
            raise UserError(f'a query box must be x1, y1, x2, y2, several of them (N, 4), not {given}')
        pairs.append((image, boxes))
    return pairs


def fuse(embeddings: np.ndarray) -> np.ndarray:
    """The query of a person that several boxes show: the mean of embeddings (N, D), brought to unit length."""
    if len(embeddings) == 1:
        return embeddings[0]
    mean = embeddings.mean(axis=0)
    return mean / np.linalg.norm(mean)


def write_search(result: SearchResult, folder: Path) -> None:
    """Write a search and its picture."""
    Image.fromarray(result.picture).save(folder / 'ranking.png')
    result.save(folder / 'results.json')


def require_positive(**numbers: int) -> None:
    """Refuse numbers below 1.

    Raises:
        UserError: Naming the first.
    """
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f'{name} must be at least 1, not {number}')


def make_folder(folder: Path) -> Path:
    """Make a folder to write to.

    Raises:
        UserError: If that cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'cannot write to {folder}: {error.strerror}: choose another folder') from None
    return folder


def require_inside(boxes: np.ndarray, size: tuple[int, int]) -> None:
    """Refuse boxes (N, 4) that have no part in an image of ``size`` (height, width).

    Raises:
        UserError: Naming the first such box.
    """
    height, width = size
    low, high = np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], [width, height])
    outside = np.flatnonzero(~(low < high).all(axis=1))
    if len(outside):
        box = ' '.join(f'{x:g}' for x in boxes[outside[0]])
        raise UserError(
            f'box {box} has no part in the image of {width}x{height} pixels: give x1 y1 x2 y2, top left and bottom '
            'right corner in pixels of the image as stored'
        )
