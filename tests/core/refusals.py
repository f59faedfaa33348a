"""The problems of a configuration that is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from etcdleader.errors import ConfigError

SECRET = "hunter2"


def problems(make: Callable[..., object], *args: object, **kwargs: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        make(*args, **kwargs)
    assert SECRET not in str(caught.value) + repr(caught.value) + repr(caught.value.args)
    return caught.value.problems
