"""`Batch` and `Item`: what a handler with `batch=N` is called with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar, get_args, get_origin, overload

from consumer.declare.context import Context
from consumer.errors import Reject, Retry

__all__ = ["Batch", "Item", "item_type"]

T = TypeVar("T")


class Item(Generic[T]):
    """One message of a batch. Unmarked, it is done when the handler returns.

    Args:
        payload: the decoded message.
        ctx: of this message's attempt: its key, its `publish`.

    Attributes:
        payload: the decoded message.
        ctx: of this message's attempt.
    """

    __slots__ = ("ctx", "mark", "payload")

    def __init__(self, payload: T, ctx: Context) -> None:
        self.payload = payload
        self.ctx = ctx
        self.mark: Retry | Reject | None = None

    def retry(self, reason: str = "", *, after: float | timedelta | None = None) -> None:
        """Say that nothing was done for this item, and that it is to be tried again later; as raising `Retry`.

        In a Transactional handler, say so before anything is written for the item: what the batch has written commits.
        """
        self.mark = Retry(reason, after=after)

    def reject(self, reason: str) -> None:
        """Say that nothing was done for this item, and that nothing ever can be; as raising `Reject`."""
        self.mark = Reject(reason)


class Batch(Sequence[Item[T]]):
    """The items of one call, in order; at most `batch=N` of them, often fewer.

    An exception of the handler is every item's, as its mode says.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Sequence[Item[T]]) -> None:
        self._items = tuple(items)

    @overload
    def __getitem__(self, index: int) -> Item[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item[T]]: ...
    def __getitem__(self, index: int | slice) -> Item[T] | Sequence[Item[T]]:
        """Return one item, or a sequence of some."""
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item[T]]:
        return iter(self._items)


def item_type(annotation: Any) -> Any:
    """Return `Click` of `Batch[Click]`; `None` where the annotation is no batch."""
    if annotation is Batch:
        return Any
    if get_origin(annotation) is Batch:
        [kind] = get_args(annotation)
        return kind
    return None
