"""Shorter prompts: lossless folding, then pruning of natural language, checked before anything is sent.

Pure: texts in, texts out. What counts tokens and what prunes comes in through `ports`.
"""

from tenantgate.compress.config import CompressConfig, CompressionRange
from tenantgate.compress.core.pipeline import Compressed, Compressor, Steps

__all__ = ["CompressConfig", "Compressed", "CompressionRange", "Compressor", "Steps"]
