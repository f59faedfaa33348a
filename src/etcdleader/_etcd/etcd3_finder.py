"""Makes etcd3 importable under every protobuf.

etcd3's generated code is refused by protobuf 4 and later, and it registers file names without a folder (``rpc.proto``)
in the pool that all packages share, where it meets others of the same name. So its message classes are rebuilt from
the serialized descriptors that the installed package carries, in a pool of their own, and published under the names
that etcd3 imports. Nothing of the installed package is run for that, and nothing is changed on the disk. The package
may lie in a folder, in a zip or in a frozen program, with its source or without.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, cast

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
        path: Sequence[str] | None = None
        for package in ("etcd3", _PACKAGE):
            found = _find(package, path)
            if found is None or not found.submodule_search_locations:
                raise ImportError("etcd3 is not installed, whose messages are used", name="etcd3")
            path = found.submodule_search_locations
        pool = _filled_pool(path)
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
        found = _find(fullname, path)
        if found is None:
            return None
        return ModuleSpec(fullname, cast("Any", _Loader(path)), origin=found.origin)


class _Loader:
    def __init__(self, path: Sequence[str] | None) -> None:
        self._path = path

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        del spec
        return None

    def exec_module(self, module: ModuleType) -> None:
        pool = _filled_pool(self._path)
        _publish(module, pool.FindFileByName(_NAMES[module.__name__]), pool)


def _find(fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Find a module as Python does, without the finder of this module."""
    for finder in sys.meta_path:
        if not isinstance(finder, _Finder) and (found := finder.find_spec(fullname, path)) is not None:
            return found
    return None


def _filled_pool(path: Sequence[str] | None) -> Any:
    global _pool  # noqa: PLW0603 - descriptors of one pool know each other, so there is one for all three modules
    if _pool is None:
        from google.protobuf.descriptor_pool import DescriptorPool

        pool = DescriptorPool()
        for name in _FILES:
            pool.AddSerializedFile(_serialized(name, path))
        _pool = pool
    return _pool


def _serialized(name: str, path: Sequence[str] | None) -> bytes:
    """Return the serialized descriptor of one of etcd3's files.

    Raises:
        ImportError: It is not there.
    """
    module = f"{_PACKAGE}.{name}_pb2"
    found = _find(module, path)
    loader: Any = None if found is None else found.loader
    if loader is not None:
        source = loader.get_source(module)
        value = _in_source(source) if source is not None else _in_code(loader.get_code(module), f"{name}.proto")
        if value is not None:
            return value
    raise ImportError(f"{module} has no serialized descriptor: is this etcd3 0.12?", name=module)


def _in_source(generated: str) -> bytes | None:
    """Find the descriptor as the generated code spells it: ``serialized_pb=_b('...')``, in Latin-1."""
    import ast
    import re

    # One literal out of many thousand lines: to parse them all takes longer than all else here.
    found = re.search(r"""\bserialized_pb=(?:_b\()?(b?(['"])(?:\\.|(?!\2).)*\2)""", generated)
    if found is None:
        return None
    value = ast.literal_eval(found[1])
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def _in_code(code: CodeType, file: str) -> bytes | None:
    """Find the descriptor among the constants of the compiled code. It begins with the name of its file."""
    beginning = b"\n" + bytes([len(file)]) + file.encode()
    for constant in code.co_consts:
        value = constant.encode("latin-1", "replace") if isinstance(constant, str) else constant
        if isinstance(value, bytes) and value.startswith(beginning):
            return value
    return None


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
