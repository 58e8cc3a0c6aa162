"""Blocking calls of the backend, in threads that never keep the program from ending."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from appliance.kernel.errors import InternalError, IntramurosError

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Return what the call returns. Raises IntramurosError only: this is the wizard's border to the installer."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return  # the screen that asked is gone
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # None only where T is None
        else:
            future.set_exception(error)

    def run() -> None:
        try:
            result = call()
        except IntramurosError as error:
            tell(loop, partial(settle, None, error))
        except Exception as error:  # noqa: BLE001  the border: a defect shows as one line instead of a dead thread
            defect = InternalError("wizard.defect", f"{type(error).__name__} in the installer: {error}")
            tell(loop, partial(settle, None, defect))
        else:
            tell(loop, partial(settle, result, None))

    threading.Thread(target=run, daemon=True).start()
    return await future


def tell(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> bool:
    """Run a call on the event loop from another thread; False when the program has ended meanwhile."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the loop is closed: nobody is left to tell
        return False
    return True
