"""Inputs to frames: which pictures there are, and their pixels."""

from lite.readers.images import PICTURE_SUFFIXES, Item, list_pictures, read_frame, read_picture

__all__ = ["PICTURE_SUFFIXES", "Item", "list_pictures", "read_frame", "read_picture"]
