"""Files that passed a check as they are, so that after an evening's run a check looks at what the evening changed.

Here: which these are, in the lake's folder `build`; whoever deletes it only has the checks look at everything again.
Not here: what a check has to look at besides a file itself, which it puts into the file's digest.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.storage import kept_json, write_json


class Passed:
    """What a check remembers of files with these digests, made before it reads the files.

    A file replaced in between is looked at again next time. Two runs at once may lose each other's records, with the
    same effect.
    """

    def __init__(self, lake: Lake, check: str, digests: Mapping[Path, str]) -> None:
        self._lake = lake
        self._path = lake.root / "build" / "passed" / f"{check}.json"
        self._digests = digests
        self._stored: dict[str, str] = kept_json(self._path)

    def changed(self) -> list[Path]:
        """Files that have not passed as they are."""
        return [file for file, digest in self._digests.items() if self._stored.get(self._name(file)) != digest]

    def record(self, files: Iterable[Path]) -> None:
        """These files passed."""
        self._stored |= {self._name(file): self._digests[file] for file in files}
        write_json(self._path, dict(sorted(self._stored.items())), indent=0)

    def _name(self, file: Path) -> str:
        return str(file.relative_to(self._lake.root))
