"""What a training recipe does to a network's weights."""

__version__ = "0.1.0"
