"""Tensors that are read when they are asked for, their shapes and dtypes known before."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor


class LazyTensors(Mapping[str, Tensor]):
    """`meta` has every tensor on the meta device; indexing reads one of them, each time anew.

    What is derived is lazy too, and the same function runs on `meta` as on the numbers, so that
    shapes and dtypes are right without a file being read.
    """

    def __init__(self, meta: Mapping[str, Tensor], read: Callable[[str], Tensor]):
        self.meta = dict(meta)
        self._read = read

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.meta:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self.meta

    def __iter__(self) -> Iterator[str]:
        return iter(self.meta)

    def __len__(self) -> int:
        return len(self.meta)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.meta.items()}

    def derive(
        self, names: Iterable[str], make: Callable[[Mapping[str, Tensor], str], Tensor]
    ) -> "LazyTensors":
        """Tensors under `names`, each made from these ones by `make(these, name)`."""
        meta = {name: make(self.meta, name) for name in names}
        return LazyTensors(meta, lambda name: make(self, name))

    def renamed(self, names: Mapping[str, str]) -> "LazyTensors":
        """The tensors that `names` maps to, under the names it maps from."""
        return self.derive(names, lambda tensors, name: tensors[names[name]])


def meta_of(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Something with the shape and dtype of every tensor, at no cost."""
    return tensors.meta if isinstance(tensors, LazyTensors) else tensors
