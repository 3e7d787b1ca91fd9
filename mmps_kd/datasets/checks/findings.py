"""What a check can find."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing about one file.

    Attributes:
        split: 'train', 'test' or 'both'.
        what: What is the matter, the same words for the same matter.
        file: The image as the annotations name it, or the annotation file.
        detail: What exactly; may be empty.
        serious: True for a problem, which has to be mended; False for what is handled and only worth knowing.
    """

    split: str
    what: str
    file: str
    detail: str = ''
    serious: bool = True
