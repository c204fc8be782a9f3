"""The integer hash from which every reference value is drawn; same steps as on the Rust side."""
import numpy as np

SALT = 0xC2B2AE3D


def bits(t, n):
    """hash(t, i) for i in 0..n, as u32."""
    with np.errstate(over="ignore"):
        x = np.arange(n, dtype=np.uint32) * np.uint32(0x85EBCA77)
        x += np.uint32((t * 0x9E3779B1 + SALT) & 0xFFFFFFFF)
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x2C1B3C6D)
        x ^= x >> np.uint32(12)
        x *= np.uint32(0x297A2D39)
        x ^= x >> np.uint32(15)
    return x


def uniform(t, n):
    """hash(t, i) / 2^32 for i in 0..n, f64 in [0, 1)."""
    return bits(t, n) / 2.0**32
