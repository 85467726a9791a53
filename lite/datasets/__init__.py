"""Annotation files and the pictures they speak of, as plain Python and arrays."""

from lite.datasets.coco import CocoAnnotations, ImageInfo, Person, labelled_people, read_coco
from lite.datasets.image_store import ImageStore

DATASETS = {"coco": read_coco}

__all__ = ["DATASETS", "CocoAnnotations", "ImageInfo", "ImageStore", "Person", "labelled_people", "read_coco"]
