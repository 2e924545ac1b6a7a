"""Makes spatter_reference.npz: what OpenCV makes of the steps of spatter. Not a test.

    pip install opencv-python-headless scikit-image && python tests/evaluation/make_spatter_reference.py

Follows the published generator of CIFAR-10-C in its calls and constants, on the noise of `white`.
"""

import pathlib

import numpy as np

try:  # the tests import `white` alone
    import cv2
    from skimage.filters import gaussian
except ImportError:
    cv2 = gaussian = None

OF_SEVERITY = {  # level, scale, width, threshold, and smoothing of the mud
    1: (0.62, 0.1, 0.7, 0.7, None),
    2: (0.65, 0.1, 0.8, 0.7, None),
    3: (0.65, 0.3, 1.0, 0.69, None),
    4: (0.65, 0.1, 0.7, 0.69, 0.6),
    5: (0.65, 0.1, 0.5, 0.68, 0.6),
}
RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])


def white(n: int = 4, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, side, side), np.float32)


def distance_to(edges: np.ndarray) -> np.ndarray:
    return np.minimum(cv2.distanceTransform(255 - edges, cv2.DIST_L2, 5), 20)


def mask(noise: np.ndarray, severity: int) -> np.ndarray:
    """How much of the liquid's colour is laid on each pixel."""
    level, scale, width, threshold, smoothing = OF_SEVERITY[severity]
    liquid = gaussian(level + scale * noise, sigma=width)
    liquid[liquid < threshold] = 0
    if smoothing:
        mud = gaussian((liquid > threshold).astype(np.float32), sigma=smoothing)
        return np.where(mud < 0.8, 0, mud)
    liquid = (liquid * 255).astype(np.uint8)
    distance = cv2.blur(distance_to(cv2.Canny(liquid, 50, 150)), (3, 3)).astype(np.uint8)
    lit = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, RELIEF)
    lit = liquid * cv2.blur(lit, (3, 3)).astype(np.float32)
    return 0.5 * lit / lit.max()


if __name__ == "__main__":
    smooth = np.stack([cv2.GaussianBlur(plane, (21, 21), 3) for plane in white()])
    bytes_of = (smooth * 300 + 128).clip(0, 255).astype(np.uint8)
    edges = np.stack([cv2.Canny(plane, 50, 150) for plane in bytes_of])
    np.savez_compressed(
        pathlib.Path(__file__).with_name("spatter_reference.npz"),
        bytes=bytes_of,
        edges=edges > 0,
        distance=np.stack([distance_to(plane) for plane in edges]).astype(np.float16),
        equalized=np.stack([cv2.equalizeHist(distance_to(plane).astype(np.uint8)) for plane in edges]),
        **{f"mask_{s}": np.stack([mask(w, s) for w in white()]).astype(np.float16) for s in OF_SEVERITY},
    )
