"""What the sanitizer builds leave out (ci/tsan.supp) hides nothing of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SUPPRESSIONS = Path(__file__).resolve().parents[2] / "ci" / "tsan.supp"
OURS = """
#include <pthread.h>

int ag_counter;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void
ag_count(int locked)
{
    if (locked) {
        pthread_mutex_lock(&mutex);
    }
    ag_counter++;
    if (locked) {
        pthread_mutex_unlock(&mutex);
    }
}
"""
THEIRS = """
#include <pthread.h>

void ag_count(int locked);
static int locked;

/* Not instrumented, as CPython is not: a function, a method of a type, the start of a thread. */
__attribute__((noinline)) static void *
PyObject_Vectorcall(void *arg)
{
    ag_count(locked);
    return arg;
}

__attribute__((noinline)) static void *
_PyEval_EvalFrameDefault(void *arg)
{
    ag_count(locked);
    return PyObject_Vectorcall(arg);
}

__attribute__((noinline)) static int
PyThread_start_new_thread(pthread_t *thread)
{
    return pthread_create(thread, NULL, _PyEval_EvalFrameDefault, NULL);
}

int
main(int argc, char **argv)
{
    pthread_t threads[2];

    (void)argv;
    locked = argc > 1;
    if (PyThread_start_new_thread(&threads[0]) != 0 || PyThread_start_new_thread(&threads[1]) != 0) {
        return 1;
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    return 0;
}
"""

pytestmark = [
    pytest.mark.skipif(not SUPPRESSIONS.exists(), reason="not in the source tree"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose instrumented half has a race, seen only through frames that are called like CPython's."""
    folder = tmp_path_factory.mktemp("seeded")
    for name, text, flags in (("ours", OURS, ["-fsanitize=thread"]), ("theirs", THEIRS, [])):
        (folder / f"{name}.c").write_text(text)
        built = compile_c("-c", "-g", "-O1", "-fno-optimize-sibling-calls", *flags, folder / f"{name}.c", "-o", folder / f"{name}.o")
        assert built.returncode == 0, built.stderr
    linked = compile_c("-fsanitize=thread", folder / "ours.o", folder / "theirs.o", "-o", folder / "seeded")
    if linked.returncode and "tsan" in linked.stderr:
        pytest.skip("this compiler has no ThreadSanitizer")
    assert linked.returncode == 0, linked.stderr
    return folder / "seeded"


def compile_c(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["cc", *args], capture_output=True, text=True, timeout=60, env=bare(), check=False)


def bare(**extra: str) -> dict[str, str]:
    """The environment without what a sanitizer's build has in it."""
    return {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "TSAN_OPTIONS")} | extra


def run(program: Path, *args: str) -> subprocess.CompletedProcess[str]:
    options = f"suppressions={SUPPRESSIONS}:halt_on_error=1"
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=60, env=bare(TSAN_OPTIONS=options), check=False)


def test_a_race_below_a_frame_of_cpython_is_reported(seeded: Path) -> None:
    """A suppression of CPython's functions matched any frame, and the one that had started the thread: none of our own
    races on threads of Python's was ever reported."""
    done = run(seeded)
    assert done.returncode == 66, (done.returncode, done.stderr)
    assert "data race" in done.stderr and "in ag_count" in done.stderr
    assert "_PyEval_EvalFrameDefault" in done.stderr or "PyObject_Vectorcall" in done.stderr
    assert "PyThread_start_new_thread" in done.stderr


def test_without_the_race_nothing_is_reported(seeded: Path) -> None:
    done = run(seeded, "locked")
    assert (done.returncode, done.stderr) == (0, "")
