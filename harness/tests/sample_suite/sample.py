"""What can happen to a test of a suite; started by test_suite.py only."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import time
import unittest


class Sample(unittest.TestCase):
    def test_a_pass(self) -> None:
        asyncio.run(asyncio.sleep(0))

    def test_b_hangs(self) -> None:
        time.sleep(1000)

    def test_c_between(self) -> None:
        loop = asyncio.new_event_loop()
        loop.set_debug(True)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    def test_d_crashes(self) -> None:
        ctypes.string_at(0)

    def test_e_fails(self) -> None:
        self.assertEqual(1, 2)

    def test_f_no_loop(self) -> None:
        pass

    @unittest.skip("as it is")
    def test_g_skipped(self) -> None:
        pass

    def test_h_subtests(self) -> None:
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 1)

    def test_i_ctrl_c(self) -> None:
        with self.assertRaises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
