"""Fixtures that several tests share: the demo's model, made smaller, and batches for it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import mmps_kd  # noqa: F401  registers the parts
from mmps_kd.compat import read_checkpoints_as_data
from mmps_kd.testing.synthetic import write_dataset

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)
read_checkpoints_as_data()  # as the tools do


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """Root of the repository."""
    return ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need MMPS_TEST_DATA, so that `-m data` selects them."""
    for item in items:
        if 'shared_data' in getattr(item, 'fixturenames', ()):
            item.add_marker('data')


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Folder of the real annotation files, which CONTRIBUTING.md lists."""
    folder = os.environ.get('MMPS_TEST_DATA')
    if not folder:
        pytest.skip('set MMPS_TEST_DATA to the folder of the real annotation files, see CONTRIBUTING.md')
    assert Path(folder).is_dir(), f'MMPS_TEST_DATA={folder} is not a folder'
    return Path(folder).resolve()


@pytest.fixture(scope='session')
def tiny_cuhk_sysu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic data set of 24 images in CUHK-SYSU's layout."""
    root = tmp_path_factory.mktemp('data') / 'cuhk-sysu'
    write_dataset(root, 'cuhk-sysu', 'tiny')
    return root


@pytest.fixture(autouse=True)
def mmdet_scope() -> None:
    """Build from mmdet's registries, as the runner does."""
    init_default_scope('mmdet')


@pytest.fixture
def model_cfg() -> dict:
    """Config of a model that runs in milliseconds: the demo's with 8 base channels, 6 identities, queue of 10."""
    cfg = Config.fromfile(ROOT / 'configs/demo/oim_r18-narrow_mini.py').model
    cfg.backbone.update(base_channels=8, stem_channels=8)
    cfg.rpn_head.update(in_channels=32, feat_channels=32)
    cfg.roi_head.bbox_roi_extractor.out_channels = 32
    cfg.roi_head.bbox_head.update(in_channels=32, fc_out_channels=16)
    cfg.roi_head.reid_head.update(in_channels=32, feat_channels=16)
    cfg.roi_head.reid_head.loss_oim.update(num_identities=6, queue_size=10)
    return cfg


@pytest.fixture
def build_model(model_cfg: dict) -> Callable:
    """Build the small model with seeded weights; keyword arguments override its config."""

    def build(seed: int = 0, **overrides):
        torch.manual_seed(seed)
        model = MODELS.build({**model_cfg, **overrides})
        model.init_weights()
        return model

    return build


SMALL_MODEL = """
_base_ = '{root}/configs/demo/oim_r18-narrow_mini.py'
model = dict(
    backbone=dict(base_channels={width}, stem_channels={width}),
    rpn_head=dict(in_channels={width} * 4, feat_channels={width} * 4),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels={width} * 4),
        bbox_head=dict(in_channels={width} * 4, fc_out_channels={width} * 2),
        reid_head=dict(
            in_channels={width} * 4,
            feat_channels={width} * 2,
            loss_oim=dict(num_identities=6, queue_size=10),
        ),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=3)),
)
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}/'))
test_evaluator = dict(score_thr=0.0)
"""


@pytest.fixture(scope='session')
def write_small_config(tiny_cuhk_sysu: Path) -> Callable:
    """Write the config of a model of some base channels that finds three persons in every image of the tiny data."""

    def write(path: Path, width: int, more: str = '') -> Path:
        path.write_text((SMALL_MODEL + more).format(root=ROOT, data=tiny_cuhk_sysu, width=width))
        return path

    return write


