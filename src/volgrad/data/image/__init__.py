"""Training images: rows of fixed width, grouped in clusters, mapped into memory from files."""

from volgrad.data.image.features import Feature
from volgrad.data.image.image import Image
from volgrad.data.image.writer import ImageWriter

__all__ = ["Feature", "Image", "ImageWriter"]
