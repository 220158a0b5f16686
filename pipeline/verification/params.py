"""What exported files are held to."""

from pipeline.core.params import Block, Fraction


class VerifyParams(Block):
    tolerance: Fraction = 0.03
    """How far the main metric may fall from the float model to the file that ships."""
    size_ratio: Fraction = 0.35
    """The most that an int8 file may have of the float file's bytes."""
