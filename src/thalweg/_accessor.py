"""Registration of the accessor `.thalweg` by `import thalweg`, without an import of xarray."""

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
    """Register the accessor now if xarray is imported, otherwise as soon as it is imported."""
    present = sys.modules.get("xarray")
    if present is not None and hasattr(present, "register_dataset_accessor"):
        _register(present)
    else:
        sys.meta_path.insert(0, _XarrayFinder())


def _register(xarray: ModuleType) -> None:
    """Register the accessor; its module, which imports torch, is imported when the accessor is first used."""
    if hasattr(xarray.Dataset, "thalweg"):  # this module is imported for the second time
        return

    @xarray.register_dataset_accessor("thalweg")
    def embeddings(dataset: "xr.Dataset") -> "Embeddings":
        from thalweg.earth.accessor import Embeddings

        return Embeddings(dataset)


class _XarrayFinder(MetaPathFinder):
    """Finder that delegates to the other finders, and registers the accessor once xarray is imported."""

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
    """Loader that runs the module's own loader, restores it as the module's loader, and registers the accessor."""

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
