"""A server for the page, on this machine alone unless told otherwise."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
from typing import Any

from ..errors import InputError
from .contents import Contents
from .panel import Panel

__all__ = ["close_page", "open_page", "start_server"]

#: Ports that are tried, one after the other, where none is asked for.
PORTS = range(8080, 8100)


def start_server(host: str, port: int | None) -> Any:
    """A viser server.

    Args:
        host: Address it listens on.
        port: Port, or the first that is free of `PORTS` if None.

    Raises:
        InputError: viser is not installed, or the port is taken.
    """
    try:
        import viser
    except ImportError:
        raise InputError(
            'the viewer needs the package viser: pip install "memonf[viewer]"'
        ) from None
    if port is not None and not 0 < port < 65536:
        raise InputError(f"--port: expected 1 to 65535, received {port}")
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    for candidate in PORTS if port is None else (port,):
        if is_free(host, candidate):
            with unheard():
                server = viser.ViserServer(
                    host=host, port=candidate, label="MeMo NF", verbose=False
                )
            keep_inside(server)
            return server
    asked = f"ports {PORTS[0]} to {PORTS[-1]} are" if port is None else f"port {port} is"
    raise InputError(f"--port: {asked} taken or not to be had on {host}; name a free one")


def unheard() -> contextlib.AbstractContextManager[Any]:
    """Keep what viser prints from where scripts read JSON."""
    return contextlib.redirect_stdout(io.StringIO())


def close_page(panel: Panel) -> None:
    """Stop the server, and wait for what is being painted: a thread that ends with Python aborts.

    Args:
        panel: What `open_page` gave.
    """
    painters = [page.painter for page in list(panel.pages.values())]
    for painter in painters:
        painter.stop()
    for painter in painters:
        painter.join()
    panel.gallery.workshop.shutdown(cancel_futures=True)
    with unheard():
        panel.server.stop()


def keep_inside(server: Any) -> None:
    """Take away the button that shares a page through a server outside, and what it does."""
    server.gui.configure_theme(show_share_button=False, show_logo=False)
    server.request_share_url = lambda *args, **kwargs: None


def is_free(host: str, port: int) -> bool:
    """Whether a server may listen there."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError:
            return False
    return True


def open_page(contents: Contents, *, host: str, port: int | None, size: int) -> tuple[Panel, str]:
    """Serve a page; the panel, and the address at which a browser finds it."""
    server = start_server(host, port)
    panel = Panel(server, contents, size)
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::") else host
    return panel, f"http://{shown}:{server.get_port()}"