@pytest.fixture(scope='session')
def search_files(write_small_config: Callable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Config file and checkpoint of a model with random weights that finds three people in every image."""
    folder = tmp_path_factory.mktemp('search')
    config, checkpoint = write_small_config(folder / 'small.py', 8), folder / 'small.pth'
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    return config, checkpoint


@pytest.fixture
def write_means_network() -> Callable:
    """Write an ONNX network of crops (3, 8, 4) that gives the mean of each channel."""
    onnx = pytest.importorskip('onnx')

    def write(path: Path, dynamic: bool = True) -> Path:
        shape, kinds, make = ['N' if dynamic else 1, 3, 8, 4], onnx.TensorProto, onnx.helper
        graph = make.make_graph(
            [make.make_node('ReduceMean', ['crops', 'axes'], ['means'], keepdims=0)],
            'means',
            [make.make_tensor_value_info('crops', kinds.FLOAT, shape)],
            [make.make_tensor_value_info('means', kinds.FLOAT, [shape[0], 3])],
            [make.make_tensor('axes', kinds.INT64, [2], [2, 3])],
        )
        onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid('', 18)], ir_version=10), path)
        return path

    return write


@pytest.fixture
def make_batch() -> Callable:
    """A batch of noise images of 96x128 pixels with given people: one (boxes, pids) pair an image."""

    def make(people: list[tuple[list, list]], seed: int = 0) -> dict:
        generator = torch.Generator().manual_seed(seed)
        inputs = [torch.randint(0, 256, (3, 96, 128), generator=generator, dtype=torch.uint8) for _ in people]
        samples = []
        for index, (boxes, pids) in enumerate(people):
            meta = dict(img_id=index, img_name=f'{index}.jpg', img_shape=(96, 128), ori_shape=(192, 256))
            sample = DetDataSample(
                metainfo=dict(**meta, scale_factor=(0.5, 0.5), batch_input_shape=(96, 128), pad_shape=(96, 128))
            )
            sample.gt_instances = InstanceData(
                bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                labels=torch.zeros(len(pids), dtype=torch.long),
                pids=torch.tensor(pids, dtype=torch.long),
            )
            samples.append(sample)
        return dict(inputs=inputs, data_samples=samples)

    return make


@pytest.fixture
def qeeps_cfg(model_cfg: dict) -> dict:
    """Config of a query-guided model that runs in milliseconds, all three parts on."""
    model_cfg.update(type='QEEPS', qrpn=dict(type='QRPN', ratio=4, feat_channels=8), qsim_net=dict(type='QSimNet'))
    model_cfg.backbone.update(type='SiameseResNet', qsse=dict(ratio=4))
    preprocessor = dict(type='MultiBranchDataPreprocessor', data_preprocessor=dict(model_cfg.data_preprocessor))
    model_cfg.data_preprocessor = preprocessor
    return model_cfg


@pytest.fixture(scope='session')
def shrink() -> Callable:
    """Make a config's own model narrow, its images small, its training one epoch from scratch; for the tiny data."""

    def shrink(cfg: Config) -> None:
        model = cfg.model
        backbone = model.backbone
        norm_cfg = dict(type='BN', requires_grad=True)
        backbone.update(init_cfg=None, norm_cfg=norm_cfg, norm_eval=False, frozen_stages=-1)
        # The demo's models have no shared head, and are small.
        if 'depth' in backbone and model.roi_head.get('shared_head', True):
            backbone.update(depth=min(backbone.depth, 50), base_channels=8, stem_channels=8)
            widths = [8 * (4 if backbone.depth == 50 else 1) * 2**stage for stage in range(4)]
            if 'neck' in model:
                model.neck.in_channels = widths
            else:
                shrink_c4(model, widths[2])
        shrink_run(cfg)

    return shrink


def shrink_c4(model: dict, channels: int) -> None:
    """Narrow RPN and RoI head for a backbone of so many channels."""
    model.rpn_head.update(in_channels=channels, feat_channels=channels)
    model.rpn_head.anchor_generator.scales = [2, 4]
    model.roi_head.shared_head = None  # its width is fixed
    model.roi_head.bbox_roi_extractor.update(out_channels=channels)
    model.roi_head.bbox_roi_extractor.roi_layer.output_size = 7
    if 'second_shared_head' in model.roi_head:
        model.roi_head.second_shared_head = None
    for head in ('bbox_head', 'second_bbox_head', 'reid_head'):
        if head in model.roi_head:
            model.roi_head[head].update(in_channels=channels)
            if 'roi_feat_size' in model.roi_head[head]:
                model.roi_head[head].roi_feat_size = 7
    if 'before_channels' in model.roi_head.get('reid_head', {}):
        model.roi_head.reid_head.update(before_channels=None, init_cfg=None)


def shrink_run(cfg: Config) -> None:
    """Few RoIs, small images, one epoch; after so little training only many boxes find a person."""
    train = cfg.train_dataloader.dataset
    parts = train.get('datasets', [train.get('dataset', train)])
    if 'reid_head' in cfg.model.roi_head:
        cfg.model.roi_head.reid_head.loss_oim.update(num_identities=6 * len(parts), queue_size=10)
    cfg.model.train_cfg.rcnn.sampler.num = 16
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=100, nms=dict(type='nms', iou_threshold=0.7))
    cfg.test_evaluator.score_thr = 0.0
    cfg.train_cfg.max_epochs = 1
    for part in (*parts, cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
        part.pipeline[2].scale = (160, 120)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)


@pytest.fixture
def make_pairs(make_batch: Callable) -> Callable:
    """A batch of pairs of noise images: one (query box, pid, gallery boxes, gallery pids) a pair."""

    def make(pairs: list[tuple[list, int, list, list]]) -> dict:
        query = make_batch([([box], [pid]) for box, pid, _, _ in pairs], seed=1)
        gallery = make_batch([(boxes, pids) for _, _, boxes, pids in pairs], seed=2)
        for sample in query['data_samples']:
            people = sample.gt_instances
            sample.query_instances = InstanceData(bboxes=people.bboxes, pids=people.pids)
        return {key: dict(query=query[key], gallery=gallery[key]) for key in query}

    return make
