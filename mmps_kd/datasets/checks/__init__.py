"""Looking a data set's folder over before hours are spent on it."""

from .findings import Finding
from .folder import FolderReport, check_folder
from .images import TURNED
from .official import LAYOUTS, Layout

__all__ = ['LAYOUTS', 'TURNED', 'Finding', 'FolderReport', 'Layout', 'check_folder']
