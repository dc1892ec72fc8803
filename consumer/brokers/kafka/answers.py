"""What became of each message of one `publish` call, and which must wait for an earlier one of their order."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.message import Outgoing
from consumer.ports.transport import HELD_BACK, Published

__all__ = ["Answers"]

_PUBLISHED = Published()


class Answers:
    """The answers to one call, in the order of its messages."""

    def __init__(self, messages: Sequence[tuple[int | None, Outgoing]]) -> None:
        self.messages = messages
        self._answers: list[Published | None] = [None] * len(messages)
        self._blocked: set[tuple[str, str]] = set()

    def waiting(self) -> list[int]:
        """Return the places of the messages without an answer, in order."""
        return [place for place, answer in enumerate(self._answers) if answer is None]

    def published(self, place: int) -> None:
        """Say that the sink has acknowledged this message."""
        self._answers[place] = _PUBLISHED

    def refuse(self, place: int, reason: str) -> None:
        """Say that the sink refuses this message for good; later ones of its ordering key are held back."""
        outgoing = self.messages[place][1]
        self._answers[place] = Published(refused=reason)
        if outgoing.ordering_key is not None:
            self._blocked.add((outgoing.topic, outgoing.ordering_key))

    def held_back(self, place: int) -> bool:
        """Return whether an earlier message of the same order was refused; if so, that is this one's answer."""
        outgoing = self.messages[place][1]
        if not self._blocked or outgoing.ordering_key is None:
            return False
        if (outgoing.topic, outgoing.ordering_key) not in self._blocked:
            return False
        self._answers[place] = Published(refused=HELD_BACK)
        return True

    def all(self) -> list[Published]:
        """Return every answer.

        Raises:
            RuntimeError: one is missing.
        """
        if None in self._answers:
            raise RuntimeError("a message has no answer")
        return [answer for answer in self._answers if answer is not None]
