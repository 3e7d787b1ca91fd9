"""A page in the browser that searches a gallery for people in uploaded photographs."""

import argparse
import importlib.util
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from mmengine.config import DictAction

from mmps_kd.apis.app import SearchApp, build_page, launch
from mmps_kd.apis.inferencer import SCORE_THR, SearchModel
from mmps_kd.apis.init_model import load_config
from mmps_kd.deployment import add_backend_options
from mmps_kd.errors import UserError, interrupt_at_signals, run_tool
from mmps_kd.gallery import Gallery


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or name of one that comes with the package')
    parser.add_argument('checkpoint', help='the weights that the gallery was made with')
    parser.add_argument(
        '--gallery', required=True, metavar='URI', help='folder, s3://bucket/name, milvus://host:port/name'
    )
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen at; default: 127.0.0.1, this machine alone'
    )
    parser.add_argument('--port', type=int, default=7860)
    parser.add_argument('--device', help='such as cuda:1; default: the GPU if there is one')
    add_backend_options(parser)
    parser.add_argument('--score-thr', type=float, default=SCORE_THR, help='detections with a lower score take no part')
    parser.add_argument('--max-upload-mb', type=int, default=20, help='size of the largest photograph, in megabytes')
    parser.add_argument(
        '--root',
        nargs='+',
        metavar='DIR',
        help='show only images of the gallery that are in or below these folders; default: all of its images',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    return parser.parse_args()


def main() -> None:
    """Open the gallery, load the model, serve the page until a signal comes."""
    args = parse_args()
    if importlib.util.find_spec('gradio') is None:
        raise UserError("the page needs gradio: pip install 'mmps_kd[app]'")
    for root in args.root or ():
        if not Path(root).expanduser().is_dir():
            raise UserError(f'--root {root} is no folder')
    Gallery(args.gallery)  # that it is there, before the model is loaded
    cfg = load_config(args.config, args.cfg_options)
    model = SearchModel(cfg, args.checkpoint, args.device, args.backend, args.precision)
    app = SearchApp(model, Gallery(args.gallery, model.key, model.dim), args.score_thr, args.root)
    interrupt_at_signals()
    with tempfile.TemporaryDirectory(prefix='mmps_kd_app_') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder  # uploaded photographs and pictures are gone at the end
        page = build_page(app)
        launch(page, args.host, args.port, args.max_upload_mb)
        print(f'{page.local_url} shows the page; Ctrl-C stops it', flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        page.close()


if __name__ == '__main__':
    run_tool(main)
