"""Digests that tell whether files, or what is made of them, would be any different from before."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(*parts: Path | str) -> str:
    """One digest of files, each by its bytes, and of texts, in this order."""
    digests = (
        file_digest(part) if isinstance(part, Path) else hashlib.sha256(part.encode()).hexdigest() for part in parts
    )
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def chained_digests(files: Iterable[Path], rules: str) -> dict[Path, str]:
    """Digest of each file together with those before it and the rules: of all that its part of a result depends on."""
    chained = {}
    for file in files:
        rules = digest_of(rules, file)
        chained[file] = rules
    return chained
