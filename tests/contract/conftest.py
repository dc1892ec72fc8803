"""Asserts of the contract suite tell what they compared, as those of tests do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("consumer.testing.contract")
