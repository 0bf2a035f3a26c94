"""What is kept in LFS and what is kept in git itself, as the Hub decides it for a file.

Owns the rule, the `.gitattributes` that a new repo starts with, and the text of an LFS pointer
(git-lfs, docs/spec.md).
"""

from __future__ import annotations

from pathlib import PurePosixPath

# The endings of the `.gitattributes` that the Hub puts into a new repo, with those of pictures, which its datasets
# have and of which its models take the binary ones only through LFS.
LFS_ENDINGS = (
    ".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gz", ".h5", ".joblib", ".mlmodel", ".model", ".msgpack",
    ".npy", ".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl", ".pt", ".pth", ".rar", ".safetensors",
    ".tar", ".tflite", ".tgz", ".wasm", ".xz", ".zip", ".zst",
    ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tiff", ".webp",
)  # fmt: skip
REGULAR_BYTES = 10_000_000  # from this size on, every file is kept in LFS
GITATTRIBUTES = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LFS_ENDINGS).encode()


def in_lfs(path: str, size: int, sample: bytes = b"") -> bool:
    """Whether a file of `size` bytes goes to LFS. `sample` is its beginning: text has no NUL (assumption, git's rule).

    An empty file never does: the client sends it as a regular one.
    """
    if size == 0:
        return False
    return PurePosixPath(path).suffix.lower() in LFS_ENDINGS or size >= REGULAR_BYTES or b"\0" in sample


def pointer(sha256: str, size: int) -> bytes:
    """The text that git keeps in the place of a file in LFS."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
