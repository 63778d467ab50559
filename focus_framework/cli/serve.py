"""``focus serve``: a page and an HTTP service for models that are loaded once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from .common import complete_plugins, finite, json_option, note, prediction_options, print_json

NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


@click.command()
@click.argument("checkpoints", metavar="[CHECKPOINT...]", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on. Others than this machine need a token.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0: any that is free.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option(
    "--collect",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write the pairs that people correct and save on the page.",
)
@click.option(
    "--refiner", metavar="NAME", shell_complete=complete_plugins("refiner"), help="Try prompts on the page by it; clip if not given."
)
@click.option("--clip-model", metavar="NAME", help="Try prompts on the page by this model of open_clip, e.g. ViT-B-16.")
@click.option("--clip-weights", metavar="FILE|TAG|random", help="Its weights; any of these three options turns prompts on.")
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Only who sends the token in FILE is answered; the variable FOCUS_SERVE_TOKEN does the same.",
)
@click.option("--no-auth", is_flag=True, help="Answer everybody, though --host lets other machines in.")
@click.option("--allow-host", "hosts", metavar="NAME", multiple=True, help="A name of this service besides localhost and addresses.")
@click.option("--allow-origin", "origins", metavar="ORIGIN", multiple=True, help="Let scripts of another page call, e.g. https://name.")
@click.option("--max-body", default=32, show_default=True, type=click.IntRange(1, 2048), help="MiB of a request.")
@click.option(
    "--max-pixels", default=32.0, show_default=True, type=click.FloatRange(0.01, 1000), callback=finite, help="Million pixels of an image."
)
@click.option("--max-images", default=16, show_default=True, type=click.IntRange(1, 1000), help="Images of a request.")
@click.option("--max-waiting", default=32, show_default=True, type=click.IntRange(1, 10000), help="Requests at once; then 429.")
@click.option(
    "--max-seconds", default=60.0, show_default=True, type=click.FloatRange(0.1, 3600), callback=finite, help="Time of a request."
)
@click.option(
    "--batch-size", default=8, show_default=True, type=click.IntRange(1, 4096), help="Waiting images that are predicted together."
)
@click.option(
    "--stop-after", metavar="SECONDS", type=click.FloatRange(0, 1e9), callback=finite, help="End by itself after so long; for trials."
)
@prediction_options
@json_option
def serve(
    checkpoints: tuple[str, ...],
    host: str,
    port: int,
    device: str,
    collect: Path | None,
    refiner: str | None,
    clip_model: str | None,
    clip_weights: str | None,
    token_file: Path | None,
    no_auth: bool,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    max_body: int,
    max_pixels: float,
    max_images: int,
    max_waiting: int,
    max_seconds: float,
    batch_size: int,
    stop_after: float | None,
    prediction: dict[str, Any],
    as_json: bool,
) -> None:
    """Answer with masks over HTTP, and show a page for people. Needs the extra serve: pip install 'focus-framework[serve]'.

    CHECKPOINT is a .safetensors file, a released .pth, hf://owner/name, or a known name; several are served side by side. Without any,
    the first installed checkpoint of each task is. Nothing that is sent is kept, unless --collect says so. SIGTERM and Ctrl-C end it
    when what it has taken is answered.

    Example: focus serve run/best.safetensors --collect corrected
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"focus serve needs {', '.join(missing)}; run: pip install 'focus-framework[serve]'")
    from ..deploy.serve.settings import MEBI, Limits, access_for, read_token

    access = access_for(host, read_token(token_file), no_auth=no_auth, hosts=hosts, origins=origins)
    limits = Limits(max_body * MEBI, round(max_pixels * 1e6), max_images, max_waiting, max_seconds, batch=batch_size)
    from ..deploy.serve import models, server
    from ..deploy.serve.collection import collecting
    from ..deploy.serve.judging import open_judge
    from ..deploy.serve.service import Service

    with server.listen(host, port) as bound, collecting(collect) as collection:
        references = checkpoints or models.installed()
        if not checkpoints:
            note(f"no checkpoint was named; serving what is installed: {', '.join(references)}")
        served = models.load_all(references, device=device, prediction=prediction, told=note)
        judge = open_judge(served, {"refiner": refiner, "clip_model": clip_model, "clip_weights": clip_weights}, device)
        url = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"

        def started() -> None:
            note(f"listening on {url}  (Ctrl-C ends)")
            if as_json:
                print_json({"url": url, "models": [{"name": each.name, "task": each.model.task} for each in served]})

        server.serve(Service(served, limits, collection, judge), access, bound, stop_after=stop_after, on_start=started)
    note("ended")
