"""What the hosts of Qt have in common: the C++ side for both major versions, the Python face, the driver.

A host (``qt5``, ``pyside6``, ``pyqt6``) is a Python binding; its folder has what is its own.
"""
