"""Testing query-guided models: one prediction for each pair of query and gallery image of the protocol."""

from typing import Any

import numpy as np
import torch
from mmdet.registry import LOOPS
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_world_size
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop, ValLoop
from mmengine.runner.amp import autocast
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils.data import DataLoader

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import SearchProtocol
from mmps_kd.structures import expand_runs

from ..unwrap import unwrapped_model


class QueryGuidedLoop:
    """What testing and validation of a query-guided model share.

    Each query is encoded once, then the gallery is passed over: of each image, what does not depend on the query is
    computed once, and the model predicts for all queries that list it in the main protocol. Images that no query
    lists cost no forward pass. In a distributed run every process encodes all queries and takes its part of the
    gallery.

    The model has ``encode_queries``, ``encode_gallery`` and ``predict_pairs``, as :class:`QEEPS` has. The evaluator
    gets a sample for each gallery image with ``pair_query_ids`` (n,) int64 and ``pred_pairs``, an InstanceData for
    each of these queries.

    Args:
        runner: The runner.
        dataloader: Test images; the dataset's ``metainfo['evaluation']`` holds the protocol.
        evaluator: With a :class:`QueryGuidedSearchMetric`.
        fp16: Run in mixed precision.
        query_batch: Queries that the model predicts for at a time.
        max_queries: Queries kept at a time; the gallery is passed over once for each block of so many. None: all.
            To be set where a query's state holds feature maps (QSSE).
    """

    stage: str

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        fp16: bool = False,
        query_batch: int = 32,
        max_queries: int | None = None,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        for name, value in (('query_batch', query_batch), ('max_queries', max_queries)):
            if value is not None and value < 1:
                raise UserError(f'{type(self).__name__}: {name} must be at least 1, got {value}')
        self.query_batch = query_batch
        self.max_queries = max_queries
        self.states: dict[int, Any] = {}
        """The model's state of each query of the block."""
        self.queries: dict[str, list[int]] = {}
        """The queries of the block that list an image."""

    @property
    def protocol(self) -> SearchProtocol:
        """The main protocol of the dataset."""
        return self.dataloader.dataset.metainfo['evaluation'].main

    def run(self) -> dict[str, float]:
        """Predict and score all pairs of the protocol."""
        self._call_hook('before_{}')
        self._call_hook('before_{}_epoch')
        self.runner.model.eval()
        blocks = query_blocks(self.protocol, self.max_queries)
        num_samples = 0
        for number, block in enumerate(blocks, 1):
            self.runner.logger.info(f'Queries {number}/{len(blocks)}: encoding {len(block)}')
            self.states = self.encode_queries(block)
            self.queries = queries_by_image(self.protocol, block)
            for idx, data_batch in enumerate(self.dataloader):
                num_samples += self.run_iter(idx, data_batch)
        self.states, self.queries = {}, {}
        # The metric drops what a distributed sampler gives to two processes; cutting the end off would be wrong here.
        metrics = self.evaluator.evaluate(num_samples * get_world_size())
        self._call_hook('after_{}_epoch', metrics=metrics)
        self._call_hook('after_{}')
        return metrics

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> int:
        """Predict the pairs of a batch of gallery images.

        Returns:
            Number of images.
        """
        self._call_hook('before_{}_iter', batch_idx=idx, data_batch=data_batch)
        with autocast(enabled=self.fp16):
            # One by one: an image's answer must not depend on the padding that its neighbours call for.
            images = zip(data_batch['inputs'], data_batch['data_samples'], strict=True)
            outputs = [self.search_image(inputs, sample) for inputs, sample in images]
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self._call_hook('after_{}_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        return len(outputs)

    @torch.no_grad()
    def encode_queries(self, block: np.ndarray) -> dict[int, Any]:
        """The model's state of each query, images loaded once.

        Args:
            block: (n,) int64, positions in the protocol.
        """
        model, dataset = unwrapped_model(self.runner), self.dataloader.dataset
        index = {dataset.get_data_info(i)['img_name']: i for i in range(len(dataset))}
        states = {}
        for name in np.unique(self.protocol.query_images[block]).tolist():
            if name not in index:
                raise UserError(f"query image '{name}' is not among the images that the test dataset loads")
            data = model.data_preprocessor(pseudo_collate([dataset[index[name]]]), False)
            queries = data['data_samples'][0].query_instances
            queries = queries[torch.isin(queries.query_ids.cpu(), torch.from_numpy(block))]
            with autocast(enabled=self.fp16):
                encoded = model.encode_queries(data['inputs'], queries.bboxes)
            states.update(zip(queries.query_ids.tolist(), encoded, strict=True))
        return states

    def search_image(self, inputs: Tensor, sample: DetDataSample) -> DetDataSample:
        """Predict the pairs of one gallery image.

        Args:
            inputs: (3, H, W), as loaded.
            sample: Its meta information.

        Returns:
            The sample with its pairs, as the evaluator gets it.
        """
        data = unwrapped_model(self.runner).data_preprocessor(dict(inputs=[inputs], data_samples=[sample]), False)
        (sample,) = data['data_samples']
        queries = self.queries.get(sample.img_name, [])
        sample.pair_query_ids = torch.tensor(queries, dtype=torch.long)
        sample.pred_pairs = self._predict(data['inputs'], sample, queries) if queries else []
        return sample

    def _predict(self, batch_inputs: Tensor, sample: DetDataSample, queries: list[int]) -> list[InstanceData]:
        model, pairs = unwrapped_model(self.runner), []
        gallery = model.encode_gallery(batch_inputs)
        for first in range(0, len(queries), self.query_batch):
            states = [self.states[query] for query in queries[first : first + self.query_batch]]
            pairs += model.predict_pairs(gallery, sample, states, rescale=True)
        return pairs

    def _call_hook(self, point: str, **kwargs) -> None:
        self.runner.call_hook(point.format(self.stage), **kwargs)


@LOOPS.register_module()
class QueryGuidedTestLoop(QueryGuidedLoop, TestLoop):
    """Test a query-guided model; see :class:`QueryGuidedLoop`."""

    stage = 'test'


@LOOPS.register_module()
class QueryGuidedValLoop(QueryGuidedLoop, ValLoop):
    """Validate a query-guided model; see :class:`QueryGuidedLoop`."""

    stage = 'val'


def query_blocks(protocol: SearchProtocol, max_queries: int | None) -> list[np.ndarray]:
    """Split the queries into blocks, those of one image side by side so that it is rarely loaded twice.

    Args:
        protocol: Q queries.
        max_queries: Largest block; None for one block of all.

    Returns:
        Blocks of (n,) int64, positions in the protocol.
    """
    order = np.argsort(protocol.query_images, kind='stable')
    size = max_queries or len(order)
    return [order[first : first + size] for first in range(0, len(order), size)]


def queries_by_image(protocol: SearchProtocol, block: np.ndarray) -> dict[str, list[int]]:
    """The queries of a block that list an image, each once, by the image's name.

    Args:
        protocol: Queries and galleries.
        block: (n,) int64, positions in the protocol.
    """
    num_queries, counts = protocol.num_queries, np.diff(protocol.offsets)[block]
    images = protocol.entries[expand_runs(protocol.offsets[:-1][block], counts)].astype(np.int64)
    pairs = np.unique(images * num_queries + np.repeat(block, counts))
    images, first = np.unique(pairs // num_queries, return_index=True)
    queries = np.split(pairs % num_queries, first[1:])
    return {name: ids.tolist() for name, ids in zip(protocol.gallery_images[images].tolist(), queries, strict=True)}
