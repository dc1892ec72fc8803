"""The endpoint's public address, where it is part of what is signed."""

from __future__ import annotations

from urllib.parse import urlsplit

from consumer.errors import SettingsError

__all__ = ["checked_url"]


def checked_url(url: str, who: str) -> str:
    """Return the address, once it is one.

    Args:
        url: as it is registered with the provider.
        who: the provider, for the text.

    Raises:
        SettingsError: it is no absolute http(s) URL in ASCII.
    """
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and url.isascii()
            and parts.port != 0
            and "#" not in url
        )
    except ValueError:
        good = False
    if not good or any(letter.isspace() for letter in url):
        raise SettingsError(
            f"{who}: url={url!r} is no absolute URL; give the public address that is registered there"
        )
    return url
