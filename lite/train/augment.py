"""Random changes to training pictures: pure functions of pixels, boxes and a random generator."""

import cv2
import numpy as np

from lite.skeletons import Skeleton
from lite.train.config import AugmentConfig

HALF_BODY_LEAST = 8  # labelled keypoints a person needs to be cut in half


def truncated_normal(rng: np.random.Generator, size: int | None = None) -> np.ndarray | float:
    """Normal draws of deviation 0.5, cut at -1 and 1."""
    return np.clip(rng.normal(0.0, 0.5, size), -1.0, 1.0)


def half_body_box(
    keypoints: np.ndarray, visible: np.ndarray, skeleton: Skeleton, padding: float, rng: np.random.Generator
) -> np.ndarray | None:
    """(4,) xyxy round the upper or lower body, made so that padding it gives 1.5 times its extent.

    Args:
        keypoints: (K, 2) px. visible: (K,) bool.
        padding: the factor the box will be enlarged by.

    Returns:
        The box, or None when too few keypoints are labelled.
    """
    if visible.sum() < HALF_BODY_LEAST:
        return None
    halves = [[i for i in half if visible[i]] for half in (skeleton.upper_body, skeleton.lower_body)]
    order = (0, 1) if rng.random() < 0.7 else (1, 0)
    chosen = next((halves[i] for i in order if len(halves[i]) >= 3), None)
    if chosen is None:
        return None
    points = keypoints[chosen]
    low, high = points.min(0), points.max(0)
    half = (high - low) / 2 * 1.5 / padding
    center = points.mean(0)
    if (half <= 1).any():
        return None
    return np.concatenate([center - half, center + half]).astype(np.float32)


def random_crop_box(
    center: np.ndarray, scale: np.ndarray, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre, size and turn of a changed crop.

    Args:
        center: (2,) px. scale: (2,) padded width and height, px.

    Returns:
        center (2,), scale (2,), rotation in degrees.
    """
    if rng.random() < config.shift_prob:
        center = center + truncated_normal(rng, 2) * config.shift * scale
    low, high = config.scale
    t = truncated_normal(rng)
    factor = 1 + t * (high - 1) if t > 0 else 1 + t * (1 - low)
    rotation = truncated_normal(rng) * config.rotation_deg if rng.random() < config.rotation_prob else 0.0
    return center, scale * factor, float(rotation)


def change_colours(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, tint, saturation and gamma of (h, w, 3) uint8 RGB, each by chance."""
    if strength == 0 or rng.random() < 0.2:
        return pixels
    x = pixels.astype(np.float32)
    if rng.random() < 0.5:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
        x = grey + (x - grey) * (1 + strength * rng.uniform(-1, 1))
    if rng.random() < 0.5:
        mean = x.mean()
        x = mean + (x - mean) * (1 + strength * rng.uniform(-0.8, 0.8))
    tint = 1 + 0.2 * strength * rng.uniform(-1, 1, 3)
    x = x * tint.astype(np.float32) + np.float32(50 * strength * rng.uniform(-1, 1))
    x = np.clip(x, 0, 255)
    if rng.random() < 0.3:
        x = 255 * (x / 255) ** np.float32(np.exp(strength * rng.uniform(-0.6, 0.6)))
    return x.astype(np.uint8)


def soften(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A softer picture of the same size: blurred, or shrunk and enlarged, as small people in photographs look."""
    height, width = pixels.shape[:2]
    if rng.random() < 0.5:
        return cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 2.0))
    factor = rng.uniform(0.25, 0.7)
    small = cv2.resize(
        pixels, (max(1, int(width * factor)), max(1, int(height * factor))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def cover(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of 0.15 to 0.4 of each side painted over in one colour."""
    height, width = pixels.shape[:2]
    h, w = int(height * rng.uniform(0.15, 0.4)), int(width * rng.uniform(0.15, 0.4))
    y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    covered = pixels.copy()
    covered[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return covered


def change_pixels(pixels: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Colours, softness and a covered rectangle as the configuration says."""
    pixels = change_colours(pixels, config.colour, rng)
    if rng.random() < config.blur_prob:
        pixels = soften(pixels, rng)
    if rng.random() < config.cover_prob:
        pixels = cover(pixels, rng)
    return pixels
