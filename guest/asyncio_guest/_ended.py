"""How a guest, or a call made for it, ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import outcome


class Ended(NamedTuple):
    """A value or an error.

    What the public sees is an `outcome.Outcome`: the import of that library takes nearly as long as asyncio's, which
    who only calls `run` need not wait for.
    """

    value: Any = None
    error: BaseException | None = None

    def outcome(self) -> outcome.Outcome[Any]:
        """The same as the library's type."""
        import outcome

        return outcome.Value(self.value) if self.error is None else outcome.Error(self.error)

    def unwrap(self) -> Any:
        """The value; raises the error."""
        if self.error is None:
            return self.value
        try:
            raise self.error
        finally:
            del self  # no cycle of the error, its traceback and this frame


def capture(fn: Callable[..., Any], *args: Any) -> Ended:
    """Call `fn` and keep how that ended."""
    try:
        return Ended(fn(*args))
    except BaseException as exc:
        if exc.__traceback__ is not None:
            exc.__traceback__ = exc.__traceback__.tb_next  # without this frame
        return Ended(error=exc)
