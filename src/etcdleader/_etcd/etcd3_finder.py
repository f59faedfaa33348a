"""Makes etcd3 importable under every protobuf.

etcd3's generated code is refused by protobuf 4 and later, and it registers file names without a folder (``rpc.proto``)
in the pool that all packages share, where it meets others of the same name. So its message classes are rebuilt from
the serialized descriptors that the installed package carries, in a pool of their own, and published under the names
that etcd3 imports. Nothing of the installed package is run for that, and nothing is changed on the disk.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("install", "messages")

_PACKAGE = "etcd3.etcdrpc"
# In this order: each is built after those that it imports.
_FILES = ("kv", "auth", "rpc")
_NAMES = {f"{_PACKAGE}.{name}_pb2": f"{name}.proto" for name in _FILES}

_pool: Any = None
_factory: Any = None
_messages: Any = None


def install() -> None:
    """Stand ready for the first ``import etcd3``. Where a working one was imported already, that one is used."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def messages() -> Any:
    """etcd3's message classes, by their names; its client is not loaded for that.

    They are the very classes that ``import etcd3`` brings, whichever of the two comes first.

    Raises:
        ImportError: etcd3 is not installed, or it is not 0.12.
    """
    global _messages  # noqa: PLW0603 - as below
    if sys.modules.get(_PACKAGE) is not None:
        return import_module(_PACKAGE)  # waits for another thread that is importing it
    if _messages is None:
        found = PathFinder.find_spec("etcd3")
        if found is None or not found.submodule_search_locations:
            raise ImportError("etcd3 is not installed, whose messages are used", name="etcd3")
        from pathlib import Path

        pool = _filled_pool(str(Path(found.submodule_search_locations[0], "etcdrpc", "rpc_pb2.py")))
        made = ModuleType(_PACKAGE)  # not published: whoever imports etcd3 gets its own package, with these classes
        for name in _NAMES.values():
            _publish(made, pool.FindFileByName(name), pool)
        _messages = made  # whole: another thread may ask for it meanwhile
    return _messages


# Neither has a base of importlib.abc, and nothing here is a Path: these take longer to import than all of this.
class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del target
        if fullname not in _NAMES:
            return None
        found = PathFinder.find_spec(fullname, path)
        if found is None or found.origin is None:
            return None
        return ModuleSpec(fullname, cast("Any", _Loader(found.origin)), origin=found.origin)


class _Loader:
    def __init__(self, generated: str) -> None:
        self._generated = generated

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        del spec
        return None

    def exec_module(self, module: ModuleType) -> None:
        pool = _filled_pool(self._generated)
        _publish(module, pool.FindFileByName(_NAMES[module.__name__]), pool)


def _filled_pool(generated: str) -> Any:
    global _pool  # noqa: PLW0603 - descriptors of one pool know each other, so there is one for all three modules
    if _pool is None:
        from pathlib import Path

        from google.protobuf.descriptor_pool import DescriptorPool

        folder = Path(generated).parent

        pool = DescriptorPool()
        for name in _FILES:
            pool.AddSerializedFile(_serialized(folder / f"{name}_pb2.py"))
        _pool = pool
    return _pool


def _serialized(generated: Path) -> bytes:
    """The serialized descriptor, as the generated code spells it: ``serialized_pb=_b('...')``, in Latin-1."""
    import ast
    import re

    # One literal out of many thousand lines: to parse them all takes longer than all else here.
    found = re.search(
        r"""\bserialized_pb=(?:_b\()?(b?(['"])(?:\\.|(?!\2).)*\2)""", generated.read_text(encoding="utf-8")
    )
    if found is None:
        raise ImportError(f"{generated} has no serialized descriptor: is this etcd3 0.12?")
    value = ast.literal_eval(found[1])
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def _publish(module: ModuleType, file: Any, pool: Any) -> None:
    """Give ``module`` what the generated code would have: messages, enums and their values."""
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

    names = vars(module)
    names["DESCRIPTOR"] = file
    for name, descriptor in file.message_types_by_name.items():
        names[name] = _message_class(descriptor, pool)
    for name, descriptor in file.enum_types_by_name.items():
        names[name] = EnumTypeWrapper(descriptor)
        names.update({value.name: value.number for value in descriptor.values})


def _message_class(descriptor: Any, pool: Any) -> Any:
    from google.protobuf import message_factory

    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    global _factory  # noqa: PLW0603 - the classes of one factory are made once
    if _factory is None:
        _factory = message_factory.MessageFactory(pool)
    return _factory.GetPrototype(descriptor)  # protobuf 3.20
