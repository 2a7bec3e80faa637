"""Files of a model on the Hugging Face hub, and what went wrong when they do not come.

Only named files are fetched, all of one commit, so that nothing that is not asked for is
downloaded and a branch that moves in between does not mix two models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from phosphene._optional import require
from phosphene.errors import DataError, PhospheneError

OFFLINE_FIX = (
    "download it once where there is a connection (`hf download {repo}`), or copy its files into "
    "a folder and pass the folder"
)


@dataclass(frozen=True)
class HubModel:
    """A model on the hub.

    Parameters
    ----------
    repo : str
        E.g. ``openai/clip-vit-base-patch32``.
    revision : str, optional
        Branch, tag or commit; the main branch when not given.
    """

    repo: str
    revision: str | None = None

    def file(self, name: str) -> Path:
        """Path of a file in the local cache, downloaded when it is not there.

        Raises
        ------
        DataError
            If it cannot be had; says why.
        """
        return self._fetch(name, required=True)  # type: ignore[return-value]

    def first(self, names: Sequence[str]) -> Path | None:
        """The first of some files that the model has."""
        for name in names:
            if (path := self._fetch(name, required=False)) is not None:
                return path
        return None

    def all_of(self, names: Sequence[str]) -> None:
        """Fetch those of some files that the model has."""
        for name in names:
            self._fetch(name, required=False)

    def pinned(self, path: Path) -> HubModel:
        """The same model at the commit that a file of it came from."""
        # The cache keeps files as .../snapshots/COMMIT/name.
        return HubModel(self.repo, path.parent.name)

    def _fetch(self, name: str, *, required: bool) -> Path | None:
        hub = require("huggingface_hub", "hf", f"the model {self.repo!r}")
        errors = require("huggingface_hub.utils", "hf")
        try:
            return Path(hub.hf_hub_download(self.repo, name, revision=self.revision))
        except Exception as error:
            absent = isinstance(error, errors.EntryNotFoundError)
            unreached = isinstance(error, errors.LocalEntryNotFoundError)
            if absent and not required and (not unreached or self._known_absent(hub, name)):
                return None
            raise self._explain(error, errors, name) from error

    def _known_absent(self, hub: ModuleType, name: str) -> bool:
        """Whether a file that is not in the cache is known or taken not to exist at all."""
        if _offline():  # the cache is all there is, as the user chose
            return True
        # What is noted as absent is neither a path nor None.
        noted = hub.try_to_load_from_cache(self.repo, name, revision=self.revision)
        return noted is not None and not isinstance(noted, str)

    def _explain(self, error: Exception, errors: Any, name: str) -> PhospheneError:
        page = f"https://huggingface.co/{self.repo}"
        at = f" at revision {self.revision!r}" if self.revision else ""
        said = str(error).strip().splitlines()[0] if str(error).strip() else ""
        found: str = f"{type(error).__name__}: {said}"
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.HFValidationError):
            return DataError(f"{self.repo!r} is neither a folder here nor a hub id", found=found,
                             expected="a folder with config.json, or an id such as "
                             "openai/clip-vit-base-patch32")  # fmt: skip
        if isinstance(error, errors.GatedRepoError) or status == 403:
            return DataError(
                f"the model {self.repo!r} is gated: the hub gives it only to those who accepted "
                "its terms",
                found=found,
                fix=f"accept them at {page}, then log in with `hf auth login`",
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return DataError(
                f"the model {self.repo!r} has no revision {self.revision!r}",
                found=found,
                expected="a branch, tag or commit of the model",
                fix=f"see {page}/commits/main",
            )
        if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
            return DataError(
                f"there is no folder {self.repo!r} here and no public model of this name on the "
                "hub",
                found=found,
                fix="check the spelling; for a private model log in with `hf auth login`",
            )
        if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
            why = "HF_HUB_OFFLINE is set" if _offline() else "the hub cannot be reached"
            return DataError(
                f"{name} of the model {self.repo!r}{at} is not in the local cache, and {why}",
                found=found,
                fix=OFFLINE_FIX.format(repo=self.repo),
            )
        if isinstance(error, errors.EntryNotFoundError):
            return DataError(f"the model {self.repo!r}{at} has no file {name}", found=found,
                             expected="a model in the layout of transformers")  # fmt: skip
        return DataError(f"{name} of the model {self.repo!r}{at} could not be downloaded",
                         found=found, fix=OFFLINE_FIX.format(repo=self.repo))  # fmt: skip


def _offline() -> bool:
    return bool(require("huggingface_hub.constants", "hf").HF_HUB_OFFLINE)
