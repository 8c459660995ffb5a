"""Fingerprints (`_frame.fingerprint`) of the asyncio code that the engine ``fast`` stands for.

An entry is added after the differences to the entry before have been read and the engine still does
exactly what the code does.  `_frame.stood_for` names the functions.
"""

from __future__ import annotations

KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "3.11": {
        "_run_once": ("c986913f1b9db58a",),
        "_process_events": ("63515563756ae9eb",),
        "_add_callback": ("67094a59636ea3e4",),
        "time": ("bc2932a673fa4b40",),
        "call_soon": ("a97864b011de6071",),
        "_call_soon": ("b087d11992a63b54",),
        "_check_closed": ("b948513d393de0ef",),
        "get_debug": ("d272995d7dbe61fe",),
        "Handle.__init__": ("5576ffc74faacf1a",),
        "Handle._run": ("ba6160e26f24e424",),
        "TimerHandle._run": ("ba6160e26f24e424",),
        "EpollSelector.select": ("eb80c161e4aa13ad",),
    },
    "3.12": {
        "_run_once": ("a5c2bfa5b182b3f1",),
        "_process_events": ("a38057c6723cadf8",),
        "_add_callback": ("5eb629acca6f8d1b",),
        "time": ("ee4b65c2d841e9c7",),
        "call_soon": ("702eacbe9fbaedfa",),
        "_call_soon": ("3f55b7bd1b8cc379",),
        "_check_closed": ("6a08f3a6d890cb7d",),
        "get_debug": ("30fd7102194aec57",),
        "Handle.__init__": ("10a064a625024a51",),
        "Handle._run": ("6e95e21f8788713a",),
        "TimerHandle._run": ("6e95e21f8788713a",),
        "EpollSelector.select": ("eb8d31bd10cd2d82",),
    },
    "3.13": {
        "_run_once": ("92cabb62478fd4e0",),
        "_process_events": ("15a2dde0aeeb4301",),
        "_add_callback": ("640f0f58765c058e",),
        "time": ("73b7af336e414d27",),
        "call_soon": ("8575a9d98edc0945",),
        "_call_soon": ("8ebabc68435e46b3",),
        "_check_closed": ("e12d50b90866aa77",),
        "get_debug": ("ad1927edeb60bd39",),
        "Handle.__init__": ("a8c8fd369e90b1f3",),
        "Handle._run": ("b9b49e1e5c816105",),
        "TimerHandle._run": ("b9b49e1e5c816105",),
        "EpollSelector.select": ("675cde6c94f2a952",),
    },
}
