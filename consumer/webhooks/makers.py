"""How a row becomes a provider: `Stripe(secret=Secret.env("STRIPE_WEBHOOK_SECRET"))`."""

from __future__ import annotations

import math

from consumer.errors import SettingsError
from consumer.webhooks.rotation import Rotation, Secrets
from consumer.webhooks.row import Row
from consumer.webhooks.signed import TOLERANCE, Answering, SignedProvider, no_answer
from consumer.webhooks.urls import checked_url

__all__ = ["ByUrl", "Maker", "checked_tolerance"]


class Maker:
    """Makes providers of one row.

    Args:
        row: what they do.
        answering: their signed handshake.
    """

    def __init__(self, row: Row, answering: Answering = no_answer) -> None:
        self.row = row
        self._answering = answering
        self.__doc__ = f"{row.title}: {row.note}"

    def __repr__(self) -> str:
        return f"<webhooks of {self.row.title}>"

    def __call__(
        self, *, secret: Secrets, tolerance: float = TOLERANCE, guard: bool = True
    ) -> SignedProvider:
        """Return the provider.

        Args:
            secret: one, or several that all count: `Secret.env`, `Secret.file`, `Until`, a callable, or a list of these.
            tolerance: seconds that a timestamp may lie off, past or future.
            guard: tell replays apart by a digest of the body where the event's id is not signed. Off: for sources whose
                bodies may repeat honestly; a captured delivery then runs again under every new id.

        Raises:
            SettingsError: there is no secret, or the tolerance is none.
        """
        return SignedProvider(
            row=self.row,
            rotation=Rotation(secret, self.row.secret, self.row.algorithm),
            tolerance=checked_tolerance(tolerance),
            guarded=guard,
            answering=self._answering,
        )


class ByUrl:
    """Makes providers of one row whose signature covers the endpoint's address.

    Args:
        row: what they do.
    """

    def __init__(self, row: Row) -> None:
        self.row = row
        self.__doc__ = f"{row.title}: {row.note}"

    def __repr__(self) -> str:
        return f"<webhooks of {self.row.title}>"

    def __call__(self, *, secret: Secrets, url: str, tolerance: float = TOLERANCE) -> SignedProvider:
        """Return the provider.

        Args:
            secret: see `Maker`.
            url: the public address as it is registered with the provider; the request's `Host` is never believed.
            tolerance: seconds that a timestamp may lie off, past or future.

        Raises:
            SettingsError: there is no secret, the URL is none, or the tolerance is none.
        """
        return SignedProvider(
            row=self.row,
            rotation=Rotation(secret, self.row.secret, self.row.algorithm),
            url=checked_url(url, self.row.title),
            tolerance=checked_tolerance(tolerance),
        )


def checked_tolerance(seconds: float) -> float:
    """Return the tolerance, once it is positive and finite: there is no way to turn the check off.

    Raises:
        SettingsError: it is not.
    """
    if not (0 < seconds < math.inf):
        raise SettingsError(
            f"tolerance={seconds!r}: seconds above 0 are expected; the check cannot be turned off"
        )
    return seconds
