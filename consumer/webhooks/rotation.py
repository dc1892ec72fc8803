"""Several secrets at once: while a provider changes from one to the next, both count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import msgspec

from consumer.errors import SettingsError
from consumer.settings import Secret
from consumer.webhooks.signers import Algorithm, SecretForm, Signer, signer

__all__ = ["Rotation", "SecretLike", "Secrets", "Until"]

REREAD = 10.0
"""Seconds after which secrets are read again, so that a rotated file counts without a restart."""

SHORTEST_OF_SEVERAL = 8
"""Characters. A secret that itself holds blanks would fall apart into words that anybody guesses."""


class Until(msgspec.Struct, frozen=True):
    """A secret that counts until a moment: `Until(Secret.env("OLD"), datetime(2026, 12, 1, tzinfo=UTC))`.

    Attributes:
        secret: the old one.
        at: the first moment at which it is refused; with a time zone.
    """

    secret: Secret
    at: datetime


SecretLike = Secret | Until | Callable[[], str | Sequence[str]]
"""Where a secret is. A text may hold several, separated by blanks; a sequence of texts is taken as it is."""

Secrets = SecretLike | Sequence[SecretLike]
"""What `secret=` takes."""


class Rotation:
    """The secrets of one provider.

    Args:
        given: where they are. A callable is asked again now and then; it must be quick.
        form: how they are written.
        algorithm: what they sign with.

    Raises:
        SettingsError: there is none, or one has no time zone.
    """

    def __init__(self, given: Secrets, form: SecretForm, algorithm: Algorithm) -> None:
        self._given: tuple[SecretLike, ...] = tuple(given) if isinstance(given, Sequence) else (given,)
        self._form = form
        self._algorithm = algorithm
        self._signers: list[tuple[int, float | None, Signer]] = []
        self._read_at: float | None = None
        if not self._given:
            raise SettingsError("secret=[]: at least one secret is needed; nothing is accepted unsigned")
        for each in self._given:
            if not isinstance(each, Secret | Until) and not callable(each):
                raise SettingsError(
                    f"secret: {type(each).__name__} is no secret; write Secret.env(…) or Secret.file(…)"
                )
            if isinstance(each, Until) and each.at.tzinfo is None:
                raise SettingsError(
                    f"secret: Until({each.secret.name}) has no time zone; write tzinfo=UTC or another"
                )

    def read(self) -> None:
        """Read all secrets now.

        Raises:
            SettingsError: one is missing, empty or malformed; the text says which and shows nothing of it.
        """
        found: list[tuple[int, float | None, Signer]] = []
        for each in self._given:
            for text in _texts(each):
                try:
                    made = signer(text, self._form, self._algorithm)
                except SettingsError as fault:
                    raise SettingsError(f"secret: {_shown(each)}: {fault}") from None
                found.append((len(found), each.at.timestamp() if isinstance(each, Until) else None, made))
        self._signers = found

    def current(self, now: float) -> list[tuple[int, Signer]]:
        """Return those that count now, with their positions among all.

        Args:
            now: seconds since 1970.

        Raises:
            SettingsError: one cannot be read, or all have expired.
        """
        if self._read_at is None or not 0 <= now - self._read_at < REREAD:
            self.read()
            self._read_at = now
        living = [(index, each) for index, until, each in self._signers if until is None or now < until]
        if not living:
            raise SettingsError("secret: every secret of this provider has expired; give a new one")
        return living

    def at(self, index: int) -> Signer:
        """Return the secret at a position that `current` has named."""
        return self._signers[index][2]


def _texts(source: SecretLike) -> Iterator[str]:
    if isinstance(source, Until):
        source = source.secret
    value = source.read() if isinstance(source, Secret) else source()
    parts = value.split() if isinstance(value, str) else list(value)
    if not parts or not all(parts):
        raise SettingsError(f"secret: {_shown(source)} is empty; nothing is accepted unsigned")
    if isinstance(value, str) and len(parts) > 1 and min(map(len, parts)) < SHORTEST_OF_SEVERAL:
        raise SettingsError(
            f"secret: {_shown(source)} holds several secrets separated by blanks, one of them shorter than "
            f"{SHORTEST_OF_SEVERAL} characters; if the blanks belong to one secret, give a function that returns it in a list"
        )
    yield from parts


def _shown(source: SecretLike) -> str:
    if isinstance(source, Until):
        source = source.secret
    return source.name if isinstance(source, Secret) else getattr(source, "__qualname__", "the callable")
