"""The gate: is this patch to ``Lib/asyncio`` good enough?

The patch goes into a copy of the chosen CPython's asyncio package, never into the package itself; then base and head
run CPython's own test_asyncio and the conformance cases, and what head does worse than base is a finding.  `verb` has
the command line, `patch` reads and applies diffs, `overlay` makes the two interpreters, `proof` shows that the patched
lines ran, `stages` compares, `verdict` judges and reports.

Nothing is imported here: `proof_cell` starts tracing before anything has imported asyncio.
"""
