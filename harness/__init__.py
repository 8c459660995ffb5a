"""Who runs the cases: contenders, isolation, verdicts, results and the command line.

In the source tree this is the package ``harness``; in an installed wheel it is
``asyncio_guest._conformance.harness``.
"""
