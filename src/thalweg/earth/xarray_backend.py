"""Backend of xarray: `xarray.open_dataset(path, engine="thalweg")`."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from xarray.backends import BackendEntrypoint

from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr


class ThalwegBackend(BackendEntrypoint):
    """Backend that opens what `thalweg.open` opens.

    It is chosen by name only (`engine="thalweg"`), so that other programs' Zarr stores, GeoTIFFs and tables keep the
    backends they had.
    """

    description = "Embedding stores of thalweg, AlphaEarth, TESSERA and GeoParquet tables of vectors"
    url = "https://arxiv.org/abs/2511.11706"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "year", "column")

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        year: int | None = None,
        column: str | None = None,
    ) -> "xr.Dataset":
        """Open embeddings lazily, dequantized.

        Args:
            filename_or_obj: path, as `thalweg.open` takes it.
            drop_variables: names of variables to leave out.
            year: as `thalweg.open` takes it.
            column: as `thalweg.open` takes it.

        Raises:
            MissingPathError: The path does not exist.
            UsageError: `filename_or_obj` is no path, or holds no embeddings of a known kind.
        """
        from thalweg.earth.foreign.opening import open_embeddings

        if not isinstance(filename_or_obj, str | os.PathLike):
            raise UsageError(f"{type(filename_or_obj).__name__}: expected the path of embeddings")
        dataset = open_embeddings(os.fspath(filename_or_obj), year, column)
        dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
        return dataset.drop_vars(dropped, errors="ignore")

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return False: the backend is chosen by name only."""
        return False
