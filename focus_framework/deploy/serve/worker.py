"""The one thread that uses a model: images wait for it in a line, and go through the network in batches of what waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...inference.model import Model
from ...inference.result import Result

T = TypeVar("T")


@dataclass
class Job:
    """An image that waits, and what becomes of it."""

    image: NDArray[np.uint8]
    work: Callable[[Model, NDArray[np.uint8]], Any] | None = None
    """What is done with it by itself; without, it is predicted together with others."""
    result: Future[Any] = field(default_factory=Future)

    @property
    def pixels(self) -> int:
        return self.image.shape[0] * self.image.shape[1]


class Worker:
    """One thread a model, always the same: OpenMP keeps a team of threads, and its memory, for each thread that computes.

    `on_batch` is told how many images went through together, and the seconds.
    """

    def __init__(self, model: Model, *, name: str, batch: int, pixels: int, on_batch: Callable[[int, float], None]) -> None:
        self.model, self.batch, self.pixels, self.on_batch = model, batch, pixels, on_batch
        self.pace = 1.0
        """Seconds of an image, lately."""
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._since: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"model {name}", daemon=True)
        self._thread.start()

    def submit(self, image: NDArray[np.uint8]) -> Future[Result]:
        """Let an image `[H, W, 3]` wait for its turn; a future that is cancelled before loses it."""
        return self._wait(Job(image))

    def apply(self, work: Callable[[Model, NDArray[np.uint8]], T], image: NDArray[np.uint8]) -> Future[T]:
        """The same for something else that is done with the model and an image."""
        return self._wait(Job(image, work))

    def _wait(self, job: Job) -> Future[Any]:
        with self._changed:
            if self._closed:
                raise RuntimeError("this model has been put away")
            self._waiting.append(job)
            self._changed.notify()
        return job.result

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def stuck(self, seconds: float) -> bool:
        """Whether the thread has ended, or has been at one batch for longer than that."""
        since = self._since
        return not self._thread.is_alive() or (since is not None and time.monotonic() - since > seconds)

    def close(self) -> None:
        """Finish what waits and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next():
            self._since = begin = time.monotonic()
            self._do(jobs)
            seconds = time.monotonic() - begin
            self._since = None
            if jobs[0].work is None:
                self.pace += 0.2 * (seconds / len(jobs) - self.pace)
                self.on_batch(len(jobs), seconds)

    def _next(self) -> list[Job]:
        """As many as wait, no more than a batch or the pixels of one; none at the end."""
        with self._changed:
            while True:
                jobs: list[Job] = []
                while self._waiting and len(jobs) < self.batch:
                    if jobs and (
                        jobs[0].work or self._waiting[0].work or sum(job.pixels for job in [*jobs, self._waiting[0]]) > self.pixels
                    ):
                        break
                    job = self._waiting.popleft()
                    if job.result.set_running_or_notify_cancel():
                        jobs.append(job)
                if jobs or self._closed:
                    return jobs
                self._changed.wait()

    def _do(self, jobs: list[Job]) -> None:
        work = jobs[0].work
        try:
            if work is not None:
                results = [work(self.model, jobs[0].image)]
            else:
                results = self.model.predict([job.image for job in jobs], batch_size=self.batch)
        except BaseException as error:  # whatever it is, those who wait must be told, and the next ones served
            if len(jobs) == 1:
                jobs[0].result.set_exception(error)
                return
            for job in jobs:  # one of them is at fault, the others are not
                self._do([job])
            return
        for job, result in zip(jobs, results, strict=True):
            job.result.set_result(result)
