"""The board's HTTP server."""

from __future__ import annotations

import os
import socket

import uvicorn

from sead_ray.config import BoardConfig
from sead_ray.errors import InputError
from sead_ray.stages.progress import say
from serve.board.app import build_board


def run_board(config: BoardConfig) -> None:
    """Serves until it is interrupted.

    Raises:
        InputError: the address is taken or not this machine's, a certificate is missing, or as `build_board`.
    """
    app = build_board(config)
    for path in (config.tls_cert, config.tls_key):
        if path is not None and not os.path.isfile(path):
            raise InputError(f"{path} does not exist: tls_cert and tls_key name PEM files.")
    with _listening(config) as listener:
        scheme, port = "https" if config.tls_cert else "http", listener.getsockname()[1]
        host = f"[{config.host}]" if ":" in config.host else config.host
        say(f"The board is at {scheme}://{host}:{port}/ (Ctrl-C ends it)")
        settings = uvicorn.Config(
            app, log_level="warning", ssl_certfile=config.tls_cert, ssl_keyfile=config.tls_key, server_header=False
        )
        uvicorn.Server(settings).run(sockets=[listener])


def _listening(config: BoardConfig) -> socket.socket:
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        raise InputError(f"Cannot listen at {config.host}:{config.port}: {error.strerror or error}.") from None
