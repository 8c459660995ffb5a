"""The conformance harness and its cases, as installed with the package."""
