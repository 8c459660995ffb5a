"""What the backends of Qt have in common: the object ``BACKEND`` for some bindings of one major version of Qt.

Importing this module imports no toolkit.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import sys
import threading
import warnings
from dataclasses import dataclass
from typing import Any

from asyncio_guest._hosts import Host

HOSTS = {"PyQt5": "qt5", "PySide2": "qt5", "PyQt6": "pyqt6", "PySide6": "pyside6"}
"""The host of each Python binding."""

_own: list[Any] = []
"""The application that was made for a host given by name: Qt has one, and it lives as long as the process."""


def loaded(binding: str) -> bool:
    """Has the process imported this binding's QtCore?"""
    return f"{binding}.QtCore" in sys.modules


def has_library(major: int) -> bool:
    """Is QtCore of this major version mapped already?  Loads nothing."""
    try:
        ctypes.CDLL(f"libQt{major}Core.so.{major}", mode=os.RTLD_LAZY | os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


def known_fault(binding: str, python: tuple[int, int] = sys.version_info[:2]) -> str | None:
    """What a user of this binding, which is imported, has to know before the process dies of it."""
    version = tuple(getattr(sys.modules.get(binding), "__version_info__", ()))
    if binding == "PySide6" and version[:2] == (6, 12) and python < (3, 12):
        return (
            "PySide6 6.12 drops a reference to None in each call that returns nothing on Python before 3.12, and the "
            "process dies after some thousand calls: pip install 'PySide6<6.12'"
        )
    return None


def repair_executor(binding: str, python: tuple[int, int] = sys.version_info[:2]) -> None:
    """Put asyncio's executor where 3.15 imports it lazily.

    PySide6 (seen in 6.11.2) replaces ``__import__`` by a function under which a lazy import answers with itself, so that
    ``asyncio.to_thread`` raises TypeError: 'lazy_import' object is not callable. What is put there is what any use
    before that import would have left.
    """
    if binding == "PySide6" and python >= (3, 15):
        package: Any = importlib.import_module("concurrent.futures")
        if not isinstance(package.ThreadPoolExecutor, type):
            package.ThreadPoolExecutor = importlib.import_module("concurrent.futures.thread").ThreadPoolExecutor


def make_application(binding: str) -> Any:
    """The application of a host given by name, by this binding.  Main thread."""
    # A QApplication without a display ends the process: then it is one without windows.
    kind = ("QtCore", "QCoreApplication")
    if any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")):
        if importlib.util.find_spec(f"{binding}.QtWidgets"):
            kind = ("QtWidgets", "QApplication")
    app = getattr(importlib.import_module(f"{binding}.{kind[0]}"), kind[1])(sys.argv[:1] or ["python"])
    _own.append(app)
    return app


@dataclass(frozen=True)
class QtBackend:
    """``BACKEND`` of a package: Qt `major` by one of `bindings`."""

    name: str
    major: int
    bindings: tuple[str, ...]
    install: str
    """How to get a binding and the headers of QtCore."""
    strategies: tuple[str, ...] = ("watch", "waiter")

    @property
    def _extension(self) -> str:
        return f"{__package__}._qt{self.major}"

    def missing(self) -> str | None:
        """None, or what to install.  Loads neither Qt nor the extension, which would load one."""
        if not any(importlib.util.find_spec(binding) for binding in self.bindings):
            return f"this Python has no {' and no '.join(self.bindings)}; {self.install}"
        if importlib.util.find_spec(self._extension) is None:
            return f"the backend was not built; {self.install}, and build again"
        return None

    def accepts(self, obj: object) -> bool:
        """A QObject: an application, a window, a thread's object."""
        return any(isinstance(obj, sys.modules[f"{b}.QtCore"].QObject) for b in self.bindings if loaded(b))

    def open(self, obj: object | None) -> Host:
        """The event loop of the calling thread, which `obj` must live in; with None the application's, which is made
        where there is none yet, when the guest is attached: a start that is refused before leaves none behind.

        Raises TypeError for another object, and RuntimeError on the wrong thread, without an application, or
        when the process has loaded another Qt.
        """
        if obj is not None and not self.accepts(obj):
            raise TypeError(f"not an object of {' or '.join(self.bindings)}: {obj!r}")
        binding = self._binding(obj)
        core = sys.modules[f"{binding}.QtCore"]
        if obj is not None:
            # Not by identity: bindings wrap a thread anew each time.
            if obj.thread() != core.QThread.currentThread():  # type: ignore[attr-defined]
                raise RuntimeError("this Qt object lives in another thread: start the guest on that thread")
        app = core.QCoreApplication.instance()
        if app is None and threading.current_thread() is not threading.main_thread():
            raise RuntimeError("there is no QApplication; make it on the main thread first")
        if not has_library(self.major):
            raise RuntimeError(
                f"{binding} does not use a shared libQt{self.major}Core.so.{self.major}: use a binding that is linked "
                f"to Qt {self.major}'s shared libraries"
            )
        fault = known_fault(binding)
        if fault is not None:
            warnings.warn(fault, RuntimeWarning, stacklevel=2)
        repair_executor(binding)
        extension = importlib.import_module(self._extension)
        toolkit = app if app is not None else functools.partial(make_application, binding)
        return Host(extension.ops, toolkit, {"binding": binding, "qt": extension.qt_version})

    def _binding(self, obj: object | None) -> str:
        """The binding of `obj`, or the one that is imported; none is: the first that can be."""
        for binding in self.bindings:
            if loaded(binding) and (obj is None or isinstance(obj, sys.modules[f"{binding}.QtCore"].QObject)):
                return binding
        for binding, host in HOSTS.items():
            if loaded(binding):
                raise RuntimeError(
                    f"this process has imported {binding}, and two Qt in one process do not work together: a guest "
                    f"in it has host={host!r} or an object of {binding}"
                )
        if has_library(5) or has_library(6):
            raise RuntimeError("this process has loaded a Qt without a Python binding: import your Qt binding first")
        for binding in self.bindings:
            if importlib.util.find_spec(binding):
                importlib.import_module(f"{binding}.QtCore")
                return binding
        raise RuntimeError(str(self.missing()))
