"""From an upload to a result: what may run at once, and where it waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import FocusError
from ...inference.explain import Explanation, explain
from ...inference.result import Result
from ...plugin.interfaces import PromptJudge
from .collection import Collection
from .counts import Counts
from .gate import State
from .models import Served
from .refusals import RefusedError, busy, one_line
from .settings import Limits
from .uploads import Upload, decode, pixels_of
from .worker import Worker

logger = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")


class PixelBudget:
    """How many pixels may be decoded at once; images wait for room in the order in which they came."""

    def __init__(self, pixels: int) -> None:
        self.free = pixels
        self._turn = asyncio.Lock()  # is passed on in order
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def room(self, pixels: int) -> AsyncIterator[None]:
        """Wait until so many fit, and hold them; no more than the whole budget."""
        async with self._turn:
            while pixels > self.free:
                self._freed.clear()
                await self._freed.wait()
            self.free -= pixels
        try:
            yield
        finally:
            self.free += pixels
            self._freed.set()


class Service:
    """Models, their workers, and the bounds of what waits for them."""

    def __init__(
        self, models: Sequence[Served], limits: Limits, collection: Collection | None = None, judge: PromptJudge | None = None
    ) -> None:
        self.models, self.limits, self.collection, self.judge = list(models), limits, collection, judge
        self.state, self.counts = State(), Counts()
        self._workers = {
            served.name: Worker(
                served.model,
                name=served.name,
                batch=limits.batch,
                pixels=limits.pixels,
                on_batch=partial(self.counts.batch, served.name),
            )
            for served in self.models
        }
        self._pool = ThreadPoolExecutor(2, "decoder")  # as many as keep a network busy; each may hold a whole image
        self._judges = ThreadPoolExecutor(1, "judge")  # as a model, it is used by one thread
        self._budget = PixelBudget(limits.pixels_at_once)
        self._bodies = self._requests = 0
        self.counts.watch("focus_requests_waiting", "Requests that are being answered", lambda: self._requests)
        self.counts.watch("focus_images_waiting", "Images that wait for a model", lambda: sum(w.waiting for w in self._workers.values()))

    @property
    def ready(self) -> bool:
        """Whether requests are taken, and every model answers in time."""
        return not self.state.ending and not any(worker.stuck(self.limits.seconds) for worker in self._workers.values())

    @contextmanager
    def admitted(self, size: int | None) -> Iterator[None]:
        """Hold a place in the line for a request with a body of `size` bytes, before anything of it is read. Raises `RefusedError`."""
        held = self.limits.body if size is None else size
        if self._requests >= self.limits.waiting or (self._requests and self._bodies + held > self.limits.bodies):
            pace = max(worker.pace for worker in self._workers.values())
            raise busy(f"{self._requests} requests are waiting already; try again later", pace * self._requests)
        self._requests, self._bodies = self._requests + 1, self._bodies + held
        try:
            yield
        finally:
            self._requests, self._bodies = self._requests - 1, self._bodies - held

    async def apart(self, work: Callable[..., T], *given: Any) -> T:
        """Do something that takes a while in a thread of the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)

    async def predict(self, upload: Upload, served: Served, threshold: float | None, finish: Callable[[Result], T]) -> T:
        """What `finish` makes of the prediction, done in a thread. Raises `RefusedError`."""

        def finished(result: Result) -> T:
            return finish(result if threshold is None else replace(result, threshold=threshold))

        return await self._answered(upload, served, self._workers[served.name].submit, finished)

    async def explain(self, upload: Upload, served: Served, finish: Callable[[Explanation], T]) -> T:
        """What `finish` makes of what the model sees on its way to the mask. Raises `RefusedError`."""
        return await self._answered(upload, served, partial(self._workers[served.name].apply, explain), finish)

    async def _answered(
        self, upload: Upload, served: Served, work: Callable[[NDArray[np.uint8]], Future[R]], finish: Callable[[R], T]
    ) -> T:
        pixels = await self.apart(pixels_of, upload, self.limits)
        async with self._budget.room(pixels):
            image = await self.apart(decode, upload, self.limits)
            try:
                result = await asyncio.wrap_future(work(image))
            except FocusError as error:  # the image was read: what is wrong now is ours
                logger.error("%s cannot predict: %s", served.name, error)
                raise RefusedError(503, f"{served.name} cannot predict this image: {one_line(str(error))}") from None
            return await self.apart(finish, result)

    async def read(self, upload: Upload, finish: Callable[[Any], T]) -> T:
        """What `finish` makes of the decoded image `[H, W, 3]`. Raises `RefusedError`."""
        pixels = await self.apart(pixels_of, upload, self.limits)
        async with self._budget.room(pixels):
            return await self.apart(lambda: finish(decode(upload, self.limits)))

    async def judged(self, upload: Upload, work: Callable[[NDArray[np.uint8]], T]) -> T:
        """What comes of work that compares prompts on a decoded image `[H, W, 3]`. Raises `RefusedError`."""
        pixels = await self.apart(pixels_of, upload, self.limits)
        async with self._budget.room(pixels):
            image = await self.apart(decode, upload, self.limits)
            return await asyncio.get_running_loop().run_in_executor(self._judges, work, image)

    def close(self) -> None:
        """Finish what waits and end all threads."""
        self._judges.shutdown()
        for worker in self._workers.values():
            worker.close()
        self._pool.shutdown()
