"""Person search from Python: find people in images, describe them, search for one of them."""

import copy
import hashlib
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from PIL import Image
from tqdm import tqdm

from mmps_kd.compat import cpu_has_bfloat16, type_name
from mmps_kd.datasets.image_files import read_orientation, stored_boxes, turned_size, upright_boxes
from mmps_kd.deployment import GraphRunner, check_backend, prepare_for_cpu
from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import k_reciprocal_distances
from mmps_kd.gallery import Detections, Gallery, GalleryImage, Hits, Writer
from mmps_kd.models.utils.checkpoint_io import file_sha256
from mmps_kd.version import __version__
from mmps_kd.visualization.report import write_report

from .init_model import init_model, load_config, plain_student, require_search_model, test_pipeline
from .inputs import Input, Source, Sources, batches, read_one, read_sources, require_some, stored_images
from .pictures import join_queries, picture_detections, picture_search, report_search
from .results import Detected, DetectionResult, Match, QueryBox, SearchResult, Skipped, Turned

SCORE_THR = 0.5
"""The field's threshold of the detections that take part in a search."""


class SearchModel:
    """A model and its test pipeline, without the data set: images, upright, and boxes in their pixels go in.

    Attributes:
        key: Hash of model, weights and pipeline: what the answers depend on, beside the score threshold.
        score_thr: The model's own score threshold, below which it drops people, from its config.
        dim: Length D of an embedding.

    Args:
        cfg: Config with ``model`` and a pipeline for tests, see :func:`test_pipeline`.
        checkpoint: Trained weights.
        device: Such as ``cuda:1``; None for the GPU if there is one.
        backend: ``torch``, ``onnxruntime`` or ``openvino``; the last two run on the CPU.
        precision: ``fp32`` or ``bf16``, see :data:`mmps_kd.deployment.PRECISIONS`.
        export_dir: Folder that keeps the exported graphs of onnxruntime and OpenVINO; None for that of the checkpoint.

    Raises:
        UserError: If the model cannot search, there is no such device, backend or precision, or the checkpoint does not
            fit.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str | os.PathLike,
        device: str | None = None,
        backend: str = 'torch',
        precision: str = 'fp32',
        export_dir: str | os.PathLike | None = None,
    ) -> None:
        require_search_model(cfg)
        check_backend(backend, precision)
        if backend != 'torch' and device not in (None, 'cpu'):
            raise UserError(f'backend {backend} runs on the CPU, not on {device}: leave the device out')
        self.model = init_model(cfg, checkpoint, device if backend == 'torch' else 'cpu')
        head = self.model.roi_head
        head.test_cfg = copy.deepcopy(head.test_cfg)  # set_score_thr leaves the config as it is
        self.score_thr: float = head.test_cfg.get('score_thr', 0.0)
        self.dim: int = head.reid_head.loss_oim.lut.shape[1]
        # Images come in memory, and nothing is annotated.
        steps = [step for step in test_pipeline(cfg) if not type_name(step['type']).startswith('Load')]
        self.pipeline = Compose(steps)
        # The last part: indexes of earlier releases hold what was found in photographs as stored, lying on their side.
        # Two settings are written as in earlier releases, whose galleries are used further: they change nothing that is
        # found, but for rounding.
        described = repr(plain_student(cfg.model)).replace("'SparseRoIExtractor'", "'SingleRoIExtractor'")
        described = described.replace("'ignore_iof_thr': 0.5", "'ignore_iof_thr': -1")
        parts = [file_sha256(checkpoint), described, repr(steps), 'images are turned upright']
        self.key = hashlib.sha256('\n'.join(parts).encode()).hexdigest()
        self.precision, self.graphs = precision, None
        if backend != 'torch':
            exported = hashlib.sha256(f'{self.key} {__version__}'.encode()).hexdigest()
            folder = Path(checkpoint).parent if export_dir is None else make_folder(Path(export_dir))
            stem = folder / f'{Path(checkpoint).stem}_{exported[:8]}'
            self.graphs = GraphRunner(self.model, backend, precision, stem)
        elif next(self.model.parameters()).device.type == 'cpu':
            prepare_for_cpu(self.model)
            if precision == 'bf16' and not cpu_has_bfloat16():
                warnings.warn(
                    'this processor has no instructions for bfloat16, which takes tens of times as long as fp32 here',
                    stacklevel=2,
                )
        if precision != 'fp32':  # in fp32 the backends differ by rounding alone
            self.key = hashlib.sha256(f'{self.key} {backend} {precision}'.encode()).hexdigest()

    def set_score_thr(self, score_thr: float) -> None:
        """Find people with at least this score from now on, or with the model's own threshold if that is lower."""
        # The model keeps scores above its threshold, in single precision: the next lower number keeps equal ones too.
        below = float(np.nextafter(np.float32(score_thr), np.float32(-1)))
        self.model.roi_head.test_cfg.score_thr = below if score_thr < self.score_thr else self.score_thr

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Find and describe the people of images, (H, W, 3) uint8 BGR each.

        Images of one size do not change each other's answer; smaller ones are padded to the largest, which may.
        """
        return self.detect_prepared([prepare(self.pipeline, image) for image in images])

    def detect_prepared(self, images: Sequence[dict]) -> list[Detections]:
        """Find and describe the people of images that :func:`prepare` has prepared, in another process for example."""
        if self.graphs is not None:
            return [self._detect_by_graph(one['inputs'], one['data_samples'].scale_factor) for one in images]
        with torch.inference_mode(), self._autocast():
            samples = self.model.test_step(pseudo_collate(images))
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
        batch = pseudo_collate([prepare(self.pipeline, image, queries=queries)])
        if self.graphs is not None:
            (inputs,), (sample,) = batch['inputs'], batch['data_samples']
            return self.graphs.embed(as_image(inputs), sample.query_instances.bboxes.numpy())
        with torch.inference_mode(), self._autocast():
            data = self.model.data_preprocessor(batch, False)
            (sample,) = data['data_samples']
            features = self.model.extract_feat(data['inputs'])
            (embeddings,) = self.model.roi_head.embed(features, [sample.query_instances.bboxes])
        return embeddings.cpu().numpy()

    def _detect_by_graph(self, inputs: torch.Tensor, scale_factor: tuple[float, float]) -> Detections:
        score_thr = self.model.roi_head.test_cfg.get('score_thr', 0.0)
        boxes, scores, embeddings = self.graphs.detect(as_image(inputs), score_thr)
        return Detections(boxes / np.tile(np.float32(scale_factor), 2), scores, embeddings)

    def _autocast(self) -> torch.autocast:
        device = next(self.model.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == 'bf16')


def prepare(pipeline: Compose, image: np.ndarray, **more) -> dict:
    """What a pipeline makes of an image in memory, (H, W, 3) uint8 BGR."""
    return pipeline(dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], **more))


def as_image(inputs: torch.Tensor) -> np.ndarray:
    """What the pipeline gives, (3, H, W), as the exported graphs take it, (H, W, 3)."""
    return np.ascontiguousarray(inputs.permute(1, 2, 0).numpy())


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
        backend: What runs the model: ``torch``, ``onnxruntime`` or ``openvino``, see docs/deployment.md. The last two
            run on the CPU and take the model's exported graphs, which are written once.
        precision: ``fp32``, or ``bf16`` by ``torch`` or ``openvino``: faster where the processor has instructions for
            it, with embeddings of its own and so a gallery index of its own.
        export_dir: Folder of the exported graphs, ``<checkpoint>_<8 digits of the model's hash>_<task>.onnx``; None for
            that of the checkpoint.

    Raises:
        UserError: If there is no such config, checkpoint, device, backend or precision, they do not fit, or the model
            cannot search.
    """

    def __init__(
        self,
        model: str | os.PathLike | Config,
        weights: str | os.PathLike,
        device: str | None = None,
        show_progress: bool = True,
        backend: str = 'torch',
        precision: str = 'fp32',
        export_dir: str | os.PathLike | None = None,
    ) -> None:
        self.model = SearchModel(load_config(model), weights, device, backend, precision, export_dir)
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
        gallery: Input | Sequence[Input] | Gallery,
        topk: int = 10,
        *,
        min_similarity: float | None = None,
        rerank: int | None = None,
        camera: str | Collection[str] | None = None,
        after: float | None = None,
        before: float | None = None,
        batch_size: int = 1,
        score_thr: float = SCORE_THR,
        frame_stride: int = 1,
        index: Gallery | None = None,
        return_vis: bool = False,
        out_dir: str | os.PathLike | None = None,
        report: bool = True,
    ) -> SearchResult:
        """Find the people of a gallery that are most similar to a given one.

        Several boxes, in one image or in several, show one person: the query is the mean of their embeddings, brought
        to unit length. To search for several people, call this once for each, with one index: no image is run twice.

        If a query image is in the gallery, it is not searched. What is computed is in the index, also after
        an exception such as ``KeyboardInterrupt``. An index of more than 200,000 detections answers approximately, see
        :meth:`mmps_kd.gallery.Gallery.search`.

        Args:
            query: Image file, frame of a video such as ``cam1.mp4#250``, or array (H, W, 3) uint8 BGR; or a list of
                them.
            query_bbox: x1, y1, x2, y2 of the person in its pixels as stored, (4,), or (N, 4) for several boxes; for a
                list of images a list with the box or boxes of each.
            gallery: Where to search: images, see :meth:`detect`, or a gallery that was filled by this model. That is
                searched as it is: no image is run. What is drawn needs the images of the matches; if one of them is
                not there, or has changed, there is no picture and no report.
            topk: Detections to return.
            min_similarity: Least similarity of the people wanted, in -1..1; it may be that there is nobody.
            rerank: Re-rank so many of the most similar people by
                :func:`mmps_kd.evaluation.functional.k_reciprocal_distances`; None: none.
            camera: Of a gallery, only these cameras.
            after: Of a gallery, only images of this time or later, in seconds; see :meth:`Gallery.search`.
            before: Of a gallery, only images before this time.
            batch_size: Images that are run at a time.
            score_thr: Detections with a lower score take no part. Images that the index has from a run with a higher
                threshold are run again.
            frame_stride: See the class.
            index: What is known of images already, from :meth:`open_index`; by default that of ``out_dir``.
            return_vis: Draw the ranking.
            out_dir: Write ``results.json``, ``results.csv``, ``ranking.png`` and ``report.html`` there.
            report: Write ``report.html``, too.

        Raises:
            UserError: If there is nothing to read or to search, a box has no part in its image, images and boxes do
                not fit together, nobody is detected, or a gallery is of another model, lacks detections of
                ``score_thr`` or cannot fulfil a condition.
        """
        require_positive(topk=topk, batch_size=batch_size, rerank=1 if rerank is None else rerank)
        if min_similarity is not None and not -1 <= min_similarity <= 1:
            raise UserError(f'min_similarity must be in -1..1, not {min_similarity}')
        shown = [(*read_one(image), boxes) for image, boxes in pair_queries(query, query_bbox)]
        embedding = fuse(np.concatenate([self._embed(*query) for query in shown]))
        folder, skipped = None if out_dir is None else make_folder(Path(out_dir)), []
        conditions = dict(camera=camera, after=after, before=before)
        if isinstance(gallery, Gallery):
            if index is not None:
                raise UserError('index is what is known of images: leave it out, the gallery is searched as it is')
            index, find_images = gallery, partial(stored_images, gallery)
            self._require_fitting(gallery, score_thr)
            conditions['not_images'] = {identity(source)[0] for source, _, _ in shown}
            names = gallery.images(**conditions)
        else:
            if any(value is not None for value in conditions.values()):
                raise UserError('camera, after and before are conditions on a gallery: fill one by tools/gallery.py')
            index = self.open_index(folder) if index is None else index
            sources = Sources(gallery, frame_stride)
            find_images = sources.named
            names = self._fill(index, sources, [source for source, _, _ in shown], score_thr, batch_size, skipped)
            conditions = dict(images=names)
        (hits,) = index.search(embedding[None], max(topk, rerank or 0), **conditions, score_thr=score_thr)
        num_people = index.count(**conditions, score_thr=score_thr)
        if num_people == 0:
            raise UserError(
                f'nobody was found with a score of at least {score_thr:g} in the {len(names)} images of the gallery: '
                'lower score_thr, or see whether config and weights are those that belong together'
            )
        if rerank is not None:
            hits = rerank_hits(embedding, hits, rerank)
        least = -np.inf if min_similarity is None else min_similarity
        matches = [match for match in list_matches(hits[:topk]) if match.similarity >= least]
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
            reranked=rerank,
        )
        if return_vis or folder:
            upright = [
                (image, upright_boxes(boxes, source.orientation, image.shape[:2])) for source, image, boxes in shown
            ]
            image, boxes = join_queries(upright)
            result = replace(result, picture=picture_search(image, result, find_images, boxes))
        if folder:
            write_search(result, folder)
        if folder and report and result.picture is not None:
            html = report_search(folder, shown, result, find_images, index.read, names, score_thr, topk)
            write_report(folder / 'report.html', html)
        return result

    def open_index(self, folder: str | os.PathLike | None) -> Gallery:
        """The people that this model found in images earlier, with embeddings in single precision.

        Args:
            folder: Where the folder ``gallery_<8 digits of the model's hash>`` is, or will be. A file of that name with
                ``.npz``, of an earlier release, is read into it. None: the index is kept in memory alone.
        """
        options = dict(model=self.model.key, dim=self.model.dim, score_thr=self.model.score_thr, dtype='float32')
        if folder is None:
            return Gallery(None, **options)
        path = make_folder(Path(folder)) / f'gallery_{self.model.key[:8]}'
        is_new, old = not path.exists(), path.with_suffix('.npz')
        gallery = Gallery(path, **options)
        if is_new and old.exists():
            gallery.import_npz(old)
        return gallery

    def _require_fitting(self, gallery: Gallery, score_thr: float) -> None:
        """Refuse a gallery of another model, or without all detections of at least ``score_thr``."""
        gallery.require_model(self.model.key)
        highest = gallery.highest_score_thr()
        if score_thr < highest:
            raise UserError(
                f'gallery {gallery.uri} has images that were run with a score threshold of {highest:g}: search with at '
                f'least that score_thr, not {score_thr:g}, or index them again with a lower one'
            )

    def _embed(self, source: Source, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Describe people of an image; their boxes (N, 4) are in pixels as stored, the image is upright."""
        orientation, size = source.orientation, image.shape[:2]
        require_inside(boxes, turned_size(size, orientation))
        return self.model.embed(image, upright_boxes(boxes, orientation, size))

    def _fill(
        self,
        index: Gallery,
        sources: Sources,
        queries: Sequence[Source],
        score_thr: float,
        batch_size: int,
        skipped: list[Skipped],
    ) -> list[str]:
        """Run the images that the index lacks; returns the names of all that could be read, without the queries."""
        names, own = [], {identity(query) for query in queries}
        stamps = sources.stamps()
        index.score_thr = min(self.model.score_thr, max(score_thr, 0))
        absent = set(index.missing(stamps))
        # New images are run with the lowest threshold of the index, so that they serve every search that it serves.
        index.score_thr = min(index.score_thr, index.lowest_score_thr())
        self.model.set_score_thr(index.score_thr)

        def missing() -> Iterator[Source]:
            for source in self._watch(sources):
                if identity(source) not in own:
                    names.append(source.name)
                    # A video may have more frames than its header claims.
                    unlisted = source.name not in stamps
                    if source.name in absent or unlisted and index.missing({source.name: source.stamp}):
                        yield source

        with Writer(index) as writer:
            for source, _, people in self._run(missing(), batch_size, skipped):
                writer.add(GalleryImage(source.name, source.stamp, people))
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


def list_matches(hits: Hits) -> list[Match]:
    """Hits of a gallery as matches of a result."""
    people, times = hits.detections, [None if np.isnan(time) else time for time in hits.times.tolist()]
    boxes = map(tuple, people.boxes.tolist())
    columns = hits.images, boxes, people.scores.tolist(), hits.similarities.tolist(), hits.cameras, times
    return [Match(*row) for row in zip(*columns, strict=True)]


def rerank_hits(query: np.ndarray, hits: Hits, number: int) -> Hits:
    """Order the first hits of a query (D,) by their k-reciprocal distances, equal ones as before."""
    distances = k_reciprocal_distances(query, hits.detections.embeddings[:number])
    order = np.argsort(distances, kind='stable')
    return hits[np.concatenate([order, np.arange(len(order), len(hits))])]


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
    """Write a search, and its picture if there is one."""
    result.save(folder / 'results.json')
    result.save_csv(folder / 'results.csv')
    if result.picture is not None:
        Image.fromarray(result.picture).save(folder / 'ranking.png')


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
