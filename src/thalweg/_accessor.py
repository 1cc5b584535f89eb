"""`.thalweg` on xarray datasets from `import thalweg` on, without importing xarray for it."""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.accessor import Embeddings


def install() -> None:
    """Give datasets the accessor now where xarray is imported, else as soon as it is."""
    present = sys.modules.get("xarray")
    if present is not None and hasattr(present, "register_dataset_accessor"):
        _register(present)
    else:
        sys.meta_path.insert(0, _XarrayFinder())


def _register(xarray: ModuleType) -> None:
    """Register the accessor; its own module, which is heavy, is imported when a dataset is first asked for it."""
    if hasattr(xarray.Dataset, "thalweg"):  # this module was imported again
        return

    @xarray.register_dataset_accessor("thalweg")
    def embeddings(dataset: "xr.Dataset") -> "Embeddings":
        from thalweg.earth.accessor import Embeddings

        return Embeddings(dataset)


class _XarrayFinder(MetaPathFinder):
    """Finds xarray as the other finders do, and registers the accessor once it is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "xarray":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for finder in others if (found := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _XarrayLoader(self, spec.loader)
        return spec


class _XarrayLoader(Loader):
    """Runs xarray's own loader, gives the module back to it, and registers the accessor."""

    def __init__(self, finder: _XarrayFinder, loader: Any) -> None:
        self._finder, self._loader = finder, loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        _register(module)
